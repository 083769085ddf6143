"""Define what a reviewer sees and is asked, for each kind of item, and fill the fields of records.

A change of a question's meaning raises `coa.reviews.LAYOUT_VERSION`, which gives the data sets new
names.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from annotate import markup
from coa.causes import Cause
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.reviews import Preference, ReviewKind, ReviewQuestion, Usage

_GUIDELINES = Path(__file__).parent / "guidelines"
_CAUSES = {str(cause): cause.replace("_", " ") for cause in Cause}
_YES_NO = {"yes": "Yes", "no": "No"}


class Form(StrEnum):
    """The form of an answer to a question."""

    LABEL = "label"
    """One of several labels."""
    LABELS = "labels"
    """Any number of labels."""
    RATING = "rating"
    """1 to 5."""
    TEXT = "text"
    """Free text."""


@dataclass(frozen=True, slots=True)
class QuestionLayout:
    """One question to the reviewer."""

    name: ReviewQuestion
    """Which question."""
    title: str
    """As the reviewer reads it."""
    form: Form
    """How it is answered."""
    labels: tuple[tuple[str, str], ...] = ()
    """For labels: value and text of each."""
    is_required: bool = False
    """Whether nothing can be submitted without it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields and questions of one kind of item."""

    kind: ReviewKind
    """Which kind."""
    fields: tuple[tuple[str, str], ...]
    """Name and title of each field, in order."""
    questions: tuple[QuestionLayout, ...]
    """In the order in which they are asked."""

    @property
    def guidelines(self) -> str:
        """Read the text that explains the task to a reviewer."""
        return (_GUIDELINES / f"{self.kind}.md").read_text(encoding="utf-8")


def _labels(
    name: ReviewQuestion, title: str, labels: Mapping[str, str], *, is_required: bool = False
) -> QuestionLayout:
    return QuestionLayout(name, title, Form.LABEL, tuple(labels.items()), is_required)


_COMMENT = QuestionLayout(ReviewQuestion.COMMENT, "Comment", Form.TEXT)
_QUESTION = ("question", "Question")
_ACCEPTED = ("accepted", "Accepted answers")
LAYOUTS = {
    ReviewKind.TRAJECTORY: Layout(
        ReviewKind.TRAJECTORY,
        (_QUESTION, _ACCEPTED, ("answer", "Final answer"), ("steps", "Trajectory")),
        (
            _labels(
                ReviewQuestion.VERDICT,
                "Train on it?",
                {Usage.KEEP: "Keep", Usage.FIX: "Fix the accepted answers", Usage.DROP: "Drop"},
                is_required=True,
            ),
            _labels(
                ReviewQuestion.ANSWER_RIGHT,
                "Is the final answer right?",
                {"yes": "Yes", "partly": "Partly", "no": "No"},
            ),
            QuestionLayout(
                ReviewQuestion.CAUSES, "What went wrong?", Form.LABELS, tuple(_CAUSES.items())
            ),
            QuestionLayout(ReviewQuestion.SEARCH_QUALITY, "Search quality", Form.RATING),
            QuestionLayout(ReviewQuestion.FIRST_BAD_STEP, "First bad step (its number)", Form.TEXT),
            QuestionLayout(
                ReviewQuestion.ACCEPTED_ANSWER,
                "To fix: the answer that should be accepted",
                Form.TEXT,
            ),
            _COMMENT,
        ),
    ),
    ReviewKind.PAIR: Layout(
        ReviewKind.PAIR,
        (_QUESTION, _ACCEPTED, ("prefix", "Shared beginning"), ("sides", "Continuations")),
        (
            _labels(
                ReviewQuestion.PREFERENCE,
                "Which continuation is better?",
                {
                    "A": "A",
                    "B": "B",
                    Preference.TIE: "No difference",
                    Preference.BOTH_BAD: "Both bad",
                },
                is_required=True,
            ),
            QuestionLayout(ReviewQuestion.CLARITY, "How clear is it?", Form.RATING),
            _labels(ReviewQuestion.POINT_RIGHT, "Do they part at the right place?", _YES_NO),
            QuestionLayout(
                ReviewQuestion.CAUSES,
                "What is wrong with the worse one?",
                Form.LABELS,
                tuple(_CAUSES.items()),
            ),
            _COMMENT,
        ),
    ),
    ReviewKind.DISPUTE: Layout(
        ReviewKind.DISPUTE,
        (_QUESTION, _ACCEPTED, ("answer", "The answer in dispute")),
        (
            _labels(
                ReviewQuestion.SAME_ANSWER,
                "Does it say what an accepted answer says?",
                {**_YES_NO, "unsure": "Unsure"},
                is_required=True,
            ),
            _COMMENT,
        ),
    ),
}


def is_chosen_left(pair_id: str) -> bool:
    """Return whether A is the chosen side.

    The side is drawn by a hash of the id, so nothing in Argilla can give it away.
    """
    digest = hashlib.sha256(f"sides/{pair_id}".encode()).digest()
    return digest[0] % 2 == 0


def unshuffled(pair_id: str, label: str) -> str:
    """Turn the label that a reviewer gave a pair into a `Preference`."""
    if label not in ("A", "B"):
        return label
    prefers_left = label == "A"
    if prefers_left == is_chosen_left(pair_id):
        return Preference.CHOSEN
    return Preference.REJECTED


def trajectory_fields(row: GradedTrajectory) -> dict[str, str]:
    """Fill the fields of a trajectory."""
    trajectory = row.trajectory
    return {
        "question": markup.text_field(trajectory.question),
        "accepted": markup.list_field(row.gold_answers),
        "answer": markup.text_field(row.grade.prediction or "(none)"),
        "steps": markup.steps_field(trajectory.steps),
    }


def pair_fields(
    pair: PreferencePair, gold_answers: tuple[str, ...], notes: Sequence[str] = ()
) -> dict[str, str]:
    """Fill the fields of a pair; `is_chosen_left` says which side stands first.

    Args:
        pair: The pair. Nothing is shown of the counts and the worth that were measured.
        gold_answers: The accepted answers.
        notes: Shown below the sides.
    """
    if is_chosen_left(pair.pair_id):
        left, right = pair.chosen, pair.rejected
    else:
        left, right = pair.rejected, pair.chosen
    return {
        "question": markup.text_field(pair.question),
        "accepted": markup.list_field(gold_answers),
        "prefix": markup.folded_steps_field(pair.prefix),
        "sides": markup.sides_field(left, right, first=len(pair.prefix) + 1, notes=notes),
    }


def dispute_fields(row: GradedTrajectory) -> dict[str, str]:
    """Fill the fields of a disputed grade."""
    return {
        "question": markup.text_field(row.trajectory.question),
        "accepted": markup.list_field(row.gold_answers),
        "answer": markup.text_field(row.grade.prediction or ""),
    }
