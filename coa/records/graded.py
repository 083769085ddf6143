"""Define the row that curation works on: a trajectory with its grade and its question's labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from coa.errors import ConfigError
from coa.own_parts import PartKind, load_function, names_own_part
from coa.records.grading import Grade, Verdict, grade, grade_open
from coa.records.protocol import answer_text, stray_tags
from coa.records.question import Criterion, Question
from coa.records.trajectory import StopReason, Trajectory
from coa.records.verdicts import Judgement


class RightBy(PartKind):
    """What decides whether an answer is right; for an open-ended question it is the judge.

    Or a function of the user's, as `module:name`: it is given the answer and the accepted ones.
    """

    EXACT_MATCH = "exact_match"
    """It equals an accepted answer after normalisation."""
    COVER_MATCH = "cover_match"
    """It contains an accepted answer."""
    JUDGE = "judge"
    """The judge says so (docs/evaluation.md)."""


@dataclass(frozen=True, slots=True)
class GradedTrajectory:
    """One graded rollout."""

    trajectory: Trajectory
    grade: Grade
    gold_answers: tuple[str, ...]
    question_type: str
    num_hops: int | None
    rubric: tuple[Criterion, ...] = ()
    """Of an open-ended question, which has no gold answers."""
    judgement: Judgement | None = None
    """What the judge said; None where none was asked."""


def grade_trajectory(trajectory: Trajectory, question: Question) -> GradedTrajectory:
    """Grade the text after the end of the thinking against the question's gold answers."""
    return GradedTrajectory(
        trajectory=trajectory,
        grade=_grade(trajectory, question.gold_answers, question.rubric),
        gold_answers=question.gold_answers,
        question_type=question.question_type,
        num_hops=question.num_hops,
        rubric=question.rubric,
    )


def grade_like(parent: GradedTrajectory, trajectory: Trajectory) -> GradedTrajectory:
    """Grade a fork of `parent` against the same gold answers."""
    verdict = _grade(trajectory, parent.gold_answers, parent.rubric)
    return replace(parent, trajectory=trajectory, grade=verdict, judgement=None)


def _grade(
    trajectory: Trajectory, gold_answers: Sequence[str], rubric: Sequence[Criterion]
) -> Grade:
    answer = answer_text(trajectory.steps)
    if rubric:
        return grade_open(answer)
    return grade(answer, gold_answers)


def is_right(row: GradedTrajectory, by: RightBy = RightBy.EXACT_MATCH) -> bool | None:
    """Tell whether the answer is right; None where no judge could tell, or none was asked."""
    if by is RightBy.JUDGE or row.grade.exact_match is None:
        return row.judgement.is_right if row.judgement else None
    if names_own_part(by):
        return is_right_by_own(by, row.grade.prediction, row.gold_answers)
    return row.grade.cover_exact_match if by is RightBy.COVER_MATCH else row.grade.exact_match


def is_right_by_own(by: RightBy, prediction: str | None, gold_answers: Sequence[str]) -> bool:
    """Ask a grader of the user's; no answer is never right.

    Raises:
        ConfigError: it cannot be loaded, or says neither true nor false.
    """
    grader = load_function(by, "grader")
    is_correct = grader(prediction, tuple(gold_answers)) if prediction else False
    if not isinstance(is_correct, bool):
        raise ConfigError(
            f"the grader {str(by)!r} says neither true nor false", got=repr(is_correct)[:200]
        )
    return is_correct


def is_sound(row: GradedTrajectory) -> bool:
    """Return whether the rollout ended by itself with a boxed answer and its tags are in order.

    The answer may be right or wrong.
    """
    if row.trajectory.stop_reason is not StopReason.ANSWERED:
        return False
    if row.grade.verdict is Verdict.NO_ANSWER:
        return False
    return not stray_tags(row.trajectory.steps)
