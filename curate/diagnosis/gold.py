"""A question's gold titles and the corpus to what a policy had to find, and where it stands.

A fact is an item (the next gold title on the way, at last the answer) and the passages that state it: those under a
gold title that mention the item. HotpotQA's paragraphs (one a title) fit as well as many short passages a title.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from coa.grading import CLOSED_ANSWERS
from coa.question import Question
from coa.search import Passage
from curate.diagnosis.claims import cached_normalise, is_in, padded


class GoldPassage(NamedTuple):
    """One passage under a gold title."""

    id: str
    title: str
    """Normalised, without what stands in brackets at its end."""
    norm: str
    """Title and text, normalised and padded."""


@dataclass(frozen=True, slots=True)
class GoldFact:
    """One thing that the policy had to find."""

    items: tuple[str, ...]
    """Any of these, normalised, names it: a gold title, or the accepted answers; empty where only comparing needs the
    fact and nothing says what it is."""
    name: str
    """The item as its source writes it, for people."""
    passages: tuple[GoldPassage, ...]
    """That state it; empty without a corpus or where it lacks them."""


@dataclass(frozen=True, slots=True)
class Gold:
    """What is known of a question's way to its answer."""

    facts: tuple[GoldFact, ...]
    """To be found one after the other; titles that the question names need not be found."""
    compares: tuple[str, ...]
    """Gold titles, normalised, whose facts only comparing needs: no item says what they are. Empty where the answer is
    open."""
    passages: tuple[GoldPassage, ...]
    """All under the gold titles."""
    is_known: bool
    """Whether the source names gold titles."""
    has_corpus: bool
    """Whether the corpus holds passages under every gold title."""

    def passages_under(self, title: str) -> tuple[GoldPassage, ...]:
        """The passages under one gold title."""
        return tuple(passage for passage in self.passages if passage.title == title)


@dataclass(frozen=True, slots=True)
class Corpus:
    """The passages of a corpus that stand under gold titles."""

    by_title: Mapping[str, tuple[GoldPassage, ...]] = field(default_factory=dict)
    """By the key of their title."""
    ids: frozenset[str] = frozenset()
    """Of all of them."""


def title_key(title: str) -> str:
    """How titles of questions and of passages are matched."""
    return title.strip().casefold()


def gold_passages(passages: Iterable[Passage], titles: Iterable[str]) -> Corpus:
    """The passages under any of `titles`, in one pass; nothing else of the corpus is kept."""
    wanted: dict[str, list[GoldPassage]] = {title_key(title): [] for title in titles}
    for passage in passages:
        if (found := wanted.get(title_key(passage.title))) is not None:
            found.append(_gold_passage(passage))
    by_title = {key: tuple(found) for key, found in wanted.items()}
    return Corpus(
        by_title, frozenset(passage.id for found in by_title.values() for passage in found)
    )


def _gold_passage(passage: Passage) -> GoldPassage:
    return GoldPassage(
        passage.id, bare_title(passage.title), padded(f"{passage.title}. {passage.text}")
    )


def bare_title(title: str) -> str:
    """A title as texts speak of it: normalised, without what sets it apart in brackets (`Titanic (1997 film)`)."""
    return cached_normalise(title.partition(" (")[0]) or cached_normalise(title)


def gold_of(question: Question, corpus: Corpus) -> Gold:
    """What the policy had to find for a question, in the order of its gold titles.

    A title that the question does not name is a fact where a passage under another title leads to it. Without a corpus
    every such title counts.
    """
    asked = padded(question.question)
    titles = {bare_title(title): title for title in question.gold_titles}
    passages = tuple(
        p for title in question.gold_titles for p in corpus.by_title.get(title_key(title), ())
    )
    answers = tuple(dict.fromkeys(filter(None, map(cached_normalise, question.gold_answers))))
    is_open = bool(answers) and not any(
        answer in CLOSED_ANSWERS or is_in(answer, asked) for answer in answers
    )
    hidden = {bare: title for bare, title in titles.items() if not is_in(bare, asked)}
    bridges = {
        bare: title for bare, title in hidden.items() if not passages or _leads_to(bare, passages)
    }
    items: dict[tuple[str, ...], str] = {
        (bare,): title for bare, title in bridges.items() if not is_open or bare not in answers
    }
    if is_open:
        items[answers] = question.gold_answers[0]
    return Gold(
        facts=tuple(GoldFact(item, name, stating(item, passages)) for item, name in items.items()),
        compares=() if is_open else tuple(titles),
        passages=passages,
        is_known=bool(titles),
        has_corpus=bool(titles)
        and all(any(p.title == title for p in passages) for title in titles),
    )


def _leads_to(item: str, passages: Iterable[GoldPassage]) -> bool:
    return any(passage.title != item and is_in(item, passage.norm) for passage in passages)


def stating(items: tuple[str, ...], passages: tuple[GoldPassage, ...]) -> tuple[GoldPassage, ...]:
    """The passages that state an item: under another title and mentioning it; else those under its own title."""
    mentioning = tuple(
        p for p in passages if p.title not in items and any(is_in(item, p.norm) for item in items)
    )
    return mentioning or tuple(p for p in passages if p.title in items)
