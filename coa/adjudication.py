"""Several people's reviews of an item to one decision: by majority or expert; a conflict waits for a second round."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Annotated, NamedTuple

import msgspec

from coa.reviews import DECISIVE, Review, ReviewKind, ReviewQuestion


class Rule(StrEnum):
    """Whose word counts."""

    MAJORITY = "majority"
    """More than half of the reviewers; an expert's word decides where they do not agree."""
    UNANIMOUS = "unanimous"
    """All of them; an expert's word decides where they do not agree."""
    EXPERT = "expert"
    """Experts alone."""


@dataclass(frozen=True, slots=True)
class AdjudicationParams:
    """How several reviews of an item become one decision."""

    rule: Rule = Rule.MAJORITY
    """Whose word counts."""
    experts: tuple[str, ...] = ()
    """Names of the accounts whose word decides where reviewers disagree."""
    min_reviews: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Reviews that an item needs before they count; one by an expert, or of the second round, is always enough."""


class Standing(StrEnum):
    """How far the reviews of an item have come."""

    DECIDED = "decided"
    """There is a decision."""
    CONFLICT = "conflict"
    """The reviewers disagree: an item for the second round."""
    PENDING = "pending"
    """Too few reviews yet."""


class Decision(NamedTuple):
    """What the reviews of one version of an item come to."""

    item_id: str
    kind: ReviewKind
    version: str
    standing: Standing
    value: str
    """The answer to the decisive question; empty unless decided."""
    reviews: tuple[Review, ...]
    """Those that counted."""

    def most_said(self, question: ReviewQuestion) -> str:
        """The commonest answer to another question among those who gave the decisive one; empty for none or a tie."""
        agreeing = [it for it in self.reviews if it.value(DECISIVE[self.kind]) == self.value]
        return _winner(
            [value for it in agreeing if (value := it.value(question))], at_least_half=True
        )


def decide_all(reviews: Iterable[Review], params: AdjudicationParams) -> Iterator[Decision]:
    """One decision for each version of each item, by kind and id."""

    def item(review: Review) -> tuple[ReviewKind, str, str]:
        return review.kind, review.item_id, review.version

    for (kind, item_id, version), group in groupby(sorted(reviews, key=item), item):
        standing, value, counted = _decide(list(group), DECISIVE[kind], params)
        yield Decision(item_id, kind, version, standing, value, tuple(counted))


def _decide(
    reviews: Sequence[Review], question: ReviewQuestion, params: AdjudicationParams
) -> tuple[Standing, str, Sequence[Review]]:
    last_round = max(review.round for review in reviews)
    current = [review for review in reviews if review.round == last_round]
    experts = [review for review in current if review.reviewer in params.experts]
    if params.rule is Rule.EXPERT and not experts:
        return Standing.PENDING, "", current
    if params.rule is not Rule.EXPERT:
        is_enough = last_round > 1 or bool(experts) or len(current) >= params.min_reviews
        if not is_enough:
            return Standing.PENDING, "", current
        said = [review.value(question) for review in current]
        if value := _agreed(said, params.rule):
            return Standing.DECIDED, value, current
    value = _agreed([review.value(question) for review in experts], Rule.MAJORITY)
    return (Standing.DECIDED, value, experts) if value else (Standing.CONFLICT, "", current)


def _agreed(said: Sequence[str], rule: Rule) -> str:
    if rule is Rule.UNANIMOUS:
        return said[0] if len(set(said)) == 1 else ""
    return _winner(said)


def _winner(said: Sequence[str], *, at_least_half: bool = False) -> str:
    """The answer of more than half; with `at_least_half` also the commonest one that is not tied."""
    counts = Counter(said).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return ""
    value, count = counts[0]
    return value if at_least_half or 2 * count > len(said) else ""
