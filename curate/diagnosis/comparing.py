"""Match claims with gold titles where a question compares, and check them against the passages.

Nothing says what the compared facts are. So the passages that state them are recognised by their
words and by their likeness: what is asked of one title is asked of the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from coa.trajectory import StepKind
from curate.diagnosis.case import Case, Place
from curate.diagnosis.claims import Claim, is_in, texts_of
from curate.diagnosis.gold import GoldFact, GoldPassage, is_in_any
from curate.diagnosis.queries import content_words


class _Spoken(NamedTuple):
    """A claim and the title that was mentioned last before it."""

    title: str
    start: int
    end: int
    claim: Claim


def places_by_title(case: Case, start: int) -> list[Place]:
    """Find the passages under its title that would state each claim, from the index `start` on."""
    spoken = _spoken(case, start)
    asked = [_asked(case, part) for part in spoken]
    sure: list[GoldPassage] = []
    for passages in asked:
        sure += passages
    places: list[Place] = []
    for part, passages in zip(spoken, asked, strict=True):
        others = [passage for passage in sure if passage.title != part.title]
        likely = passages or _alike(case, part, others) or _queried(case, part)
        stating = likely or case.gold.passages_under(part.title)
        place = Place(
            start=part.start,
            end=part.end,
            claim=part.claim,
            fact=GoldFact(items=(), name="", passages=stating),
            is_sure=bool(likely),
        )
        places.append(place)
    return places


def is_contradicted(place: Place) -> bool:
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
    compared = other_texts or _claimed_values(case)
    compares_numbers = any(_has_number(text) for text in compared)
    numeric = tuple(passage for passage in under if _has_number(passage.norm))
    if compares_numbers and numeric:
        return numeric
    return _closest(under, _words(case, part, other_texts))


def _claimed_values(case: Case) -> list[str]:
    values: list[str] = []
    for _, claim in case.claims:
        values.extend(claim.values)
    return values


def _queried(case: Case, part: _Spoken) -> tuple[GoldPassage, ...]:
    """Choose the passages that share most words with the queries before the claim."""
    queries = texts_of(case.said[part.start : part.end], StepKind.ACTION)
    return _closest(case.gold.passages_under(part.title), _words(case, part, queries))


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
