"""Describe a wrong trajectory for the rules on facts, and write what they find.

A case holds what was said, what was to be found, and what was shown of it. Its claims are blamed:
where one came from, and what it replaces, is decided here for all rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coa.records.causes import Cause, Finding
from coa.records.trajectory import Mode, Step, StepKind
from curate.diagnosis.claims import (
    SENTENCE_END,
    Basis,
    Claim,
    Utterance,
    basis_of,
    gives_up,
    holds_any,
    is_in,
    names_and_numbers,
    padded,
    says_not_found,
)
from curate.diagnosis.gold import Gold, GoldFact, bare_title
from curate.diagnosis.queries import NAMED_SHARE, Query, content_words, holds_most

_MAX_QUOTE = 200
NAMELESS = ""
"""The id given to the passages of an observation whose tool gave them no ids."""
_MIN_ABOUT = 2
"""A line speaks of the question and the query when it shares so many content words with them,
besides the item. It must share one more where the item is a single word, which may occur anywhere
by accident."""


class Place(NamedTuple):
    """The place where a fact was needed, and the claim made about it."""

    start: int
    """Index among what was said from which on the fact was needed."""
    end: int
    """Index of the claim, or where the thinking ends."""
    claim: Claim
    fact: GoldFact
    is_sure: bool = True
    """Whether it is known which passages state the fact."""


@dataclass(frozen=True, slots=True)
class Case:
    """A wrong trajectory, with its thoughts read as claims."""

    mode: Mode
    question: str
    steps: Sequence[Step]
    said: tuple[Utterance, ...]
    prediction: str
    """The answer given, normalised."""
    gold: Gold
    corpus_ids: frozenset[str]
    """Ids of the passages under all gold titles of the run."""
    asking: frozenset[str]
    """Words by which questions ask for things."""

    @property
    def claims(self) -> list[tuple[int, Claim]]:
        """List the claims with their index among what was said."""
        return self.claims_from(0)

    @property
    def has_own_ids(self) -> bool:
        """Tell whether the passages that were shown have the ids of our corpus."""
        return any(not self.corpus_ids.isdisjoint(step.passages) for step in self.steps)

    def claims_from(self, start: int) -> list[tuple[int, Claim]]:
        """List the claims from the index `start` on, each with its index."""
        found: list[tuple[int, Claim]] = []
        for i, said in enumerate(self.said[start:], start):
            if said.claim:
                found.append((i, said.claim))
        return found

    def first_mention(self, items: Sequence[str]) -> int | None:
        """Find the index of the first thing said by the policy itself that names an item."""
        for i, said in enumerate(self.said):
            if said.kind is not StepKind.OBSERVATION and holds_any(said.norm, items):
                return i
        return None

    def observations(self, end: int | None = None) -> list[Utterance]:
        """List what was shown, up to the index `end` of what was said."""
        return [said for said in self.said[:end] if said.kind is StepKind.OBSERVATION]

    def shown(self, place: Place) -> tuple[str, ...] | None:
        """List the passages, by id, that were shown before the place's end and state its fact.

        Returns:
            No id when no such passage was shown; None when that cannot be decided.
        """
        fact = place.fact
        observations = self.observations(place.end)
        seen: dict[str, None] = {}  # a set that keeps the order
        if not fact.passages or not self.has_own_ids:
            if not fact.items:
                return None
            for said in observations:
                seen.update(dict.fromkeys(self._stating(said, fact)))
            return tuple(seen)
        ids = {passage.id for passage in fact.passages}
        for said in observations:
            for name in self.steps[said.step].passages:
                if name in ids:
                    seen[name] = None
        if place.is_sure or not seen:
            return tuple(seen)
        between = self.said[place.start : place.end]
        says_so = any(says_not_found(said.text) for said in between)
        return () if says_so else None

    def _stating(self, said: Utterance, fact: GoldFact) -> Sequence[str]:
        """List the passages of an observation that state a fact.

        These are the ones under the fact's titles, or all where a line states it. A passage under
        the title may be another part of the article than ours: it states the fact where its words
        do.
        """
        titles = {passage.title for passage in fact.passages}
        names = self.steps[said.step].passages
        titled = [name for name in names if bare_title(name) in titles]
        if titled and self._holds(said.norm, fact):
            return titled
        for line in said.text.splitlines():
            if self._speaks_of(line, said, fact):
                return names or (NAMELESS,)
        return ()

    def _holds(self, norm: str, fact: GoldFact) -> bool:
        """Tell whether a normalised text holds an item of the fact, or most of its words."""
        for item in fact.items:
            if is_in(item, norm) or holds_most(norm, item, self.question):
                return True
        return False

    def _speaks_of(self, line: str, said: Utterance, fact: GoldFact) -> bool:
        """Tell whether a line mentions the fact's item and speaks of the entity or what was asked.

        It speaks of what was asked when it names somebody or something that the question or the
        query names, and shares further words with them. An item of a single word may occur anywhere
        by accident, a number above all: it counts where the sentence around it does.
        """
        norm = padded(line)
        if not self._holds(norm, fact):
            return False
        titles = [passage.title for passage in fact.passages]
        if holds_any(norm, titles):
            return True
        query = ""
        if said.step:
            query = self.steps[said.step - 1].argument or ""
        items = content_words(" ".join(fact.items))
        asked = content_words(f"{self.question} {query}") - items
        if not self._names_subject(norm, query, items):
            return False
        is_word = all(" " not in item for item in fact.items)
        if len(content_words(norm) & asked) < _MIN_ABOUT + is_word:
            return False
        if not is_word:
            return True
        for sentence in SENTENCE_END.split(line):
            around = padded(sentence)
            if self._holds(around, fact) and len(content_words(around) & asked) >= _MIN_ABOUT:
                return True
        return False

    def _names_subject(self, norm: str, query: str, items: frozenset[str]) -> bool:
        """Tell whether a text has the telling words of a name in the question or the query.

        Where these name nothing, every text has. Words by which questions ask (`street`, `film`)
        count only together with most of the other words of the name.
        """
        found = names_and_numbers(self.question) + names_and_numbers(query)
        own = content_words(norm)
        names_nothing = True
        for name in found:
            wanted = content_words(name) - items
            if name.isdigit() or not wanted:
                continue
            names_nothing = False
            shared = wanted & own
            if shared - self.asking or len(shared) >= NAMED_SHARE * len(wanted):
                return True
        return names_nothing


def claim_of_answer(case: Case, start: int) -> tuple[int, Claim]:
    """Find the first claim that states the answer, and its index.

    Without one the first thought that mentions the answer is taken for the claim, else the answer
    itself.
    """
    for i, claim in case.claims_from(start):
        if case.prediction in claim.values:
            return i, claim
    for i, said in enumerate(case.said[start:], start):
        if said.kind is StepKind.THOUGHT and is_in(case.prediction, said.norm):
            basis = basis_of(said.text) or Basis.RECALLED
            if was_shown(case, i):
                basis = Basis.READ
            return i, Claim(said.step, said.text.strip(), (case.prediction,), basis)
    return len(case.said), answer_as_claim(case)


def answer_as_claim(case: Case) -> Claim:
    """Take the answer itself for a claim, where no thought states it before."""
    if was_shown(case, len(case.said)):
        basis = Basis.READ
    elif gives_up(case.prediction):
        basis = Basis.GUESSED
    else:
        basis = Basis.RECALLED
    last_step = max(len(case.steps) - 1, 0)
    return Claim(last_step, case.prediction, (case.prediction,), basis)


def whole_place(case: Case, fact: GoldFact) -> Place:
    """Take the whole trajectory as the place of a fact, and the answer as the claim."""
    return Place(start=0, end=len(case.said), claim=answer_as_claim(case), fact=fact)


def was_shown(case: Case, end: int) -> bool:
    """Tell whether an observation before the index `end` states the answer."""
    return any(states(said, case.prediction, case.question) for said in case.observations(end))


def states(said: Utterance, value: str, question: str) -> bool:
    """Tell whether an observation holds a value, or most of its words."""
    return is_in(value, said.norm) or holds_most(said.norm, value, question)


def source_of(case: Case, claim: Claim, observations: Sequence[Utterance]) -> tuple[str, ...]:
    """Find the last observation that holds a claimed value, and return its passages' ids."""
    for said in reversed(observations):
        for value in claim.values:
            if states(said, value, case.question):
                return case.steps[said.step].passages or (NAMELESS,)
    return ()


def queries_in(said: Sequence[Utterance]) -> list[Query]:
    """List the searches among what was said."""
    return [Query(each.step, each.text) for each in said if each.kind is StepKind.ACTION]


def finding_on(
    cause: Cause, place: Place, passages: tuple[str, ...] = (), *, needs_titles: bool = True
) -> Finding:
    """Quote the claim as evidence, and the fact that was needed instead where it has a name."""
    evidence = quote(place.claim.sentence)
    if place.fact.name:
        evidence += f" instead of {quote(place.fact.name)}"
    return Finding(
        cause=cause,
        step=place.claim.step,
        evidence=evidence,
        passages=tuple(name for name in passages if name != NAMELESS),
        needs_gold_titles=needs_titles,
    )


def memory_cause(claim: Claim) -> Cause:
    """Tell how a wrong claim that was not read came about."""
    return Cause.KNOWLEDGE_GAP if claim.basis is Basis.GUESSED else Cause.FALSE_RECALL


def causes_unsearched(mode: Mode, claim: Claim) -> list[Cause]:
    """List the causes of a wrong claim for which no search was made."""
    if mode is Mode.COA:
        return [Cause.NEVER_SEARCHED, memory_cause(claim)]
    return [memory_cause(claim)]


def quote(text: str) -> str:
    """Quote a text with single spaces, shortened where it is long."""
    text = " ".join(text.split())
    if len(text) > _MAX_QUOTE:
        text = text[:_MAX_QUOTE] + "…"
    return f"“{text}”"
