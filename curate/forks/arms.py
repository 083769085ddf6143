"""Continue the arms of forks, and tell at each point which arm is better.

With `branch.arms: other` the arm that the trajectory did not take is continued, and the trajectory
itself is the one sample of its own. A point gives a pair where a continuation ended differently.

With `both` each arm of every open point gets some continuations more in each round; then the point
is looked at. It is closed when an interval of the worth of acting excludes zero and the worth is
large enough, when the interval shows that it is too small, or when the budget is spent. Every look
is one more chance to be misled. So the confidence of a single look is raised: with n possible looks
each may be wrong with an n-th of the probability (Bonferroni), and all of them together are right
with at least the confidence that was asked for.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from coa.api import run_task
from coa.policy.prompts import Prompt
from coa.progress import Progress
from coa.records.graded import GradedTrajectory, grade_like, is_right, is_sound
from coa.records.pairs import Arm, ArmCount, PreferencePair, arm_of, make_pair, side_of
from coa.records.trajectory import StepKind, Trajectory
from coa.records.worth import ArmSample, Worth, estimate_worth
from coa.rollout.forks import ArmChoice, BranchParams, load_prompts
from coa.rollout.loop import Task
from coa.rollout.points import Point, PointOutcome
from coa.rollout.runtime import JOURNALS, Runtime
from coa.search.tool import SearchTool
from coa.settings.params import Params
from coa.store.spool import Spool
from curate.forks.choice import Fork, thought_points
from curate.forks.results import ResultWriter
from curate.forks.tasks import ForkRun, fork_task

_PARENT = -1
"""Stands for the parent where a kept continuation has its number."""


class Looks(NamedTuple):
    """How often a point is looked at, and how sure one look must be."""

    size: int
    """Continuations of each arm before the first look, and between two."""
    number: int
    """Looks at a point before its budget is spent."""
    confidence: float
    """Of the interval at one look."""


def plan_looks(settings: BranchParams) -> Looks:
    """Plan the looks: with one arm alone, and without a confidence, there is one, at the end."""
    size = min(settings.first_continuations, settings.num_continuations)
    if settings.arms is ArmChoice.OTHER or not settings.confidence:
        size = settings.num_continuations
    number = -(-settings.num_continuations // size)
    return Looks(size, number, 1 - (1 - settings.confidence) / number)


def judge_worth(worth: Worth, min_worth: float, *, is_spent: bool) -> PointOutcome | None:
    """Tell what a look shows: `PAIRED` where one arm is better, None where the point stays open."""
    if worth.excludes_zero and abs(worth.value) >= min_worth:
        return PointOutcome.PAIRED
    if -min_worth <= worth.low and worth.high <= min_worth:
        return PointOutcome.TOO_SMALL
    if not is_spent:
        return None
    return PointOutcome.TOO_SMALL if worth.excludes_zero else PointOutcome.UNDECIDED


async def try_arms(
    forks: Spool[Fork],
    settings: BranchParams,
    run: ForkRun,
    runtime: Runtime,
    results: ResultWriter,
    title: str,
) -> None:
    """Roll out the arms of every fork that `settings` ask for, and settle each once it is clear."""
    looks = plan_looks(settings)
    with (
        Spool(GradedTrajectory, JOURNALS) as kept,
        Progress(title, 0, "continuations") as bar,
    ):
        trial = Trial(forks, kept, settings, run, results)
        for look in range(looks.number):
            most = min((look + 1) * looks.size, settings.num_continuations)
            num_tasks = trial.begin_round(range(look * looks.size, most))
            if not num_tasks:
                break
            bar.expect(num_tasks)
            # All may fail in a later round, where few points are left.
            rollouts = runtime.roll_out_all(trial.tasks(), bar, may_all_fail=look > 0)
            async with (
                aclosing(rollouts) as continuations,
                aclosing(run.judge(trial.graded(continuations))) as rows,
            ):
                async for row in rows:
                    trial.add(row)
                    bar.grade(is_correct=is_right(row, settings.right_by))


@dataclass(slots=True)
class _ArmTally:
    """What is known of an arm at an open point."""

    sample: ArmSample = field(default_factory=ArmSample)
    num_sound: int = 0
    """Continuations that ended soundly, on the arm or not."""
    first: dict[bool, int] = field(default_factory=dict)
    """Where the first right (True) and the first wrong continuation are kept."""


class _Place(NamedTuple):
    """A continuation of a round."""

    number: int
    """Of its fork."""
    fork: Fork
    arm: Arm
    k: int
    is_last: bool
    """Whether it is the last one of its fork in this round."""


class Trial:
    """The open points of a run, with a few numbers and at most four kept continuations each."""

    def __init__(
        self,
        forks: Spool[Fork],
        kept: Spool[GradedTrajectory],
        settings: BranchParams,
        run: ForkRun,
        results: ResultWriter,
    ) -> None:
        """Open all points of `forks`; `kept` holds what may become a side of a pair."""
        self._forks = forks
        self._kept = kept
        self._num_kept = 0
        self._settings = settings
        self._confidence = plan_looks(settings).confidence
        self._run = run
        self._results = results
        self._ks = range(0)
        self._open = list(range(len(forks)))
        """The forks of this round."""
        self._still_open = self._open
        """Those of the next one."""
        self._tallies: dict[int, dict[Arm, _ArmTally]] = {}
        self._expected: Iterator[_Place] = iter(())

    @property
    def _tries_both(self) -> bool:
        return self._settings.arms is ArmChoice.BOTH

    def begin_round(self, ks: range) -> int:
        """Expect the continuations `ks` of each open point; return their number."""
        self._ks = ks
        self._open = self._still_open
        self._still_open = []
        self._expected = self._places()
        num_arms = len(Arm) if self._tries_both else 1
        return len(self._open) * num_arms * len(ks)

    def tasks(self) -> Iterator[Task]:
        """Make the tasks of the round."""
        for place in self._places():
            yield fork_task(place.fork, place.k, self._run, place.arm)

    def _places(self) -> Iterator[_Place]:
        for number in self._open:
            fork = self._forks.get(number)
            arms = list(Arm) if self._tries_both else [fork.arm]
            for arm in arms:
                for k in self._ks:
                    is_last = arm is arms[-1] and k == self._ks[-1]
                    yield _Place(number, fork, arm, k, is_last)

    async def graded(
        self, continuations: AsyncIterator[Trajectory]
    ) -> AsyncIterator[GradedTrajectory]:
        """Grade the continuations of the round, which come in the order of its tasks."""
        places = self._places()
        async for continuation in continuations:
            yield grade_like(next(places).fork.parent, continuation)

    def add(self, row: GradedTrajectory) -> None:
        """Write and count the next continuation; the last one of a point is followed by a look."""
        self._results.write_fork(row)
        place = next(self._expected)
        if place.number not in self._tallies:
            tallies = {arm: _ArmTally() for arm in Arm}
            if not self._tries_both:
                # The parent is the one sample of its own arm.
                is_parent_right = self._is_parent_right(place.fork)
                own = Arm.THINK if place.fork.arm is Arm.ACT else Arm.ACT
                parent = ArmSample(1, int(is_parent_right))
                tallies[own] = _ArmTally(parent, 1, {is_parent_right: _PARENT})
            self._tallies[place.number] = tallies
        tally = self._tallies[place.number][place.arm]
        is_correct = is_right(row, self._settings.right_by)
        if is_correct is not None and is_sound(row):
            tally.num_sound += 1
            if takes_arm(row, place.fork, place.arm):
                tally.sample = add_to_sample(tally.sample, row, place.fork, is_correct=is_correct)
                # The first right and the first wrong continuation of an arm are kept.
                if is_correct not in tally.first:
                    tally.first[is_correct] = self._num_kept
                    self._kept.put(self._num_kept, row)
                    self._num_kept += 1
        if place.is_last:
            self._look(place)

    def _is_parent_right(self, fork: Fork) -> bool:
        return bool(is_right(fork.parent, self._settings.right_by))

    def _look(self, place: _Place) -> None:
        """Close a point that is clear or has no budget left; others stay for the next round."""
        tallies = self._tallies[place.number]
        is_spent = self._ks[-1] + 1 >= self._settings.num_continuations
        worth: Worth | None = None
        outcome: PointOutcome | None
        if not all(tally.sample.num for tally in tallies.values()):
            outcome = None
            if is_spent:
                has_sound = all(tally.num_sound for tally in tallies.values())
                outcome = PointOutcome.OFF_ARM if has_sound else PointOutcome.UNSOUND
        elif self._tries_both:
            act, think = tallies[Arm.ACT].sample, tallies[Arm.THINK].sample
            worth = estimate_worth(act, think, self._settings.search_price, self._confidence)
            outcome = judge_worth(worth, self._settings.min_worth, is_spent=is_spent)
        else:
            outcome = PointOutcome.PAIRED
        if outcome is None:
            self._still_open.append(place.number)
            return
        pair = None
        if outcome is PointOutcome.PAIRED:
            pair = self._pair(place.fork, tallies, worth)
            if pair is None:
                outcome = PointOutcome.SAME_OUTCOME
        fork = place.fork
        tried = tallies[fork.arm].sample  # continuations on the fork's arm
        point = Point(
            parent_id=fork.parent.trajectory.trajectory_id,
            point=fork.point,
            arm=fork.arm,
            outcome=outcome,
            parent_is_correct=self._is_parent_right(fork),
            num_continuations=tried.num,
            num_correct=tried.num_correct,
            pair_id=pair.pair_id if pair else "",
            way=fork.way,
            tool=fork.tool,
            chosen_by=fork.chosen_by,
            score=fork.score,
            cause=fork.cause,
            worth=worth,
        )
        self._results.write_point(point, pair)
        for tally in tallies.values():
            for number in tally.first.values():
                if number != _PARENT:
                    self._kept.take(number)
        del self._tallies[place.number]

    def _pair(
        self, fork: Fork, tallies: dict[Arm, _ArmTally], worth: Worth | None
    ) -> PreferencePair | None:
        """Pair a right continuation of the better arm with a wrong one of the other, if any.

        Without a worth the parent's arm is the better one where the parent is right.
        """
        if worth is not None:
            acting_is_better = worth.value > 0
        else:
            acting_is_better = self._is_parent_right(fork) == (fork.arm is Arm.THINK)
        better, worse = (Arm.ACT, Arm.THINK) if acting_is_better else (Arm.THINK, Arm.ACT)
        right = tallies[better].first.get(True)
        wrong = tallies[worse].first.get(False)
        if right is None or wrong is None:
            return None
        return _make_pair(
            fork,
            chosen=self._trajectory(fork, right),
            rejected=self._trajectory(fork, wrong),
            prompt=self._run.prompts[Arm.ACT],
            samples={arm: tally.sample for arm, tally in tallies.items()},
            worth=worth,
        )

    def _trajectory(self, fork: Fork, number: int) -> Trajectory:
        """Read a kept continuation, or take the parent."""
        row = fork.parent if number == _PARENT else self._kept.get(number)
        return row.trajectory


def _make_pair(
    fork: Fork,
    chosen: Trajectory,
    rejected: Trajectory,
    prompt: Prompt,
    samples: Mapping[Arm, ArmSample],
    worth: Worth | None = None,
) -> PreferencePair:
    """Make the pair of two continuations of a fork, or of one and its parent."""
    act, think = samples[Arm.ACT], samples[Arm.THINK]
    parent = fork.parent.trajectory
    return make_pair(
        parent,
        fork.point,
        chosen=chosen,
        rejected=rejected,
        prompt=prompt.fill(parent.question),
        act=ArmCount(act.num, act.num_correct),
        think=ArmCount(think.num, think.num_correct),
        by_turn=fork.by_turn,
        tool=fork.tool,
        worth=worth,
    )


def takes_arm(row: GradedTrajectory, fork: Fork, arm: Arm) -> bool:
    """Tell whether a continuation took an arm: on `act`, with the tool in question."""
    side = side_of(row.trajectory, fork.point)
    if arm_of(side, by_turn=fork.by_turn) is not arm:
        return False
    for step in side:
        if step.kind is StepKind.ACTION:
            return arm is Arm.THINK or step.tool == fork.tool
    return arm is Arm.THINK


def add_to_sample(
    sample: ArmSample, row: GradedTrajectory, fork: Fork, *, is_correct: bool
) -> ArmSample:
    """Count one more continuation into an arm's sample."""
    num_searches = 0
    for step in side_of(row.trajectory, fork.point):
        if step.kind is StepKind.ACTION and step.tool == SearchTool.name:
            num_searches += 1
    return ArmSample(
        num=sample.num + 1,
        num_correct=sample.num_correct + is_correct,
        num_searches=sample.num_searches + num_searches,
        # A fork's own tokens are those after the point: its prefix counts as prompt.
        num_tokens=sample.num_tokens + row.trajectory.num_policy_tokens,
    )


def mine_pair(row: GradedTrajectory, *settings: str) -> PreferencePair | None:
    """Mine one pair from Python (docs/daily_use.md).

    The trajectory is continued from the end of each of its sentences, with a call of search there.
    `coa branch` mines all pairs of a run, from both arms and with a budget.

    Args:
        row: A wrong trajectory of a policy that continues text, which did not act.
        settings: Settings that differ from params.yaml.

    Returns:
        The pair of the first continuation that ends right; None where none does.
    """
    prompts = load_prompts(Params.load("branch", settings))
    for point in thought_points(row.trajectory.steps):
        fork = Fork(row, point, Arm.ACT)
        task = fork_task(fork, 0, ForkRun(prompts))
        continued = grade_like(row, run_task(task, *settings))
        if is_sound(continued) and is_right(continued) and takes_arm(continued, fork, Arm.ACT):
            samples = {Arm.ACT: ArmSample(1, 1), Arm.THINK: ArmSample(1, 0)}
            return _make_pair(fork, continued.trajectory, row.trajectory, prompts[Arm.ACT], samples)
    return None
