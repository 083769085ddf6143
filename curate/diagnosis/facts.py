"""Find the first fact that a wrong trajectory got wrong, and how it came to it.

The fact was recalled, guessed, misread or not found. On the way to an open answer the first item
that the policy never mentions is the missing one; the claim made in its place is the wrong one.
Where facts are compared, the first claim that no gold passage supports is the wrong one.
"""

from collections.abc import Sequence

from coa.causes import Cause, Finding
from coa.trajectory import StepKind
from curate.diagnosis.blame import (
    answer_as_claim,
    causes_unsearched,
    claim_of_answer,
    finding_on,
    memory_cause,
    queries_in,
    quote,
    source_of,
    was_shown,
    whole_place,
)
from curate.diagnosis.case import Case, Place
from curate.diagnosis.claims import Basis, Claim, is_in, padded, says_not_found, texts_of
from curate.diagnosis.comparing import is_contradicted, places_by_title
from curate.diagnosis.gold import Gold, GoldFact, GoldPassage, is_in_any
from curate.diagnosis.queries import Wanted, content_words, is_good
from curate.diagnosis.untitled import diagnose_without_titles


def diagnose_fact(case: Case) -> list[Finding]:
    """Tell why the answer is wrong although the form is right.

    The primary cause comes first; there is always one.
    """
    if not case.gold.is_known:
        return diagnose_without_titles(case)
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
    """Tell whether a fact on the way was not needed in words.

    Its article, or that of the answer, was shown all the same.
    """
    last = case.gold.facts[-1]
    if fact is last or case.has_own_ids:
        return False
    own_passages: list[GoldPassage] = []
    for title in fact.items:
        own_passages += case.gold.passages_under(title)
    answer_in_own = GoldFact(items=last.items, name="", passages=tuple(own_passages))
    return _is_shown_anywhere(case, answer_in_own) or _is_shown_anywhere(case, last)


def _is_shown_anywhere(case: Case, fact: GoldFact) -> bool:
    return bool(case.shown(whole_place(case, fact)))


def _is_overruled(case: Case, fact: GoldFact, mentioned: int) -> bool:
    """Tell whether another answer was read although the right one is mentioned.

    The mention may be in a passage that is copied, or in a list.
    """
    if fact is not case.gold.facts[-1] or case.gold.compares:
        return False
    if not case.has_own_ids and was_shown(case, len(case.said)):
        return True
    for _, claim in case.claims_from(mentioned + 1):
        if claim.basis is Basis.READ and case.prediction in claim.values:
            return True
    return False


def _slip(case: Case, index: int) -> Finding:
    """Blame the reasoning after what was said at an index: every fact was right."""
    if not case.said:
        evidence = "every fact was right"
        return Finding(Cause.REASONING_SLIP, None, evidence, needs_gold_titles=True)
    said = case.said[index]
    evidence = f"{quote(said.text)}, yet it answered {quote(case.prediction)}"
    return Finding(Cause.REASONING_SLIP, said.step, evidence, needs_gold_titles=True)


def _claim_in_place_of(case: Case, fact: GoldFact, start: int) -> Place:
    """Find the claim made where `fact` was needed.

    For the last fact it is the claim that states the answer given, for others the first claim that
    is not harmless.
    """
    if fact is case.gold.facts[-1] and not case.gold.compares:
        end, claim = claim_of_answer(case, start)
        return Place(start, end, claim, fact)
    candidates = case.claims_from(start)
    if start:
        # The sentence at the start reached the fact before: a claim in it is about that fact.
        candidates = case.claims_from(start + 1) or candidates
    for end, claim in candidates:
        if not _is_harmless(claim, case.gold):
            return Place(start, end, claim, fact)
    if candidates:
        end, claim = candidates[0]
        return Place(start, end, claim, fact)
    return Place(start, len(case.said), answer_as_claim(case), fact)


def _is_harmless(claim: Claim, gold: Gold) -> bool:
    """Tell whether passages that state facts of the way hold all that a claim states.

    Such a claim is true, even if it is not what was needed.
    """
    stating: list[GoldPassage] = []
    for fact in gold.facts:
        stating += fact.passages
    if not stating:
        return False
    return all(is_in_any(value, stating) for value in claim.values)


def _compare(case: Case, start: int) -> list[Finding]:
    """Check the compared facts, from the index `start` of what was said on."""
    if not case.gold.has_corpus:
        evidence = "comparing needs the passages under the gold titles"
        return [Finding(Cause.UNKNOWN, evidence=evidence)]
    places = places_by_title(case, start)
    for place in places:
        if is_contradicted(place):
            return _explain(case, place)
    if _can_check_all(case, places):
        return [_slip(case, places[-1].end)]
    evidence = "not every fact that is compared can be checked"
    return [Finding(Cause.UNKNOWN, evidence=evidence, needs_gold_titles=True)]


def _can_check_all(case: Case, places: Sequence[Place]) -> bool:
    """Tell whether the passages of every compared fact are known.

    They are not where the last step admits that something was not found, unless passages have the
    ids of our corpus.
    """
    if not case.has_own_ids and case.said:
        last_step = case.said[-1].step
        for said in case.said:
            if said.step == last_step and says_not_found(said.text):
                return False
    titles: set[str] = set()
    for place in places:
        if not place.is_sure:
            return False
        for passage in place.fact.passages:
            titles.add(passage.title)
    return not titles < set(case.gold.compares)


# From the wrong claim to its cause.


def _explain(case: Case, place: Place) -> list[Finding]:
    """Tell the causes of a wrong claim, the primary one first."""
    claim = place.claim
    shown = case.shown(place)
    if shown is None and claim.basis is Basis.READ:
        evidence = f"{quote(claim.sentence)}: which passage states it is unclear"
        return [Finding(Cause.UNKNOWN, claim.step, evidence)]
    if shown:
        return [finding_on(Cause.EVIDENCE_IGNORED, place, shown)]
    trouble = _query_trouble(case, place)
    if claim.basis is Basis.READ:
        source = source_of(case, claim, case.observations(place.end))
        if source:
            return [finding_on(Cause.DISTRACTOR_FOLLOWED, place, source), *trouble]
    if trouble:
        return [*trouble, finding_on(memory_cause(claim), place)]
    causes = causes_unsearched(case.mode, claim)
    return [finding_on(cause, place) for cause in causes]


def _query_trouble(case: Case, place: Place) -> list[Finding]:
    """Judge the searches for the fact; empty where there was none.

    The first good query is blamed on retrieval; without one the last query is a bad one.
    """
    between = case.said[place.start : place.end]
    queries = queries_in(between)
    is_open = bool(case.gold.facts) and not case.gold.compares
    if not queries and is_open and place.fact is case.gold.facts[-1]:
        # The answer may have been claimed before it was searched for.
        between = case.said[place.start :]
        queries = queries_in(between)
    if not queries:
        return []
    thoughts = texts_of(between, StepKind.THOUGHT)
    wanted = _wanted(case, place, " ".join(thoughts))
    query = queries[-1]
    cause = Cause.BAD_QUERY
    for each in queries:
        if is_good(each.text, wanted, case.asking):
            query = each
            cause = Cause.RETRIEVAL_MISS
            break
    return [
        Finding(
            cause=cause,
            step=query.step,
            evidence=quote(query.text),
            passages=tuple(passage.id for passage in wanted.passages),
            needs_gold_titles=True,
        )
    ]


def _wanted(case: Case, place: Place, thoughts: str) -> Wanted:
    """Describe what the searches for the fact should have found."""
    passages = place.fact.passages
    if not passages:
        text = padded(thoughts)
        for title in case.gold.compares:
            if is_in(title, text):
                passages += case.gold.passages_under(title)
    others: list[GoldPassage] = []
    for passage in case.gold.passages:
        if passage not in passages:
            others.append(passage)
    return Wanted(
        items=place.fact.items,
        passages=passages,
        others=tuple(others),
        topic=content_words(f"{case.question} {thoughts}"),
    )
