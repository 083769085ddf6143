"""Make preference pairs: fork graded trajectories and keep the forks that change the outcome.

    python -m curate.branch

Reads data/grade.parquet, right and wrong rows alike. A trajectory that acted is continued from
before an action without the tool; one that only reasoned is continued from the end of a thought
with the tool. The teacher writes the forks, or the policy of `branch.policy`. A pair is kept when
the grader finds that exactly one of the two sides is right, so both kinds of the paper come out
(AutoCoA, section 3). Writes data/branch/pairs.parquet, forks.parquet (every continuation, graded)
and points.parquet (what became of every point); `graded=` and `out=` name others.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from coa import tables
from coa.forking import (
    BranchParams,
    family_of,
    forking_policy,
    load_prompts,
    require_forks,
)
from coa.graded import GradedTrajectory, grade_like, is_sound
from coa.interruption import run_interruptible
from coa.metrics import shown_stop_reasons, stop_reason_counts, write_metrics
from coa.outputs import check_folder, journal_name, metrics_name
from coa.pairs import Arm, ArmCount, PairKind, PreferencePair, arm_of, make_pair, side_of
from coa.params import Params
from coa.points import Point, PointOutcome
from coa.policy.chat_families import ChatFamily
from coa.policy.chat_record import Unforkable
from coa.progress import Progress
from coa.prompts import Prompt
from coa.rollout import Task
from coa.runtime import JOURNALS, Runtime, open_runtime
from coa.spool import Spool
from coa.trajectory import StopReason, Trajectory
from curate.fork_choice import Fork, Refused, choose_parents, find_forks, shown_refused
from curate.forks import fork_task


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
        side = side_of(row.trajectory, fork.point)
        if arm_of(side, by_turn=fork.by_turn) is not fork.arm:
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
    point = Point(
        parent_id=parent.trajectory.trajectory_id,
        point=fork.point,
        arm=fork.arm,
        outcome=outcome,
        parent_is_correct=parent.grade.exact_match,
        num_continuations=tried.total,
        num_correct=tried.correct,
        pair_id=pair.pair_id if pair else "",
        way=fork.way,
    )
    return point, pair


def _pair(fork: Fork, other: GradedTrajectory, tried: ArmCount, prompt: Prompt) -> PreferencePair:
    """Make the pair of a fork's parent and the continuation that ended differently."""
    parent = fork.parent
    own = ArmCount(1, int(parent.grade.exact_match))
    is_acting = fork.arm is Arm.ACT
    chosen = parent if parent.grade.exact_match else other
    return make_pair(
        parent.trajectory,
        other.trajectory,
        fork.point,
        chosen=chosen.trajectory,
        prompt=prompt.fill(parent.trajectory.question),
        act=tried if is_acting else own,
        think=own if is_acting else tried,
        by_turn=fork.by_turn,
    )


@dataclass(frozen=True, slots=True)
class Tables:
    """The three files of the stage."""

    pairs: tables.TableWriter
    forks: tables.TableWriter
    points: tables.TableWriter


@dataclass(slots=True)
class Totals:
    """The counts of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Points by outcome, and pairs by kind."""
    stop_reasons: Counter[StopReason] = field(default_factory=Counter)
    """Continuations by stop reason."""
    costs: Mapping[str, float | None] = field(default_factory=dict)
    """What the continuations cost, whenever it was paid."""
    server: Mapping[str, object] = field(default_factory=dict)
    """What the teacher's server was seen to do, as metrics."""


class ForkResults:
    """A grader and writer of continuations, which settles each fork once its last one is there.

    Continuations come fork by fork, in the order of the forks.
    """

    def __init__(
        self, forks: Spool[Fork], num_continuations: int, tool_prompt: Prompt, out: Tables
    ) -> None:
        """Expect `num_continuations` of each fork; `tool_prompt` offers the tool."""
        self.totals = Totals()
        self._forks = forks
        self._num_continuations = num_continuations
        self._tool_prompt = tool_prompt
        self._out = out
        self._group: list[GradedTrajectory] = []

    def add(self, continuation: Trajectory) -> GradedTrajectory:
        """Grade and write the next continuation, and return it."""
        fork = self._forks.get(self._out.points.num_rows)
        row = grade_like(fork.parent, continuation)
        self._out.forks.write(row)
        self._group.append(row)
        self.totals.stop_reasons[continuation.stop_reason] += 1
        if len(self._group) == self._num_continuations:
            self._settle(fork)
        return row

    def _settle(self, fork: Fork) -> None:
        """Write what became of a fork, all of whose continuations are there."""
        point, pair = resolve_fork(fork, self._group, self._tool_prompt)
        self._group = []
        self._out.points.write(point)
        self.totals.counts[point.outcome] += 1
        if pair is not None:
            self._out.pairs.write(pair)
            self.totals.counts[pair.kind] += 1


async def branch(forks: Iterable[Fork], params: Params, out: Tables) -> tuple[Totals, str]:
    """Roll out every fork's continuations and settle it as soon as they are there.

    The forks are written to a spool first: so their number is known, and those whose continuations
    are still to come take no memory.

    Returns:
        The counts of the run, and what its journal saved.
    """
    settings = params.section(BranchParams)
    prompts = load_prompts(params)
    with Spool(Fork, JOURNALS) as spool:
        for number, fork in enumerate(forks):
            spool.put(number, fork)
        policy = forking_policy(params)
        journal = journal_name(settings.out)
        async with open_runtime(params, journal, teacher=policy) as runtime:
            encoder = runtime.run.encoder
            encoded_prompts: dict[Arm, Prompt] = {}
            for arm, prompt in prompts.items():
                encoded_prompts[arm] = prompt.for_policy(encoder)
            results = ForkResults(spool, settings.num_continuations, encoded_prompts[Arm.ACT], out)
            family = family_of(policy)
            tasks = _tasks(spool, settings.num_continuations, encoded_prompts, family)
            await _roll_out(runtime, tasks, len(spool) * settings.num_continuations, results)
            results.totals.costs = runtime.ledger.used.metrics()
            results.totals.server = runtime.server_metrics
            return results.totals, runtime.journal_summary


def _tasks(
    forks: Spool[Fork],
    num_continuations: int,
    prompts: Mapping[Arm, Prompt],
    family: ChatFamily | None,
) -> Iterator[Task]:
    """Make the tasks that continue each fork, one fork after the other."""
    for number in range(len(forks)):
        fork = forks.get(number)
        prompt = prompts[fork.arm]
        for k in range(num_continuations):
            parent = fork.parent.trajectory
            yield fork_task(parent, fork.point, fork.arm, k, prompt, fork.way, family)


async def _roll_out(
    runtime: Runtime, tasks: Iterator[Task], num_tasks: int, results: ForkResults
) -> None:
    """Roll out the tasks and pass the continuations to `results` in the order of the tasks."""
    with Progress("branch", num_tasks, "continuations") as bar:
        async with aclosing(runtime.roll_out_all(tasks, bar)) as continuations:
            async for continuation in continuations:
                row = results.add(continuation)
                bar.grade(is_correct=row.grade.exact_match)


def main(arguments: Sequence[str]) -> str:
    """Fork, continue and pair; return the summary line."""
    params = Params.load("branch", arguments)
    settings = params.section(BranchParams)
    check_folder(settings.out)
    graded = Path(settings.graded)
    folder = Path(settings.out)
    name = metrics_name(settings.out)  # refuses a bad `out` before anything is written
    policy = forking_policy(params)
    require_forks(policy)
    family = family_of(policy)
    parents = choose_parents(graded, settings)
    refused = Refused()
    forks = find_forks(graded, parents, settings, family, refused)
    with (
        tables.TableWriter(folder / "pairs.parquet", PreferencePair) as pairs,
        tables.TableWriter(folder / "forks.parquet", GradedTrajectory) as continuations,
        tables.TableWriter(folder / "points.parquet", Point) as points,
    ):
        out = Tables(pairs, continuations, points)
        totals, saved = run_interruptible(branch(forks, params, out))
    counts = totals.counts
    metrics: dict[str, object] = {"parents": len(parents), "points": points.num_rows}
    for counted in (*PairKind, *PointOutcome):
        metrics[str(counted)] = counts[counted]
    if family is not None:
        metrics["unforkable"] = {str(reason): refused[reason] for reason in Unforkable}
    metrics["stop_reasons"] = stop_reason_counts(totals.stop_reasons)
    metrics["costs"] = totals.costs
    metrics |= totals.server
    write_metrics(name, metrics)
    if not points.num_rows:
        why = "no trajectory was chosen as a parent"
        if parents:
            why = f"none of {len(parents):,} parents has a point to fork"
        return f"{folder}: no pairs, because {why}"
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in PairKind)
    found = f"{pairs.num_rows:,} pairs of {points.num_rows:,} points ({kinds})"
    if refused:
        found += f"; {shown_refused(refused)}"
    return f"{folder}: {found}; {shown_stop_reasons(totals.stop_reasons)}; {saved}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
