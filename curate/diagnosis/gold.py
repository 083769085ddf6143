"""Collect what a policy had to find, and where it is found, from gold titles and the corpus.

A fact is an item (the next gold title on the way, at last the answer) and the passages that state
it: those under a gold title that mention the item. HotpotQA's paragraphs (one for each title) fit
as well as many short passages for each title.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from coa.questions.gold_titles import title_key
from coa.records.grading import CLOSED_ANSWERS
from coa.records.question import Question
from coa.search import Passage
from curate.diagnosis.claims import cached_normalise, holds_any, is_in, padded


class GoldPassage(NamedTuple):
    """One passage under a gold title."""

    id: str
    title: str
    """Normalised, without what is in brackets at its end."""
    norm: str
    """Title and text, normalised and padded."""


@dataclass(frozen=True, slots=True)
class GoldFact:
    """One thing that the policy had to find."""

    items: tuple[str, ...]
    """Normalised names of the thing, each of which will do: a gold title, or the accepted answers.
    Empty where only comparing needs the fact and nothing says what it is."""
    name: str
    """The item as its source writes it, for people."""
    passages: tuple[GoldPassage, ...]
    """The passages that state the fact; empty without a corpus or where it lacks them."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The known facts on the way from a question to its answer."""

    facts: tuple[GoldFact, ...]
    """Facts to be found one after the other; titles that the question names need not be found."""
    compares: tuple[str, ...]
    """Gold titles, normalised, whose facts only comparing needs: no item says what they are. Empty
    where the answer is open."""
    passages: tuple[GoldPassage, ...]
    """All passages under the gold titles."""
    is_known: bool
    """Whether the source names gold titles."""
    has_corpus: bool
    """Whether the corpus holds passages under every gold title."""

    def passages_under(self, title: str) -> tuple[GoldPassage, ...]:
        """List the passages under one gold title."""
        return tuple(passage for passage in self.passages if passage.title == title)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The passages of a corpus that are under gold titles."""

    by_title: Mapping[str, tuple[GoldPassage, ...]] = field(default_factory=dict)
    """Passages by the key of their title."""
    ids: frozenset[str] = frozenset()
    """Ids of all passages."""


def gold_passages(passages: Iterable[Passage], titles: Iterable[str]) -> Corpus:
    """Collect the passages under any of `titles` in one pass; no other passage is kept."""
    wanted: dict[str, list[GoldPassage]] = {}
    for title in titles:
        wanted[title_key(title)] = []
    ids: set[str] = set()
    for passage in passages:
        found = wanted.get(title_key(passage.title))
        if found is not None:
            norm = padded(f"{passage.title}. {passage.text}")
            found.append(GoldPassage(passage.id, bare_title(passage.title), norm))
            ids.add(passage.id)
    by_title = {key: tuple(found) for key, found in wanted.items()}
    return Corpus(by_title, frozenset(ids))


def bare_title(title: str) -> str:
    """Write a title as texts do: normalised, without brackets as in `Titanic (1997 film)`."""
    name, _, _ = title.partition(" (")
    return cached_normalise(name) or cached_normalise(title)


def gold_of(question: Question, corpus: Corpus) -> Gold:
    """Collect what the policy had to find for a question, in the order of its gold titles."""
    titles: dict[str, str] = {}
    passages: list[GoldPassage] = []
    for title in question.gold_titles:
        titles[bare_title(title)] = title
        passages += corpus.by_title.get(title_key(title), ())
    titles_with_passages = {passage.title for passage in passages}
    normalised = dict.fromkeys(cached_normalise(answer) for answer in question.gold_answers)
    answers = tuple(answer for answer in normalised if answer)
    # The answer is open if it is neither yes or no nor something that the question names.
    asked = padded(question.question)
    is_open = bool(answers)
    for answer in answers:
        if answer in CLOSED_ANSWERS or is_in(answer, asked):
            is_open = False
    facts = _bridge_facts(question, titles, passages, answers if is_open else ())
    if is_open:
        facts.append(GoldFact(answers, question.gold_answers[0], stating(answers, passages)))
    return Gold(
        facts=tuple(facts),
        compares=() if is_open else tuple(titles),
        passages=tuple(passages),
        is_known=bool(titles),
        has_corpus=bool(titles) and titles_with_passages.issuperset(titles),
    )


def _bridge_facts(
    question: Question,
    titles: Mapping[str, str],
    passages: Sequence[GoldPassage],
    open_answers: Sequence[str],
) -> list[GoldFact]:
    """List the facts on the way to the answer.

    A title that the question does not name is a fact where a passage under another title leads to
    it. Without a corpus every such title counts.
    """
    asked = padded(question.question)
    facts: list[GoldFact] = []
    for bare, title in titles.items():
        if is_in(bare, asked) or bare in open_answers:
            continue
        others = [passage for passage in passages if passage.title != bare]
        if passages and not is_in_any(bare, others):
            continue
        facts.append(GoldFact((bare,), title, stating((bare,), passages)))
    return facts


def stating(items: tuple[str, ...], passages: Sequence[GoldPassage]) -> tuple[GoldPassage, ...]:
    """Choose the passages that state an item.

    They mention it under another title; without such passages those under its own title are chosen.
    """
    mentioning: list[GoldPassage] = []
    own: list[GoldPassage] = []
    for passage in passages:
        if passage.title in items:
            own.append(passage)
        elif holds_any(passage.norm, items):
            mentioning.append(passage)
    return tuple(mentioning or own)


def is_in_any(value: str, passages: Iterable[GoldPassage]) -> bool:
    """Tell whether any passage holds a normalised value as whole words."""
    return any(is_in(value, passage.norm) for passage in passages)
