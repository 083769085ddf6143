"""A trajectory with its grade and what its question says of itself: the row that curation works on."""

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
        trajectory, verdict, question.gold_answers, question.question_type, question.num_hops
    )


def grade_like(parent: GradedTrajectory, trajectory: Trajectory) -> GradedTrajectory:
    """Grade a fork of `parent`: the same question, the same gold answers."""
    verdict = grade(answer_text(trajectory.steps), parent.gold_answers)
    return replace(parent, trajectory=trajectory, grade=verdict)


def is_sound(row: GradedTrajectory) -> bool:
    """Whether the rollout ended by itself with a boxed answer, right or wrong, and its tags are in order."""
    trajectory = row.trajectory
    has_answer = (
        trajectory.stop_reason is StopReason.ANSWERED and row.grade.verdict is not Verdict.NO_ANSWER
    )
    return has_answer and not stray_tags(trajectory.steps)
