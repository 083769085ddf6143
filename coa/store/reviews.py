"""Read and write people's reviews of trajectories, pairs and disputed grades.

`coa review pull` writes data/reviews.parquet. The file is an input of the pipeline, tracked in git,
and starts empty (docs/decisions/0002). A review names the version of the item that was seen. If the
pipeline makes the item again with another text, it has the same id and another version, and the old
review does not count for it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coa.errors import InputError
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Step
from coa.store import tables
from coa.store.files import REVIEWS

LAYOUT_VERSION = 1
"""Raised when a question to the reviewer changes its meaning; stored with each review."""


class ReviewKind(StrEnum):
    """The kind of item that was reviewed."""

    TRAJECTORY = "trajectory"
    """A whole trajectory: is it kept or dropped?"""
    PAIR = "pair"
    """Two continuations: which of them is better?"""
    DISPUTE = "dispute"
    """An answer that the grader called wrong: does it say what an accepted answer says?"""


class ReviewQuestion(StrEnum):
    """The questions to a reviewer."""

    VERDICT = "verdict"
    """Trajectory: a `Usage`."""
    ANSWER_RIGHT = "answer_right"
    """Trajectory: yes, partly or no."""
    ACCEPTED_ANSWER = "accepted_answer"
    """Trajectory: the answer that the accepted ones lack, as free text."""
    CAUSES = "causes"
    """Trajectory: any number of causes of its failure. Pair: what is wrong with the worse side."""
    FIRST_BAD_STEP = "first_bad_step"
    """Trajectory: the number of the step, as free text."""
    SEARCH_QUALITY = "search_quality"
    """Trajectory: 1 to 5."""
    PREFERENCE = "preference"
    """Pair: a `Preference`."""
    CLARITY = "clarity"
    """Pair: how clear it is, 1 to 5."""
    POINT_RIGHT = "point_right"
    """Pair: whether the sides part at a sensible place, yes or no."""
    SAME_ANSWER = "same_answer"
    """Dispute: yes, no or unsure."""
    COMMENT = "comment"
    """All: free text."""


class Usage(StrEnum):
    """The use of a trajectory."""

    KEEP = "keep"
    """Train on it."""
    FIX = "fix"
    """Train on it once the accepted answers are corrected."""
    DROP = "drop"
    """Do not train on it."""


class Preference(StrEnum):
    """The better side of a pair; the reviewer saw A and B, and not which of them was chosen."""

    CHOSEN = "chosen"
    """The side that the pipeline chose."""
    REJECTED = "rejected"
    """The other one."""
    TIE = "tie"
    """There is no real difference."""
    BOTH_BAD = "both_bad"
    """Neither should be learned."""


DECISIVE = {
    ReviewKind.TRAJECTORY: ReviewQuestion.VERDICT,
    ReviewKind.PAIR: ReviewQuestion.PREFERENCE,
    ReviewKind.DISPUTE: ReviewQuestion.SAME_ANSWER,
}
"""The question of each kind whose answer has an effect; it must be answered in every review."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question of a review."""

    question: ReviewQuestion
    """Which question."""
    values: tuple[str, ...]
    """One value, or several where several may be chosen."""


@dataclass(frozen=True, slots=True)
class Review:
    """One person's review of one item."""

    item_id: str
    """Trajectory id or pair id; for a dispute the id of the trajectory whose answer is disputed."""
    kind: ReviewKind
    """What was reviewed."""
    version: str
    """The version of the item as shown: the first 16 hex digits of the SHA-256 of its texts."""
    layout: int
    """`LAYOUT_VERSION` of the questions that were asked."""
    round: int
    """1, or 2 where reviewers of the first round disagreed."""
    reviewer: str
    """Name of the account."""
    submitted: str
    """The time when it was last submitted: UTC, ISO 8601."""
    answers: tuple[Answer, ...]
    """The answers to the questions that were answered."""

    def values(self, question: ReviewQuestion) -> tuple[str, ...]:
        """Return the answers to `question`; empty where it was not answered."""
        for answer in self.answers:
            if answer.question is question:
                return answer.values
        return ()

    def value(self, question: ReviewQuestion) -> str:
        """Return the one answer to `question`; empty where it was not answered."""
        values = self.values(question)
        return values[0] if values else ""


class Between(StrEnum):
    """The two parties that are compared."""

    REVIEWERS = "reviewers"
    """The reviewers with each other."""
    CAUSES = "causes"
    """Each reviewer with the automatic causes of failure."""
    GRADER = "grader"
    """Each reviewer with the grader."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of answers to one question."""

    kind: ReviewKind
    """What was reviewed."""
    question: ReviewQuestion
    """Which question."""
    between: Between
    """Who is compared."""
    value: str
    """The cause that is compared; empty for the whole question."""
    num_items: int
    """Items with two answers or more; where a program is compared, with one answer or more."""
    num_answers: int
    """Answers of people to these items."""
    equal_share: float
    """Share of pairs of answers to an item that are equal."""
    alpha: float | None
    """Krippendorff's alpha: 1 is perfect agreement, 0 is chance. It is null where all answers are
    the same, because then chance is undefined."""
    kappa: float | None
    """Cohen's kappa; for several people the mean over pairs of them, weighted by their common
    items. It is null in the same case."""


def read_reviews(path: Path = REVIEWS) -> list[Review]:
    """Read all reviews; people write few enough to hold them in memory.

    Raises:
        InputError: The file is missing, broken or of another schema version.
    """
    if not path.exists():
        fix = "git has it: git checkout data/reviews.parquet"
        raise InputError(
            f"{path} is missing", expected="the file of reviews, which starts empty", fix=fix
        )
    return list(tables.read_table(path, Review))


def write_reviews(reviews: Iterable[Review], path: Path = REVIEWS) -> int:
    """Write the reviews and return their number.

    They are sorted, so that the same reviews give the same bytes.
    """
    in_order = sorted(
        reviews, key=lambda it: (it.kind, it.item_id, it.version, it.round, it.reviewer)
    )
    return tables.write_table(path, Review, in_order)


def trajectory_version(row: GradedTrajectory) -> str:
    """Return the version of a trajectory under review."""
    return _hash(row.trajectory.question, _texts(row.trajectory.steps))


def pair_version(pair: PreferencePair) -> str:
    """Return the version of a pair under review."""
    return _hash(pair.question, _texts(pair.prefix), _texts(pair.chosen), _texts(pair.rejected))


def dispute_version(row: GradedTrajectory) -> str:
    """Return the version of a disputed grade."""
    return _hash(row.trajectory.question, list(row.gold_answers), row.grade.prediction)


def _texts(steps: Iterable[Step]) -> list[list[str]]:
    return [[step.kind, step.author, step.text] for step in steps]


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class Effect(StrEnum):
    """The effect of a review on the reviewed item, or on another row."""

    CONFIRMED = "confirmed"
    """The reviewers agree with the pipeline: nothing changes."""
    DROPPED = "dropped"
    """The trajectory is left out: no policy should learn from it."""
    STAYS_OUT = "stays_out"
    """Reviewers would keep a trajectory that a rule of `coa filter` dropped. It stays out; the
    rule may be wrong."""
    NOT_FIXED = "not_fixed"
    """The trajectory is left out: it needs a fix other than an accepted answer, and no command
    rewrites text."""
    ANSWER_ADDED = "answer_added"
    """The question has one more accepted answer."""
    LET_IN = "let_in"
    """A trajectory that was dropped as wrong is right by an added answer and passes the other
    rules."""
    FLIPPED = "flipped"
    """The pair's sides change places."""
    DISCARDED = "discarded"
    """The pair is left out: no side is better, the point is wrong, or both sides are right by an
    added answer."""
    CONFLICT = "conflict"
    """The reviewers disagree: nothing changes."""
    PENDING = "pending"
    """Too few reviews: nothing changes."""
    STALE = "stale"
    """The item is gone, or its text is not the one that was reviewed: nothing changes."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A decision of the reviewers, with its effect."""

    item_id: str
    """The reviewed item. For `let_in`, and for a pair that an added answer makes useless, the row
    that changes."""
    kind: ReviewKind
    """What was reviewed."""
    effect: Effect
    """The effect on the item."""
    detail: str
    """Which answers were given how often, or which review the row follows from; no reviewer is
    named."""
    num_reviews: int
    """Reviews that counted; 0 where the row follows from another item's review."""
