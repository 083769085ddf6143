"""Define what a reviewer sees and is asked, for each kind of item, and fill the fields of records.

A change of a question's meaning raises `coa.store.reviews.LAYOUT_VERSION`, which gives the data
sets new names.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from coa.pages import markup
from coa.records.causes import Cause
from coa.records.graded import GradedTrajectory
from coa.records.grading import boxed_answer
from coa.records.pairs import PreferencePair
from coa.records.protocol import answer_text
from coa.records.trajectory import Step
from coa.store.reviews import Preference, ReviewKind, ReviewQuestion, Usage

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
        text = (_GUIDELINES / f"{self.kind}.md").read_text(encoding="utf-8")
        return text.replace("{causes}", (_GUIDELINES / "causes.md").read_text(encoding="utf-8"))


def _labels(
    name: ReviewQuestion, title: str, labels: Mapping[str, str], *, is_required: bool = False
) -> QuestionLayout:
    return QuestionLayout(name, title, Form.LABEL, tuple(labels.items()), is_required)


_COMMENT = QuestionLayout(ReviewQuestion.COMMENT, "Comment", Form.TEXT)
_HEAD = ("question", "Question and answers")
LAYOUTS = {
    ReviewKind.TRAJECTORY: Layout(
        ReviewKind.TRAJECTORY,
        (_HEAD, ("steps", "Trajectory")),
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
        (_HEAD, ("sides", "Continuations")),
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
        (_HEAD,),
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


def trajectory_fields(row: GradedTrajectory, notes: Sequence[str] = ()) -> dict[str, str]:
    """Fill the fields of a trajectory; `notes` are shown below the answers."""
    trajectory = row.trajectory
    answer = row.grade.prediction or "(none)"
    head = _head(trajectory.question, row.gold_answers, {"Final answer": answer}, notes)
    return {"question": head, "steps": markup.steps_field(trajectory.steps)}


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
    answers = {"A answers": final_answer(left), "B answers": final_answer(right)}
    return {
        "question": _head(pair.question, gold_answers, answers),
        "sides": markup.sides_field(
            left, right, first=len(pair.prefix) + 1, notes=notes, before=pair.prefix
        ),
    }


def dispute_fields(row: GradedTrajectory, notes: Sequence[str] = ()) -> dict[str, str]:
    """Fill the fields of a disputed grade; `notes` are shown below the answers."""
    answers = {"The answer in dispute": row.grade.prediction or ""}
    return {"question": _head(row.trajectory.question, row.gold_answers, answers, notes)}


def final_answer(steps: Sequence[Step]) -> str:
    """Return what a continuation answers; it may give no answer."""
    return boxed_answer(answer_text(steps)) or "(none)"


def _head(
    question: str, accepted: Sequence[str], answers: Mapping[str, str], notes: Sequence[str] = ()
) -> str:
    """Write what decides in a few lines: the question, the accepted answers, the model's."""
    lines = [("Question", question), ("Accepted", " • ".join(accepted)), *answers.items()]
    return markup.lines_field(lines, notes)
