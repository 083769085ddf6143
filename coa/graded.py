"""Define the row that curation works on: a trajectory with its grade and its question's labels."""

from dataclasses import dataclass, replace

from coa.grading import Grade, Verdict, grade
from coa.protocol import answer_text, stray_tags
from coa.question import Question
from coa.trajectory import StopReason, Trajectory


@dataclass(frozen=True, slots=True)
class GradedTrajectory:
    """One graded rollout."""

    trajectory: Trajectory
    grade: Grade
    gold_answers: tuple[str, ...]
    question_type: str
    num_hops: int | None


def grade_trajectory(trajectory: Trajectory, question: Question) -> GradedTrajectory:
    """Grade the text after the end of the thinking against the question's gold answers."""
    verdict = grade(answer_text(trajectory.steps), question.gold_answers)
    return GradedTrajectory(
        trajectory=trajectory,
        grade=verdict,
        gold_answers=question.gold_answers,
        question_type=question.question_type,
        num_hops=question.num_hops,
    )


def grade_like(parent: GradedTrajectory, trajectory: Trajectory) -> GradedTrajectory:
    """Grade a fork of `parent` against the same gold answers."""
    verdict = grade(answer_text(trajectory.steps), parent.gold_answers)
    return replace(parent, trajectory=trajectory, grade=verdict)


def is_sound(row: GradedTrajectory) -> bool:
    """Return whether the rollout ended by itself with a boxed answer and its tags are in order.

    The answer may be right or wrong.
    """
    if row.trajectory.stop_reason is not StopReason.ANSWERED:
        return False
    if row.grade.verdict is Verdict.NO_ANSWER:
        return False
    return not stray_tags(row.trajectory.steps)
