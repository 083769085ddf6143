"""Measure how well the worth of acting tells unknown facts from known ones, and at what cost.

    python -m bench.worth                              # the default world
    python -m bench.worth conf/microworld_priced.yaml  # a world in which deciding matters

The scripted teacher answers train questions. At one point of each rollout, where it says which fact
it needs, both arms are continued, free after the decision. Whether the teacher remembers that fact
is known. The first table is the area under the curve with which the worth, from K continuations of
each arm, separates unknown from known facts. The second compares rounds that stop early with a
fixed number of continuations by the same rule; the sign is judged by fresh continuations.
"""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bench.deciding import PRICE, PricedWorld, load
from coa.microworld.teacher import Teacher
from coa.microworld.world import make_world
from coa.policy.prompts import Prompt, PromptParams
from coa.policy.scripted import ScriptedPolicy
from coa.records.graded import GradedTrajectory, grade_like, grade_trajectory, is_sound
from coa.records.pairs import Arm
from coa.records.protocol import render
from coa.records.ranking import seeded_rank
from coa.records.trajectory import Mode, Trajectory
from coa.records.worth import ArmSample, Worth, estimate_worth
from coa.rollout.drivers import roll_out_all
from coa.rollout.forks import ArmChoice, BranchParams
from coa.rollout.loop import RolloutContext, Task
from coa.rollout.points import PointOutcome
from coa.rollout.tasks import make_task
from coa.search.tool import SearchTool
from coa.settings.params import Params
from curate.forks.arms import add_to_sample, judge_worth, plan_looks, takes_arm
from curate.forks.choice import Fork, thought_points
from curate.forks.tasks import ForkRun, fork_task

NUM_QUESTIONS = 300
SIZES = (4, 8, 16, 32)
"""Continuations of each arm."""
NUM_FRESH = 64
"""Further continuations of each arm, which say what acting is really worth."""
SETTINGS = BranchParams(arms=ArmChoice.BOTH, num_continuations=SIZES[-1], search_price=PRICE)
FIXED = replace(SETTINGS, first_continuations=SIZES[-1])
_NEED = re.compile(r"I need the (?P<relation>[^.]+?) of (?P<entity>[^.]+)\.$")


@dataclass(frozen=True, slots=True)
class Decision:
    """A point where the teacher needs a fact, and what continuations of both arms came to."""

    fork: Fork
    is_known: bool
    """Whether the teacher remembers the fact."""
    arms: dict[Arm, list[ArmSample]] = field(default_factory=lambda: {arm: [] for arm in Arm})
    """A sample of one for each continuation, or of none where it does not count."""

    def worth(self, start: int, end: int, confidence: float) -> Worth:
        """Estimate the worth of acting from some of the continuations."""
        act = _join(self.arms[Arm.ACT][start:end])
        think = _join(self.arms[Arm.THINK][start:end])
        return estimate_worth(act, think, PRICE, confidence)


def _join(samples: Sequence[ArmSample]) -> ArmSample:
    return ArmSample(
        sum(sample.num for sample in samples),
        sum(sample.num_correct for sample in samples),
        sum(sample.num_searches for sample in samples),
        sum(sample.num_tokens for sample in samples),
    )


class DecidingTeacher:
    """A profile's teacher with its tools, and what it remembers."""

    def __init__(self, params: Params, num_questions: int) -> None:
        self._world = PricedWorld(params, num_questions)
        microworld = self._world.microworld
        self._teacher = Teacher(make_world(microworld.world), settings=microworld.teacher)
        policy = ScriptedPolicy(self._teacher.write)
        self._policy = policy
        self._run = RolloutContext(policy, self._world.teacher.sampling, self._world.limits)
        files = params.section(PromptParams, "prompts")
        template = self._world.teacher.chat_template
        prompts = {
            Arm.ACT: Prompt.load(Path(files.coa), template),
            Arm.THINK: Prompt.load(Path(files.cot), template),
        }
        self._forks = ForkRun(prompts, tuple(self._world.tools))

    def _roll_out(self, tasks: Iterator[Task]) -> AsyncIterator[Trajectory]:
        return roll_out_all(tasks, self._run, self._policy, self._world.tools, concurrency=1)

    async def decisions(self, num_continuations: int) -> list[Decision]:
        """Find a decision in each rollout that has one, and continue both arms there."""
        found = await self._find()
        tasks = self._tasks(found, num_continuations)
        continuations = self._roll_out(tasks)
        for decision in found:
            for arm in Arm:
                for _ in range(num_continuations):
                    continuation = await anext(continuations)
                    decision.arms[arm].append(_sample(decision.fork, arm, continuation))
        return found

    def _tasks(self, decisions: Sequence[Decision], num_continuations: int) -> Iterator[Task]:
        for decision in decisions:
            for arm in Arm:
                for k in range(num_continuations):
                    yield fork_task(decision.fork, k, self._forks, arm)

    async def _find(self) -> list[Decision]:
        questions = iter(self._world.questions)
        found = []
        async for trajectory in self._roll_out(self._first_tasks()):
            row = grade_trajectory(trajectory, next(questions))
            decision = self._choose(row) if is_sound(row) else None
            if decision is not None:
                found.append(decision)
        return found

    def _first_tasks(self) -> Iterator[Task]:
        prompt = self._forks.prompts[Arm.ACT]
        for question in self._world.questions:
            yield make_task(
                question.question_id, question.question, Mode.COA, 0, prompt, self._forks.tools
            )

    def _choose(self, row: GradedTrajectory) -> Decision | None:
        """Choose one point where the rollout says which fact of the world it needs."""
        text = render(row.trajectory.steps)
        known: dict[int, bool] = {}
        for point in thought_points(row.trajectory.steps, re.compile("I need the ")):
            need = _NEED.search(text, 0, point)
            key = (need["entity"], need["relation"]) if need else ("", "")
            if key in self._teacher.world.facts:
                known[point] = key in self._teacher.memory
        if not known:
            return None
        name = row.trajectory.trajectory_id
        point = min(known, key=lambda point: seeded_rank(f"{name}/{point}", 0, "point"))
        return Decision(Fork(row, point, Arm.ACT, tool=SearchTool.name), known[point])


def _sample(fork: Fork, arm: Arm, continuation: Trajectory) -> ArmSample:
    row = grade_like(fork.parent, continuation)
    if is_sound(row) and takes_arm(row, fork, arm):
        return add_to_sample(ArmSample(), row, fork, is_correct=bool(row.grade.exact_match))
    return ArmSample()


class Area(NamedTuple):
    """An area under the curve with its 95% bootstrap interval."""

    value: float
    low: float
    high: float


def separation(decisions: Sequence[Decision], size: int) -> Area:
    """Return the area under the curve of the worth from `size` continuations of each arm."""
    from scipy.stats import bootstrap

    unknown = []
    known = []
    for decision in decisions:
        value = decision.worth(0, size, SETTINGS.confidence).value
        (known if decision.is_known else unknown).append(value)
    found = bootstrap(
        (unknown, known), _area, n_resamples=1_000, vectorized=False, method="percentile", rng=0
    )
    interval = found.confidence_interval
    return Area(_area(unknown, known), float(interval.low), float(interval.high))


def _area(unknown: Sequence[float], known: Sequence[float]) -> float:
    """Return the probability that an unknown fact is worth more; ties count half."""
    from scipy.stats import mannwhitneyu

    u = mannwhitneyu(unknown, known).statistic
    return float(u) / (len(unknown) * len(known))


@dataclass(slots=True)
class Yield:
    """What a rule keeps, and what it takes."""

    num_continuations: int = 0
    num_pairs: int = 0
    num_right: int = 0
    """Pairs whose sign is that of the fresh continuations."""


def kept_pairs(decisions: Sequence[Decision], settings: BranchParams) -> Yield:
    """Apply the rule of `curate.branch` to continuations that are there already."""
    looks = plan_looks(settings)
    total = Yield()
    for decision in decisions:
        for look in range(looks.number):
            most = min((look + 1) * looks.size, settings.num_continuations)
            worth = decision.worth(0, most, looks.confidence)
            is_spent = look == looks.number - 1
            outcome = judge_worth(worth, settings.min_worth, is_spent=is_spent)
            if outcome is not None:
                break
        total.num_continuations += len(Arm) * most
        if outcome is PointOutcome.PAIRED:
            fresh = decision.worth(SIZES[-1], SIZES[-1] + NUM_FRESH, settings.confidence)
            total.num_pairs += 1
            total.num_right += (fresh.value > 0) == (worth.value > 0)
    return total


def main(profiles: Sequence[str]) -> None:
    """Print both tables."""
    teacher = DecidingTeacher(load(profiles), NUM_QUESTIONS)
    decisions = asyncio.run(teacher.decisions(SIZES[-1] + NUM_FRESH))
    num_known = sum(decision.is_known for decision in decisions)
    print(f"{len(decisions)} points, {num_known} of them at known facts\n")
    print("| continuations of each arm | area under the curve |")
    print("|---|---|")
    for size in SIZES:
        area = separation(decisions, size)
        print(f"| {size} | {area.value:.3f} [{area.low:.3f}, {area.high:.3f}] |")
    print("\n| rule | pairs | continuations a pair | right sign |")
    print("|---|---|---|---|")
    for title, settings in (("rounds of 4, up to 32", SETTINGS), ("always 32", FIXED)):
        kept = kept_pairs(decisions, settings)
        pairs = max(kept.num_pairs, 1)
        print(
            f"| {title} | {kept.num_pairs} | {kept.num_continuations / pairs:.1f} "
            f"| {kept.num_right / pairs:.1%} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
