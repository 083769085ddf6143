"""Find the claim to blame for a wrong answer, where it came from, and write the finding."""

from collections.abc import Sequence

from coa.causes import Cause, Finding
from coa.trajectory import Mode, StepKind
from curate.diagnosis.case import NAMELESS, Case, Place
from curate.diagnosis.claims import Basis, Claim, Utterance, basis_of, gives_up, is_in
from curate.diagnosis.gold import GoldFact
from curate.diagnosis.queries import Query, holds_most

_MAX_QUOTE = 200


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
