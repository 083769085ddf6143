"""Make trajectories and pairs for tests, with values of no importance filled in."""

from dataclasses import replace
from typing import Any

from coa.records.causes import Analysis, Cause
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, Step, StopReason, Trajectory


def make_trajectory(
    question: Question, steps: tuple[Step, ...], mode: Mode = Mode.COA, **changes: Any
) -> Trajectory:
    """Make the first trajectory of a question in a mode; `changes` are fields of the record."""
    made = Trajectory(
        trajectory_id=f"{question.question_id}/{mode}/0",
        question_id=question.question_id,
        mode=mode,
        index=0,
        question=question.question,
        prompt="prompt",
        steps=steps,
        stop_reason=StopReason.ANSWERED,
        model="m",
        sampling=Sampling(),
        prompt_hash="hash",
        search_fingerprint="fp",
        num_prompt_tokens=1,
        num_policy_tokens=10,
        num_environment_tokens=5,
        num_calls=2,
        num_actions=1,
    )
    return replace(made, **changes)


def make_graded(
    question: Question, steps: tuple[Step, ...], mode: Mode = Mode.COA, **changes: Any
) -> GradedTrajectory:
    """Make a trajectory, as `make_trajectory` does, and grade it."""
    return grade_trajectory(make_trajectory(question, steps, mode, **changes), question)


def make_pair(
    parent: Trajectory,
    chosen: tuple[Step, ...],
    rejected: tuple[Step, ...],
    *,
    point: int = 3,
    **changes: Any,
) -> PreferencePair:
    """Make a pair in which acting is better; `changes` are fields of the record."""
    made = PreferencePair(
        pair_id=f"{parent.trajectory_id}/{point}",
        question_id=parent.question_id,
        trajectory_id=parent.trajectory_id,
        kind=PairKind.ACT_IS_BETTER,
        point=point,
        question=parent.question,
        prompt=parent.prompt,
        prefix=(),
        chosen=chosen,
        rejected=rejected,
        chosen_id="right",
        rejected_id="wrong",
        num_act=1,
        num_act_correct=1,
        num_think=1,
        num_think_correct=0,
        model="m",
        search_fingerprint="fp",
    )
    return replace(made, **changes)


def make_analysis(row: GradedTrajectory, cause: Cause | None = None) -> Analysis:
    """Make the analysis that gives a row this cause."""
    it = row.trajectory
    return Analysis(
        it.trajectory_id,
        it.question_id,
        it.mode,
        0,
        "bridge",
        2,
        1,
        it.stop_reason,
        row.grade.verdict,
        cause,
        None,
        "",
        (),
        False,
        (),
    )
