"""Find the first fact that a wrong trajectory got wrong, and how it came to it.

The fact was recalled, guessed, misread or not found. On the way to an open answer the first item
that the policy never mentions is the missing one; the claim made in its place is the wrong one.
Where facts are compared, the first claim that no gold passage supports is the wrong one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from coa.records.causes import Cause, Finding
from coa.records.trajectory import StepKind
from curate.diagnosis.case import (
    Case,
    Place,
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
from curate.diagnosis.claims import Basis, Claim, is_in, padded, says_not_found, texts_of
from curate.diagnosis.gold import Gold, GoldFact, GoldPassage, is_in_any
from curate.diagnosis.queries import Wanted, content_words, is_good, repeated_in_vain
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
    places = _places_by_title(case, start)
    for place in places:
        if _is_contradicted(place):
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
    again = repeated_in_vain(queries)
    query = again or queries[-1]
    cause = Cause.BAD_QUERY
    for each in queries:
        if again is None and is_good(each.text, wanted, case.asking):
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


# Where facts are compared, nothing says what they are. So the passages that state them are
# recognised by their words and by their likeness: what is asked of one title is asked of the other.


class _Spoken(NamedTuple):
    """A claim and the title that was mentioned last before it."""

    title: str
    start: int
    end: int
    claim: Claim


def _places_by_title(case: Case, start: int) -> list[Place]:
    """Find the passages under its title that would state each claim, from the index `start` on."""
    spoken = _spoken(case, start)
    asked = [_asked(case, part) for part in spoken]
    sure: list[GoldPassage] = []
    for passages in asked:
        sure += passages
    places: list[Place] = []
    for part, passages in zip(spoken, asked, strict=True):
        others = [passage for passage in sure if passage.title != part.title]
        under = case.gold.passages_under(part.title)
        likely = passages or _alike(case, part, others)
        if not likely:
            queries = texts_of(case.said[part.start : part.end], StepKind.ACTION)
            likely = _closest(under, _words(case, part, queries))
        stating = likely or under
        place = Place(
            start=part.start,
            end=part.end,
            claim=part.claim,
            fact=GoldFact(items=(), name="", passages=stating),
            is_sure=bool(likely),
        )
        places.append(place)
    return places


def _is_contradicted(place: Place) -> bool:
    """Tell whether no passage that would state the claim's fact holds any of its values."""
    for value in place.claim.values:
        for part in value.split(" and "):
            if is_in_any(part, place.fact.passages):
                return False
    return True


def _spoken(case: Case, start: int) -> list[_Spoken]:
    """List the claims from the index `start` on that follow the mention of a title."""
    found: list[_Spoken] = []
    title = ""
    since = start
    for i, said in enumerate(case.said):
        if said.kind is StepKind.OBSERVATION:
            continue
        for name in case.gold.compares:
            if is_in(name, said.norm):
                title = name  # the last one that is named stays
        if said.claim and i >= start and title:
            found.append(_Spoken(title, since, i, said.claim))
            since = i + 1
    return found


def _asked(case: Case, part: _Spoken) -> tuple[GoldPassage, ...]:
    """Choose the passages under the title that state what was asked.

    Of several passages these are the ones that share most words with the question and the thoughts.
    """
    under = case.gold.passages_under(part.title)
    if len(under) == 1:
        return under
    thoughts = texts_of(case.said[part.start : part.end + 1], StepKind.THOUGHT)
    return _closest(under, _words(case, part, [case.question, *thoughts]))


def _alike(case: Case, part: _Spoken, others: Sequence[GoldPassage]) -> tuple[GoldPassage, ...]:
    """Choose the passages under the title that resemble those of the other titles' facts.

    They have numbers, if these do; else they share most words with them. Where no other fact is
    sure, a number that is claimed anywhere says that numbers are compared.
    """
    under = case.gold.passages_under(part.title)
    other_texts = [passage.norm for passage in others]
    claimed: list[str] = []
    for _, claim in case.claims:
        claimed.extend(claim.values)
    compared = other_texts or claimed
    compares_numbers = any(_has_number(text) for text in compared)
    numeric = tuple(passage for passage in under if _has_number(passage.norm))
    if compares_numbers and numeric:
        return numeric
    return _closest(under, _words(case, part, other_texts))


def _words(case: Case, part: _Spoken, texts: Sequence[str]) -> frozenset[str]:
    """List the words of texts, without those of the titles and of what is claimed about them."""
    known = " ".join([*case.gold.compares, *part.claim.values])
    return content_words(" ".join(texts)) - content_words(known)


def _closest(passages: Sequence[GoldPassage], words: frozenset[str]) -> tuple[GoldPassage, ...]:
    """Choose the passages that share most of the words; none where none shares any."""
    best = 0
    closest: list[GoldPassage] = []
    for passage in passages:
        score = len(words & content_words(passage.norm))
        if score > best:
            best = score
            closest = []
        if score and score == best:
            closest.append(passage)
    return tuple(closest)


def _has_number(text: str) -> bool:
    return any(character.isdigit() for character in text)
