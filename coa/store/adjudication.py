"""Make one decision of several people's reviews of an item: by majority or by an expert.

A conflict waits for a second round of reviews.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import Annotated, NamedTuple

import msgspec

from coa.store.reviews import DECISIVE, Review, ReviewKind, ReviewQuestion


class Rule(StrEnum):
    """The reviewers who decide."""

    MAJORITY = "majority"
    """More than half of the reviewers; an expert decides where they do not agree."""
    UNANIMOUS = "unanimous"
    """All of them; an expert decides where they do not agree."""
    EXPERT = "expert"
    """Experts alone."""


@dataclass(frozen=True, slots=True)
class AdjudicationParams:
    """How several reviews of an item become one decision."""

    rule: Rule = Rule.MAJORITY
    """Which reviewers decide."""
    experts: tuple[str, ...] = ()
    """Names of the accounts that decide where reviewers disagree."""
    min_reviews: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Reviews that an item needs before they count. One by an expert, or of the second round, is
    always enough."""


class Standing(StrEnum):
    """The state of the reviews of an item."""

    DECIDED = "decided"
    """There is a decision."""
    CONFLICT = "conflict"
    """The reviewers disagree: an item for the second round."""
    PENDING = "pending"
    """Too few reviews yet."""


class Decision(NamedTuple):
    """The decision that follows from the reviews of one version of an item."""

    item_id: str
    kind: ReviewKind
    version: str
    standing: Standing
    value: str
    """The answer to the decisive question; empty unless decided."""
    reviews: tuple[Review, ...]
    """The reviews that counted."""

    def most_said(self, question: ReviewQuestion) -> str:
        """Return the commonest answer to another question.

        Only the reviewers who gave the decisive answer count. Empty without an answer or with a
        tie.
        """
        answers = []
        for review in self.reviews:
            is_agreeing = review.value(DECISIVE[self.kind]) == self.value
            value = review.value(question)
            if is_agreeing and value:
                answers.append(value)
        return _commonest(answers)


def decide_all(reviews: Iterable[Review], params: AdjudicationParams) -> Iterator[Decision]:
    """Make one decision for each version of each item, sorted by kind and id."""

    def item(review: Review) -> tuple[ReviewKind, str, str]:
        return review.kind, review.item_id, review.version

    for (kind, item_id, version), group in groupby(sorted(reviews, key=item), item):
        standing, value, counted = _decide(list(group), DECISIVE[kind], params)
        yield Decision(item_id, kind, version, standing, value, tuple(counted))


def _decide(
    reviews: Sequence[Review], question: ReviewQuestion, params: AdjudicationParams
) -> tuple[Standing, str, Sequence[Review]]:
    """Decide on one version of an item by the reviews of the last round.

    Returns:
        Its standing, the answer to the decisive question, and the reviews that counted.
    """
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
        value = _most_say(said)
        if params.rule is Rule.UNANIMOUS and len(set(said)) > 1:
            value = ""
        if value:
            return Standing.DECIDED, value, current
    value = _most_say([review.value(question) for review in experts])
    if value:
        return Standing.DECIDED, value, experts
    return Standing.CONFLICT, "", current


def _most_say(said: Sequence[str]) -> str:
    """Return the answer of more than half; empty where there is none."""
    value = _commonest(said)
    return value if 2 * said.count(value) > len(said) else ""


def _commonest(said: Sequence[str]) -> str:
    """Return the commonest answer; empty without an answer or with a tie."""
    counts = Counter(said).most_common(2)
    if not counts:
        return ""
    if len(counts) == 2 and counts[0][1] == counts[1][1]:
        return ""
    return counts[0][0]
