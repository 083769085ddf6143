"""Find the first fact that a wrong trajectory got wrong, and how it came to it.

The fact was recalled, guessed, misread or not found. On the way to an open answer the first item
that the policy never mentions is the missing one; the claim made in its place is the wrong one.
Where facts are compared, the first claim that no gold passage supports is the wrong one.
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
    texts_of,
)
from curate.diagnosis.comparing import is_contradicted, places_by_title
from curate.diagnosis.gold import Gold, GoldFact, GoldPassage, is_in_any
from curate.diagnosis.queries import Query, Wanted, content_words, holds_most, is_good

_MAX_QUOTE = 200


def diagnose_fact(case: Case) -> list[Finding]:
    """Tell why the answer is wrong although the form is right.

    The primary cause comes first; there is always one.
    """
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
    return bool(case.shown(_whole_place(case, fact)))


def _whole_place(case: Case, fact: GoldFact) -> Place:
    """Take the whole trajectory as the place of a fact, and the answer as the claim."""
    return Place(start=0, end=len(case.said), claim=_answer_as_claim(case), fact=fact)


def _without_titles(case: Case) -> list[Finding]:
    """Tell what holds whichever fact is the wrong one: nothing is known of the way."""
    ignored = _ignored_answer(case)
    if ignored:
        return [ignored]
    bases = {claim.basis for _, claim in case.claims}
    has_searched = bool(_queries(case.said))
    if has_searched or len(bases) > 1 or Basis.READ in bases:
        return [Finding(Cause.UNKNOWN, evidence="the question has no gold titles")]
    if not case.claims and case.mode is Mode.COT:
        evidence = "no thought states anything, and the question has no gold titles"
        return [Finding(Cause.UNKNOWN, evidence=evidence)]
    claim = case.claims[0][1] if case.claims else _answer_as_claim(case)
    evidence = _quote(claim.sentence)
    findings: list[Finding] = []
    for cause in _unsearched(case.mode, claim):
        findings.append(Finding(cause, claim.step, evidence))
    return findings


def _ignored_answer(case: Case) -> Finding | None:
    """Tell whether the accepted answer was shown to a policy that never mentions it.

    A policy that mentions it went wrong later, and without titles nothing says where.
    """
    if not case.gold.facts:
        return None
    answer = case.gold.facts[-1]
    if case.first_mention(answer.items) is not None:
        return None
    shown = case.shown(_whole_place(case, answer))
    if not shown:
        return None
    place = _claim_in_place_of(case, answer, 0)
    return _finding(Cause.EVIDENCE_IGNORED, place, shown, needs_titles=False)


def _is_overruled(case: Case, fact: GoldFact, mentioned: int) -> bool:
    """Tell whether another answer was read although the right one is mentioned.

    The mention may be in a passage that is copied, or in a list.
    """
    if fact is not case.gold.facts[-1] or case.gold.compares:
        return False
    if not case.has_own_ids and _was_shown(case, len(case.said)):
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
    evidence = f"{_quote(said.text)}, yet it answered {_quote(case.prediction)}"
    return Finding(Cause.REASONING_SLIP, said.step, evidence, needs_gold_titles=True)


def _claim_in_place_of(case: Case, fact: GoldFact, start: int) -> Place:
    """Find the claim made where `fact` was needed.

    For the last fact it is the claim that states the answer given, for others the first claim that
    is not harmless.
    """
    if fact is case.gold.facts[-1] and not case.gold.compares:
        end, claim = _claim_of_answer(case, start)
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
    return Place(start, len(case.said), _answer_as_claim(case), fact)


def _claim_of_answer(case: Case, start: int) -> tuple[int, Claim]:
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
            if _was_shown(case, i):
                basis = Basis.READ
            return i, Claim(said.step, said.text.strip(), (case.prediction,), basis)
    return len(case.said), _answer_as_claim(case)


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


def _answer_as_claim(case: Case) -> Claim:
    """Take the answer itself for a claim, where no thought states it before."""
    if _was_shown(case, len(case.said)):
        basis = Basis.READ
    elif gives_up(case.prediction):
        basis = Basis.GUESSED
    else:
        basis = Basis.RECALLED
    last_step = max(len(case.steps) - 1, 0)
    return Claim(last_step, case.prediction, (case.prediction,), basis)


def _was_shown(case: Case, end: int) -> bool:
    """Tell whether an observation before the index `end` states the answer."""
    return any(_states(said, case.prediction, case.question) for said in case.observations(end))


def _states(said: Utterance, value: str, question: str) -> bool:
    """Tell whether an observation holds a value, or most of its words."""
    return is_in(value, said.norm) or holds_most(said.norm, value, question)


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
        evidence = f"{_quote(claim.sentence)}: which passage states it is unclear"
        return [Finding(Cause.UNKNOWN, claim.step, evidence)]
    if shown:
        return [_finding(Cause.EVIDENCE_IGNORED, place, shown)]
    trouble = _query_trouble(case, place)
    if claim.basis is Basis.READ:
        source = _source(case, claim, case.observations(place.end))
        if source:
            return [_finding(Cause.DISTRACTOR_FOLLOWED, place, source), *trouble]
    if trouble:
        return [*trouble, _finding(_memory_cause(claim), place)]
    causes = _unsearched(case.mode, claim)
    return [_finding(cause, place) for cause in causes]


def _finding(
    cause: Cause, place: Place, passages: tuple[str, ...] = (), *, needs_titles: bool = True
) -> Finding:
    """Quote the claim as evidence, and the fact that was needed instead where it has a name."""
    evidence = _quote(place.claim.sentence)
    if place.fact.name:
        evidence += f" instead of {_quote(place.fact.name)}"
    return Finding(
        cause=cause,
        step=place.claim.step,
        evidence=evidence,
        passages=tuple(name for name in passages if name != NAMELESS),
        needs_gold_titles=needs_titles,
    )


def _memory_cause(claim: Claim) -> Cause:
    return Cause.KNOWLEDGE_GAP if claim.basis is Basis.GUESSED else Cause.FALSE_RECALL


def _unsearched(mode: Mode, claim: Claim) -> list[Cause]:
    """List the causes of a wrong claim for which no search was made."""
    if mode is Mode.COA:
        return [Cause.NEVER_SEARCHED, _memory_cause(claim)]
    return [_memory_cause(claim)]


def _source(case: Case, claim: Claim, observations: Sequence[Utterance]) -> tuple[str, ...]:
    """Find the last observation that holds a claimed value, and return its passages' ids."""
    for said in reversed(observations):
        for value in claim.values:
            if _states(said, value, case.question):
                return case.steps[said.step].passages or (NAMELESS,)
    return ()


def _query_trouble(case: Case, place: Place) -> list[Finding]:
    """Judge the searches for the fact; empty where there was none.

    The first good query is blamed on retrieval; without one the last query is a bad one.
    """
    between = case.said[place.start : place.end]
    queries = _queries(between)
    is_open = bool(case.gold.facts) and not case.gold.compares
    if not queries and is_open and place.fact is case.gold.facts[-1]:
        # The answer may have been claimed before it was searched for.
        between = case.said[place.start :]
        queries = _queries(between)
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
            evidence=_quote(query.text),
            passages=tuple(passage.id for passage in wanted.passages),
            needs_gold_titles=True,
        )
    ]


def _queries(said: Sequence[Utterance]) -> list[Query]:
    return [Query(each.step, each.text) for each in said if each.kind is StepKind.ACTION]


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


def _quote(text: str) -> str:
    """Quote a text with single spaces, shortened where it is long."""
    text = " ".join(text.split())
    if len(text) > _MAX_QUOTE:
        text = text[:_MAX_QUOTE] + "…"
    return f"“{text}”"
