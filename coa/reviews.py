"""What people said of trajectories, pairs and disputed grades: the record that `annotate.pull` writes and others read.

data/reviews.parquet is an input of the pipeline, tracked in git, and starts empty (docs/decisions/0002). A review
names the version of the item that was seen: an item made anew has the same id and another version, and a verdict on the
old one says nothing of it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coa import tables
from coa.errors import InputError
from coa.files import REVIEWS
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.trajectory import Step

LAYOUT_VERSION = 1
"""Raised when a question to the reviewer changes its meaning; stored with each review."""


class ReviewKind(StrEnum):
    """What was reviewed."""

    TRAJECTORY = "trajectory"
    """A whole trajectory, kept or dropped."""
    PAIR = "pair"
    """Two continuations, which of them is better."""
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
    """Trajectory: what went wrong, any number of causes. Pair: what is wrong with the worse side."""
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
    """What a trajectory is good for."""

    KEEP = "keep"
    """Train on it."""
    FIX = "fix"
    """Usable once the accepted answers are mended."""
    DROP = "drop"
    """Do not train on it."""


class Preference(StrEnum):
    """Which side of a pair is better; the reviewer saw A and B and not which of them was chosen."""

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
"""The question of each kind whose answer has an effect; nobody can submit a review without it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question of a review."""

    question: ReviewQuestion
    """Which question."""
    values: tuple[str, ...]
    """One value, or several where several may be chosen."""


@dataclass(frozen=True, slots=True)
class Review:
    """What one person said of one item."""

    item_id: str
    """Trajectory id or pair id; for a dispute the id of the trajectory whose answer is disputed."""
    kind: ReviewKind
    """What was reviewed."""
    version: str
    """Of the item as it was shown: first 16 hex digits of the SHA-256 of its texts."""
    layout: int
    """`LAYOUT_VERSION` of the questions that were asked."""
    round: int
    """1, or 2 where reviewers of the first round disagreed."""
    reviewer: str
    """Name of the account."""
    submitted: str
    """When it was last submitted: UTC, ISO 8601."""
    answers: tuple[Answer, ...]
    """Only questions that were answered."""

    def values(self, question: ReviewQuestion) -> tuple[str, ...]:
        """What was answered to `question`; empty where nothing was."""
        return next((answer.values for answer in self.answers if answer.question is question), ())

    def value(self, question: ReviewQuestion) -> str:
        """The one answer to `question`; empty where there is none."""
        return next(iter(self.values(question)), "")


class Between(StrEnum):
    """Who is compared."""

    REVIEWERS = "reviewers"
    """The reviewers with each other."""
    CAUSES = "causes"
    """Each reviewer with the automatic causes of failure."""
    GRADER = "grader"
    """Each reviewer with the grader."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far answers to one question agree."""

    kind: ReviewKind
    """What was reviewed."""
    question: ReviewQuestion
    """Which question."""
    between: Between
    """Who is compared."""
    value: str
    """The one cause that is looked at; empty for the whole question."""
    num_items: int
    """Items with two answers or more; against the program, with one."""
    num_answers: int
    """Answers of people to these items."""
    equal_share: float
    """Share of pairs of answers to an item that are equal."""
    alpha: float | None
    """Krippendorff's alpha: 1 is perfect, 0 is chance; null where all say the same, for then there is no chance."""
    kappa: float | None
    """Cohen's kappa, for several people the mean over pairs of them, weighted by their common items; null likewise."""


def read_reviews(path: Path = REVIEWS) -> list[Review]:
    """All reviews; people write few enough to hold them in memory.

    Raises:
        InputError: the file is missing, broken or of another schema version.
    """
    if not path.exists():
        fix = "git has it: git checkout data/reviews.parquet"
        raise InputError(
            f"{path} is missing", expected="the file of reviews, which starts empty", fix=fix
        )
    return list(tables.read_table(path, Review))


def write_reviews(reviews: Iterable[Review], path: Path = REVIEWS) -> int:
    """Write the reviews in one order, so that the same reviews are the same bytes; returns their number."""
    ordered = sorted(
        reviews, key=lambda it: (it.kind, it.item_id, it.version, it.round, it.reviewer)
    )
    return tables.write_table(path, Review, ordered)


def trajectory_version(row: GradedTrajectory) -> str:
    """The version of a trajectory under review."""
    return _hash(row.trajectory.question, _texts(row.trajectory.steps))


def pair_version(pair: PreferencePair) -> str:
    """The version of a pair under review."""
    return _hash(pair.question, _texts(pair.prefix), _texts(pair.chosen), _texts(pair.rejected))


def dispute_version(row: GradedTrajectory) -> str:
    """The version of a disputed grade."""
    return _hash(row.trajectory.question, list(row.gold_answers), row.grade.prediction)


def _texts(steps: Iterable[Step]) -> list[list[str]]:
    return [[step.kind, step.author, step.text] for step in steps]


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class Effect(StrEnum):
    """What became of a reviewed item, or of a row because of one."""

    CONFIRMED = "confirmed"
    """The reviewers agree with the pipeline: nothing changes."""
    DROPPED = "dropped"
    """The trajectory is left out: nobody should learn from it."""
    STAYS_OUT = "stays_out"
    """Reviewers would keep a trajectory that a rule of `curate.filter` dropped: it stays out, the rule may be wrong."""
    NOT_FIXED = "not_fixed"
    """The trajectory is left out: it needs a fix other than an accepted answer, and no command rewrites text."""
    ANSWER_ADDED = "answer_added"
    """The question has one more accepted answer."""
    LET_IN = "let_in"
    """A trajectory that was dropped as wrong is right by an added answer and passes the other rules."""
    FLIPPED = "flipped"
    """The pair's sides change places."""
    DISCARDED = "discarded"
    """The pair is left out: no side is better, the point is wrong, or both sides are right by an added answer."""
    CONFLICT = "conflict"
    """The reviewers disagree: nothing changes."""
    PENDING = "pending"
    """Too few reviews: nothing changes."""
    STALE = "stale"
    """The item is gone, or its text is not the one that was reviewed: nothing changes."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What a decision of the reviewers came to."""

    item_id: str
    """The reviewed item; for `let_in` and for pairs void by an added answer, the row that is concerned."""
    kind: ReviewKind
    """What was reviewed."""
    effect: Effect
    """What became of it."""
    detail: str
    """What was said how often, or what the row follows from; no reviewer is named."""
    num_reviews: int
    """Reviews that counted; 0 where the row follows from another item's review."""
