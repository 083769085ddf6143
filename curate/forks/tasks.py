"""Make the tasks that continue a trajectory from a point, on one arm or the other."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

from coa.judging.judge import Judge, judge_all
from coa.policy.chat.families import ChatFamily
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm
from coa.records.trajectory import Mode, fork_id
from coa.rollout.forks import first_turns, way_to
from coa.rollout.loop import Task
from curate.forks.choice import Fork


@dataclass(frozen=True, slots=True)
class ForkRun:
    """What all forks of a run share."""

    prompts: Mapping[Arm, Prompt]
    """The prompt of each arm: with the tools, and without any."""
    tools: tuple[str, ...] = ("search",)
    """Names of the tools that the run offers."""
    family: ChatFamily | None = None
    """The family of a chat policy's server; None for a policy that continues text."""
    judged_by: Judge | None = None
    """Who judges continuations; None for nobody."""
    judges_all: bool = False
    """Whether those of questions with accepted answers are judged, too."""

    def judge(self, rows: AsyncIterator[GradedTrajectory]) -> AsyncGenerator[GradedTrajectory]:
        """Judge the continuations that need it; all keep their order."""
        return judge_all(self.judged_by, rows, only_rubrics=not self.judges_all)


def fork_task(fork: Fork, k: int, run: ForkRun, arm: Arm | None = None) -> Task:
    """Make the task of the k-th continuation of an arm; without `arm`, of the fork's own.

    On the arm `act` a policy of raw completions finds the opening tag of the tool in question
    inserted, after the same space that followed the point; a chat policy sees it in messages and
    settings. After that call it has all tools. On the arm `think` no tool is offered to the end,
    and calling one ends the rollout.
    """
    arm = arm or fork.arm
    parent = fork.parent.trajectory
    prefix, rest = protocol.split_at(parent.steps, fork.point)
    is_acting = arm is Arm.ACT
    way = fork.way if arm is fork.arm else way_to(arm, run.family)
    turns = None
    if run.family is not None and way is not None:
        turns = first_turns(prefix, arm, way, run.family, fork.tool)
    elif is_acting:
        following = protocol.render(rest)
        space = following[: len(following) - len(following.lstrip())]
        trigger = protocol.marker(space + protocol.open_tag(fork.tool), tool=fork.tool)
        prefix = (*prefix, trigger)
    prompt = run.prompts[arm]
    return Task(
        trajectory_id=fork_id(parent.trajectory_id, fork.point, arm, k),
        question_id=parent.question_id,
        mode=Mode.COA if is_acting else Mode.COT,
        index=parent.index,
        question=parent.question,
        prompt=prompt.fill(parent.question),
        prompt_hash=prompt.prompt_hash,
        tools=run.tools if is_acting else (),
        forbidden_tools=() if is_acting else run.tools,
        prefix=prefix,
        first_turns=turns,
    )
