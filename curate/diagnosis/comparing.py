"""Questions that compare: which claim is about which gold title, and whether a passage under that title supports it.

Nothing says what the compared facts are, so the passages that state them are told by their words and by their likeness:
what is asked of one title is asked of the other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from coa.trajectory import StepKind
from curate.diagnosis.case import Case, Place
from curate.diagnosis.claims import Claim, Utterance, is_in
from curate.diagnosis.gold import GoldFact, GoldPassage
from curate.diagnosis.queries import content_words


class _Spoken(NamedTuple):
    """A claim with the title that was spoken of last before it."""

    title: str
    start: int
    end: int
    claim: Claim


def places_by_title(case: Case, start: int) -> list[Place]:
    """Every claim with the passages under its title that would state it, from the index `start` of what was said on."""
    spoken = _spoken(case, start)
    asked = [_asked(case, part) for part in spoken]
    sure = [passage for part, passages in zip(spoken, asked, strict=True) for passage in passages]
    places = []
    for part, passages in zip(spoken, asked, strict=True):
        others = [passage for passage in sure if passage.title != part.title]
        likely = passages or _alike(case, part, others) or _queried(case, part)
        fact = GoldFact((), "", likely or case.gold.passages_under(part.title))
        places.append(Place(part.start, part.end, part.claim, fact, is_sure=bool(likely)))
    return places


def is_contradicted(place: Place) -> bool:
    """Whether no passage that would state the claim's fact holds any of its values."""
    parts = [part for value in place.claim.values for part in value.split(" and ")]
    return not any(is_in(part, p.norm) for part in parts for p in place.fact.passages)


def _spoken(case: Case, start: int) -> list[_Spoken]:
    found: list[_Spoken] = []
    title, since = "", start
    for i, said in enumerate(case.said):
        if said.kind is StepKind.OBSERVATION:
            continue
        named = [name for name in case.gold.compares if is_in(name, said.norm)]
        title = named[-1] if named else title
        if said.claim and i >= start and title:
            found.append(_Spoken(title, since, i, said.claim))
            since = i + 1
    return found


def _asked(case: Case, part: _Spoken) -> tuple[GoldPassage, ...]:
    """The only passage under the title; of several those that share most words with the question and the thoughts."""
    under = case.gold.passages_under(part.title)
    thoughts = [
        said for said in case.said[part.start : part.end + 1] if said.kind is StepKind.THOUGHT
    ]
    return (
        under
        if len(under) == 1
        else _closest(under, _words(case, part, [case.question, *_texts(thoughts)]))
    )


def _alike(case: Case, part: _Spoken, others: Sequence[GoldPassage]) -> tuple[GoldPassage, ...]:
    """Those that share most words with the passages that state the other titles' facts, or numbers as these do.

    Where no other fact is sure, a number that is claimed anywhere says that numbers are compared.
    """
    under = case.gold.passages_under(part.title)
    values = [value for _, claim in case.claims for value in claim.values]
    has_numbers = any(map(_has_number, [p.norm for p in others] or values))
    numeric = tuple(passage for passage in under if _has_number(passage.norm))
    if has_numbers and numeric:
        return numeric
    return _closest(under, _words(case, part, [passage.norm for passage in others]))


def _queried(case: Case, part: _Spoken) -> tuple[GoldPassage, ...]:
    """Those that share most words with the queries before the claim."""
    actions = [said for said in case.said[part.start : part.end] if said.kind is StepKind.ACTION]
    return _closest(case.gold.passages_under(part.title), _words(case, part, _texts(actions)))


def _texts(said: Sequence[Utterance]) -> list[str]:
    return [piece.text for piece in said]


def _words(case: Case, part: _Spoken, texts: Sequence[str]) -> frozenset[str]:
    """What texts speak of beside the titles and what is claimed of them."""
    return content_words(" ".join(texts)) - content_words(
        " ".join([*case.gold.compares, *part.claim.values])
    )


def _closest(passages: Sequence[GoldPassage], words: frozenset[str]) -> tuple[GoldPassage, ...]:
    """The passages that share most of the words; none where none shares any."""
    scores = [len(words & content_words(passage.norm)) for passage in passages]
    best = max(scores, default=0)
    return (
        tuple(p for p, score in zip(passages, scores, strict=True) if score == best) if best else ()
    )


def _has_number(text: str) -> bool:
    return any(character.isdigit() for character in text)
