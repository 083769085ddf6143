"""The first fact that a wrong trajectory got wrong, and how: recalled, guessed, misread or not found.

On the way to an open answer the first item that the policy never mentions is the missing one; the claim made in its
place is the wrong one. Where facts are compared, the first claim that no gold passage supports is the wrong one.
"""

from collections.abc import Sequence

from coa.causes import Cause, Finding
from coa.trajectory import Mode, StepKind
from curate.diagnosis.case import NAMELESS, Case, Place
from curate.diagnosis.claims import (
    Basis,
    Claim,
    Utterance,
    basis_of,
    gives_up,
    is_in,
    padded,
    says_not_found,
)
from curate.diagnosis.comparing import is_contradicted, places_by_title
from curate.diagnosis.gold import Gold, GoldFact
from curate.diagnosis.queries import Query, Wanted, content_words, holds_most, is_good

_MAX_QUOTE = 200


def diagnose_fact(case: Case) -> list[Finding]:
    """Why the answer is wrong although the form is right; the primary cause first, never empty."""
    if not case.gold.is_known:
        return _without_titles(case)
    start = 0
    for fact in case.gold.facts:
        mentioned = case.first_mention(fact.items)
        if mentioned is None and _is_passed_over(case, fact):
            continue
        if mentioned is None or _is_overruled(case, fact, mentioned):
            return _explain(case, _claim_in_place_of(case, fact, start))
        start = max(start, mentioned)
    if case.gold.compares:
        return _compare(case, start)
    return [_slip(case, start)]


def _is_passed_over(case: Case, fact: GoldFact) -> bool:
    """Whether a fact on the way was not needed in words: its article, or the answer's, was shown all the same."""
    last = case.gold.facts[-1]
    if fact is last or case.has_own_ids:
        return False
    own = GoldFact(last.items, "", tuple(p for p in case.gold.passages if p.title in fact.items))
    whole = (Place(0, len(case.said), _answer_as_claim(case), each) for each in (own, last))
    return any(case.shown(place) for place in whole)


def _without_titles(case: Case) -> list[Finding]:
    """What can be said where nothing is known of the way: only what holds whichever fact is the wrong one."""
    if ignored := _ignored_answer(case):
        return [ignored]
    bases = {claim.basis for _, claim in case.claims}
    if (
        any(said.kind is StepKind.ACTION for said in case.said)
        or len(bases) > 1
        or Basis.READ in bases
    ):
        return [Finding(Cause.UNKNOWN, evidence="the question has no gold titles")]
    if not case.claims and case.mode is Mode.COT:
        return [
            Finding(
                Cause.UNKNOWN,
                evidence="no thought states anything, and the question has no gold titles",
            )
        ]
    claim = case.claims[0][1] if case.claims else _answer_as_claim(case)
    return [
        Finding(cause, claim.step, _quote(claim.sentence))
        for cause in _unsearched(case.mode, claim)
    ]


def _ignored_answer(case: Case) -> Finding | None:
    """The accepted answer was shown where the question is spoken of, and the policy never took it up.

    One that names it went wrong later, and without titles nothing says where.
    """
    answer = case.gold.facts[-1] if case.gold.facts else None
    if answer is None or case.first_mention(answer.items) is not None:
        return None
    shown = case.shown(Place(0, len(case.said), _answer_as_claim(case), answer))
    place = _claim_in_place_of(case, answer, 0)
    return _finding(Cause.EVIDENCE_IGNORED, place, shown, needs_titles=False) if shown else None


def _is_overruled(case: Case, fact: GoldFact, mentioned: int) -> bool:
    """Whether the right answer is mentioned, as in a passage that is copied or in a list, and another one was read."""
    if fact is not case.gold.facts[-1] or case.gold.compares:
        return False
    if not case.has_own_ids and _was_shown(case, len(case.said)):
        return True
    later = (claim for i, claim in case.claims if i > mentioned)
    return any(claim.basis is Basis.READ and case.prediction in claim.values for claim in later)


def _slip(case: Case, index: int) -> Finding:
    said = case.said[index] if case.said else None
    evidence = (
        f"{_quote(said.text)}, yet it answered {_quote(case.prediction)}"
        if said
        else "every fact was right"
    )
    return Finding(
        Cause.REASONING_SLIP, said.step if said else None, evidence, needs_gold_titles=True
    )


def _claim_in_place_of(case: Case, fact: GoldFact, start: int) -> Place:
    """The claim made where `fact` was needed: the last fact's is the one with the answer given, else the first."""
    if fact is case.gold.facts[-1] and not case.gold.compares:
        end, claim = _claim_of_answer(case, start)
        return Place(start, end, claim, fact)
    after = [(i, claim) for i, claim in case.claims if i >= start]
    # The sentence that reached the fact before is the start; a claim of its own is of that fact.
    after = [(i, claim) for i, claim in after if i > start or not start] or after
    wrong = [(i, claim) for i, claim in after if not _is_harmless(claim, case.gold)] or after
    end, claim = wrong[0] if wrong else (len(case.said), _answer_as_claim(case))
    return Place(start, end, claim, fact)


def _claim_of_answer(case: Case, start: int) -> tuple[int, Claim]:
    """The first claim that states the answer, else the first thought that mentions it, else the answer itself."""
    stated = (
        (i, claim) for i, claim in case.claims if i >= start and case.prediction in claim.values
    )
    if found := next(stated, None):
        return found
    for i, said in enumerate(case.said[start:], start):
        if said.kind is StepKind.THOUGHT and is_in(case.prediction, said.norm):
            basis = Basis.READ if _was_shown(case, i) else basis_of(said.text) or Basis.RECALLED
            return i, Claim(said.step, said.text.strip(), (case.prediction,), basis)
    return len(case.said), _answer_as_claim(case)


def _is_harmless(claim: Claim, gold: Gold) -> bool:
    """Whether all that a claim states stands in passages that state facts of the way: true, if not what was needed."""
    stating = [passage for fact in gold.facts for passage in fact.passages]
    return bool(stating) and all(
        any(is_in(value, p.norm) for p in stating) for value in claim.values
    )


def _answer_as_claim(case: Case) -> Claim:
    """The answer itself, where no thought states it before."""
    hedged = Basis.GUESSED if gives_up(case.prediction) else Basis.RECALLED
    basis = Basis.READ if _was_shown(case, len(case.said)) else hedged
    return Claim(max(len(case.steps) - 1, 0), case.prediction, (case.prediction,), basis)


def _was_shown(case: Case, end: int) -> bool:
    """Whether the answer stands in an observation."""
    shown = case.observations(end)
    return any(_states(said, case.prediction, case.question) for said in shown)


def _states(said: Utterance, value: str, question: str) -> bool:
    return is_in(value, said.norm) or holds_most(said.norm, value, question)


def _compare(case: Case, start: int) -> list[Finding]:
    if not case.gold.has_corpus:
        return [
            Finding(Cause.UNKNOWN, evidence="comparing needs the passages under the gold titles")
        ]
    places = places_by_title(case, start)
    if wrong := next((place for place in places if is_contradicted(place)), None):
        return _explain(case, wrong)
    named = {passage.title for place in places for passage in place.fact.passages}
    last = case.said[-1].step if case.said else 0
    is_admitted = not case.has_own_ids and any(
        says_not_found(said.text) for said in case.said if said.step == last
    )
    if is_admitted or not all(place.is_sure for place in places) or named < set(case.gold.compares):
        evidence = "not every fact that is compared can be checked"
        return [Finding(Cause.UNKNOWN, evidence=evidence, needs_gold_titles=True)]
    return [_slip(case, places[-1].end)]


# From the wrong claim to its cause


def _explain(case: Case, place: Place) -> list[Finding]:
    claim = place.claim
    shown = case.shown(place)
    if shown is None and claim.basis is Basis.READ:
        return [
            Finding(
                Cause.UNKNOWN,
                claim.step,
                f"{_quote(claim.sentence)}: which passage states it is unclear",
            )
        ]
    if shown:
        return [_finding(Cause.EVIDENCE_IGNORED, place, shown)]
    if claim.basis is Basis.READ and (source := _source(case, claim, case.observations(place.end))):
        return [_finding(Cause.DISTRACTOR_FOLLOWED, place, source), *_query_trouble(case, place)]
    if trouble := _query_trouble(case, place):
        return [*trouble, _finding(_memory_cause(claim), place)]
    return [_finding(cause, place) for cause in _unsearched(case.mode, claim)]


def _finding(
    cause: Cause, place: Place, passages: tuple[str, ...] = (), *, needs_titles: bool = True
) -> Finding:
    missing = f" instead of {_quote(place.fact.name)}" if place.fact.name else ""
    ids = tuple(name for name in passages if name != NAMELESS)
    return Finding(
        cause, place.claim.step, f"{_quote(place.claim.sentence)}{missing}", ids, needs_titles
    )


def _memory_cause(claim: Claim) -> Cause:
    return Cause.KNOWLEDGE_GAP if claim.basis is Basis.GUESSED else Cause.FALSE_RECALL


def _unsearched(mode: Mode, claim: Claim) -> tuple[Cause, ...]:
    """What a wrong claim that no search was made for shows."""
    return (
        (Cause.NEVER_SEARCHED, _memory_cause(claim))
        if mode is Mode.COA
        else (_memory_cause(claim),)
    )


def _source(case: Case, claim: Claim, observations: Sequence[Utterance]) -> tuple[str, ...]:
    """Ids of the passages of the last observation in which the claimed value stands."""
    for said in reversed(observations):
        if any(_states(said, value, case.question) for value in claim.values):
            return case.steps[said.step].passages or (NAMELESS,)
    return ()


def _query_trouble(case: Case, place: Place) -> list[Finding]:
    """Whether the searches for the fact were good; empty where there was none."""
    last = case.gold.facts[-1] if case.gold.facts and not case.gold.compares else None
    # What is answered at last may have been claimed before it was searched for.
    for end in (place.end, len(case.said)) if place.fact is last else (place.end,):
        between = case.said[place.start : end]
        queries = [Query(said.step, said.text) for said in between if said.kind is StepKind.ACTION]
        if queries:
            break
    else:
        return []
    wanted = _wanted(
        case, place, " ".join(said.text for said in between if said.kind is StepKind.THOUGHT)
    )
    good = next((query for query in queries if is_good(query.text, wanted, case.asking)), None)
    query = good or queries[-1]
    cause = Cause.RETRIEVAL_MISS if good else Cause.BAD_QUERY
    return [
        Finding(cause, query.step, _quote(query.text), tuple(p.id for p in wanted.passages), True)
    ]


def _wanted(case: Case, place: Place, thoughts: str) -> Wanted:
    named = [title for title in case.gold.compares if is_in(title, padded(thoughts))]
    passages = place.fact.passages or tuple(
        p for title in named for p in case.gold.passages_under(title)
    )
    others = tuple(passage for passage in case.gold.passages if passage not in passages)
    return Wanted(place.fact.items, passages, others, content_words(f"{case.question} {thoughts}"))


def _quote(text: str) -> str:
    text = " ".join(text.split())
    return f"“{text if len(text) <= _MAX_QUOTE else text[:_MAX_QUOTE] + '…'}”"
