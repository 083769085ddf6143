"""Continue the arm that a trajectory did not take; the trajectory is the sample of its own."""

from collections.abc import Iterator, Sequence
from contextlib import aclosing

from coa.forking import BranchParams
from coa.graded import GradedTrajectory, grade_like, is_sound
from coa.pairs import Arm, ArmCount, PreferencePair, make_pair
from coa.points import Point, PointOutcome
from coa.progress import Progress
from coa.prompts import Prompt
from coa.rollout import Task
from coa.runtime import Runtime
from coa.spool import Spool
from coa.trajectory import Trajectory
from curate.fork_choice import Fork
from curate.fork_results import ResultWriter, point_of, takes_arm
from curate.fork_tasks import ForkRun, fork_task


def resolve_fork(
    fork: Fork, continuations: Sequence[GradedTrajectory], prompt: Prompt
) -> tuple[Point, PreferencePair | None]:
    """Tell what became of a point, and make the pair where an outcome differs.

    Only continuations that took the fork's arm count; the first of them that ended differently is
    the other side. `prompt` is the one that offers the tool.
    """
    parent = fork.parent
    sound = [row for row in continuations if is_sound(row)]
    num_on_arm = 0
    num_correct = 0
    first_differing: GradedTrajectory | None = None
    for row in sound:
        if not takes_arm(row, fork, fork.arm):
            continue
        num_on_arm += 1
        num_correct += row.grade.exact_match
        if first_differing is None and row.grade.exact_match != parent.grade.exact_match:
            first_differing = row
    tried = ArmCount(num_on_arm, num_correct)
    pair = _pair(fork, first_differing, tried, prompt) if first_differing else None
    if pair:
        outcome = PointOutcome.PAIRED
    elif num_on_arm:
        outcome = PointOutcome.SAME_OUTCOME
    elif sound:
        outcome = PointOutcome.OFF_ARM
    else:
        outcome = PointOutcome.UNSOUND
    return point_of(fork, outcome, tried, pair), pair


def _pair(fork: Fork, other: GradedTrajectory, tried: ArmCount, prompt: Prompt) -> PreferencePair:
    """Make the pair of a fork's parent and the continuation that ended differently."""
    parent = fork.parent
    own = ArmCount(1, int(parent.grade.exact_match))
    is_acting = fork.arm is Arm.ACT
    is_parent_right = parent.grade.exact_match
    chosen, rejected = (parent, other) if is_parent_right else (other, parent)
    return make_pair(
        parent.trajectory,
        fork.point,
        chosen=chosen.trajectory,
        rejected=rejected.trajectory,
        prompt=prompt.fill(parent.trajectory.question),
        act=tried if is_acting else own,
        think=own if is_acting else tried,
        by_turn=fork.by_turn,
        tool=fork.tool,
    )


async def try_other_arm(
    forks: Spool[Fork],
    settings: BranchParams,
    run: ForkRun,
    runtime: Runtime,
    results: ResultWriter,
    title: str,
) -> None:
    """Roll out every fork's continuations and settle it as soon as they are there."""
    tasks = _tasks(forks, settings.num_continuations, run)
    num_tasks = len(forks) * settings.num_continuations
    settler = _Settler(forks, settings.num_continuations, run.prompts[Arm.ACT], results)
    with Progress(title, num_tasks, "continuations") as bar:
        async with aclosing(runtime.roll_out_all(tasks, bar)) as continuations:
            async for continuation in continuations:
                row = settler.add(continuation)
                bar.grade(is_correct=row.grade.exact_match)


def _tasks(forks: Spool[Fork], num_continuations: int, run: ForkRun) -> Iterator[Task]:
    """Make the tasks that continue each fork, one fork after the other."""
    for number in range(len(forks)):
        fork = forks.get(number)
        for k in range(num_continuations):
            yield fork_task(fork, k, run)


class _Settler:
    """A grader of continuations, which settles each fork once its last one is there.

    Continuations come fork by fork, in the order of the forks.
    """

    def __init__(
        self,
        forks: Spool[Fork],
        num_continuations: int,
        tool_prompt: Prompt,
        results: ResultWriter,
    ) -> None:
        """Expect `num_continuations` of each fork; `tool_prompt` offers the tool."""
        self._forks = forks
        self._num_continuations = num_continuations
        self._tool_prompt = tool_prompt
        self._results = results
        self._group: list[GradedTrajectory] = []

    def add(self, continuation: Trajectory) -> GradedTrajectory:
        """Grade and write the next continuation, and return it."""
        fork = self._forks.get(self._results.num_points)
        row = grade_like(fork.parent, continuation)
        self._results.write_fork(row)
        self._group.append(row)
        if len(self._group) == self._num_continuations:
            point, pair = resolve_fork(fork, self._group, self._tool_prompt)
            self._results.write_point(point, pair)
            self._group = []
        return row
