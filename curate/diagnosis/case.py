"""A wrong trajectory as the rules on facts see it: what was said, what was to be found, and what was shown of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coa.trajectory import Mode, Step, StepKind
from curate.diagnosis.claims import (
    SENTENCE_END,
    Claim,
    Utterance,
    is_in,
    names_and_numbers,
    padded,
    says_not_found,
)
from curate.diagnosis.gold import Gold, GoldFact, bare_title
from curate.diagnosis.queries import NAMED_SHARE, content_words, holds_most

NAMELESS = ""
"""Stands for the passages of an observation whose tool gave them no ids."""
_MIN_ABOUT = 2
"""Content words that a line shares, beside the item, with question and query when it speaks of them; one more where the
item is a single word, which may stand anywhere."""


class Place(NamedTuple):
    """Where the wrong fact was needed, and the claim made of it."""

    start: int
    """Index among what was said from which on it was needed."""
    end: int
    """Index of the claim, or where the thinking ends."""
    claim: Claim
    fact: GoldFact
    is_sure: bool = True
    """Whether it is known which passages state the fact."""


@dataclass(frozen=True, slots=True)
class Case:
    """A wrong trajectory, read."""

    mode: Mode
    question: str
    steps: Sequence[Step]
    said: tuple[Utterance, ...]
    prediction: str
    """Normalised."""
    gold: Gold
    corpus_ids: frozenset[str]
    """Of the passages under all gold titles of the run."""
    asking: frozenset[str]
    """Words by which questions ask for things."""

    @property
    def claims(self) -> list[tuple[int, Claim]]:
        """The claims with their index among what was said."""
        return [(i, said.claim) for i, said in enumerate(self.said) if said.claim]

    @property
    def has_own_ids(self) -> bool:
        """Whether the passages that were shown are named by the ids of our corpus."""
        shown = (name for step in self.steps for name in step.passages)
        return any(name in self.corpus_ids for name in shown)

    def first_mention(self, items: Sequence[str]) -> int | None:
        """Index of the first thing that the policy itself said that names one of the items."""
        mentions = (
            i
            for i, said in enumerate(self.said)
            if said.kind is not StepKind.OBSERVATION and _names(said, items)
        )
        return next(mentions, None)

    def observations(self, end: int | None = None) -> list[Utterance]:
        """What was shown, up to the index `end` of what was said."""
        return [said for said in self.said[:end] if said.kind is StepKind.OBSERVATION]

    def shown(self, place: Place) -> tuple[str, ...] | None:
        """Ids of passages shown that state the place's fact; empty when none was, None when that cannot be told."""
        if not place.fact.items and not place.fact.passages:
            return None
        observations = self.observations(place.end)
        if not place.fact.passages or not self.has_own_ids:
            told = (name for said in observations for name in self._told_by(said, place.fact))
            return tuple(dict.fromkeys(told)) if place.fact.items else None
        ids = {passage.id for passage in place.fact.passages}
        seen = dict.fromkeys(
            name for said in observations for name in self.steps[said.step].passages if name in ids
        )
        if place.is_sure or not seen:
            return tuple(seen)
        return (
            ()
            if any(says_not_found(said.text) for said in self.said[place.start : place.end])
            else None
        )

    def _told_by(self, said: Utterance, fact: GoldFact) -> Iterator[str]:
        """The passages of an observation from elsewhere that state a fact: those under its titles, or lines that do.

        A passage under the title may be another part of the article than ours: it states the fact where its words do.
        """
        titles = {passage.title for passage in fact.passages}
        names = self.steps[said.step].passages
        titled = [name for name in names if bare_title(name) in titles]
        if titled and self._holds(said.norm, fact):
            yield from titled
        elif any(self._speaks_of(line, said, fact) for line in said.text.splitlines()):
            yield from names or (NAMELESS,)

    def _holds(self, norm: str, fact: GoldFact) -> bool:
        return any(
            is_in(item, norm) or holds_most(norm, item, self.question) for item in fact.items
        )

    def _speaks_of(self, line: str, said: Utterance, fact: GoldFact) -> bool:
        """Whether a line mentions the fact's item where it speaks of the entity, or of what was asked.

        It speaks of what was asked when it names somebody or something that the question or the query names, and shares
        further words with them. An item of a single word may stand anywhere by accident, a number above all: it counts
        where the sentence around it does.
        """
        norm = padded(line)
        if not self._holds(norm, fact):
            return False
        if any(is_in(passage.title, norm) for passage in fact.passages):
            return True
        query = self.steps[said.step - 1].argument or "" if said.step else ""
        items = content_words(" ".join(fact.items))
        asked = content_words(f"{self.question} {query}") - items
        if not self._names_subject(norm, query, items):
            return False
        is_word = all(" " not in item for item in fact.items)
        if len(content_words(norm) & asked) < _MIN_ABOUT + is_word:
            return False
        sentences = [padded(sentence) for sentence in SENTENCE_END.split(line)]
        around = [sentence for sentence in sentences if self._holds(sentence, fact)]
        return not is_word or any(
            len(content_words(sentence) & asked) >= _MIN_ABOUT for sentence in around
        )

    def _names_subject(self, norm: str, query: str, items: frozenset[str]) -> bool:
        """Whether a text has the telling words of a name in the question or the query; true where these name nothing.

        Words by which questions ask (`street`, `film`) tell a name only together with most of its others.
        """
        found = names_and_numbers(self.question) + names_and_numbers(query)
        named = [content_words(name) - items for name in found if not name.isdigit()]
        wanted = [words for words in named if words]
        own = content_words(norm)
        for words in wanted:
            if words & own - self.asking or len(words & own) >= NAMED_SHARE * len(words):
                return True
        return not wanted


def _names(said: Utterance, items: Iterable[str]) -> bool:
    return any(is_in(item, said.norm) for item in items)
