"""Graded trajectories to preference pairs: fork at a point, take the other arm, keep what changes the outcome.

    python -m curate.branch

Reads data/grade.parquet, right and wrong rows alike. A trajectory that acted is continued from before an action without
the tool; one that only reasoned is continued from the end of a thought with the tool. A pair is kept when the grader
finds that exactly one of the two sides is right; both kinds of the paper come out (AutoCoA, section 3). Writes
data/branch/pairs.parquet, forks.parquet (every continuation, graded) and points.parquet (what became of every point).
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from coa import tables
from coa.factory import TeacherParams
from coa.files import BRANCHED, GRADED
from coa.graded import GradedTrajectory, grade_like, is_sound
from coa.interruption import run_interruptible
from coa.metrics import shown_stop_reasons, stop_reason_counts, write_metrics
from coa.pairs import Arm, ArmCount, PairKind, PreferencePair, arm_of, make_pair, side_of
from coa.params import Params
from coa.points import Point, PointOutcome
from coa.progress import Progress
from coa.prompts import Prompt, PromptParams
from coa.ranking import seeded_rank
from coa.rollout import Task
from coa.runtime import JOURNALS, open_runtime
from coa.spool import Spool
from coa.trajectory import StopReason
from curate.forks import action_points, fork_task, thought_points
from curate.strata import Stratum, divide_evenly

OUT = BRANCHED


@dataclass(frozen=True, slots=True)
class BranchParams:
    """Where and how often to fork."""

    max_parents: dict[PairKind, int] = field(
        default_factory=lambda: {PairKind.ACT_IS_BETTER: 3000, PairKind.THINK_IS_BETTER: 3000}
    )
    """Trajectories to fork in the hope of each kind of pair, spread evenly over those that acted and those that did
    not. Acting helps more often than it harms, so the second kind needs more parents."""
    points_per_trajectory: int = 1
    """Points forked in each of them, where it has so many."""
    num_continuations: int = 1
    """Continuations of the other arm at each point."""
    cue: str = r"(?i)\b(need|find|look|search|check|sure|remember|recall|maybe|perhaps|wonder|who|when|where|which)\b"
    """Regular expression: a sentence with it is a place where a policy that reasoned on might have acted."""
    seed: int = 0
    """Chooses trajectories and points."""


@dataclass(frozen=True, slots=True)
class Fork:
    """A parent, a point in it, and the arm that it did not take there."""

    parent: GradedTrajectory
    point: int
    arm: Arm


def choose_parents(path: Path, params: BranchParams) -> set[str]:
    """Ids of the trajectories to fork: for each kind of pair evenly from those that acted and those that did not."""
    trajectory = pl.col("trajectory").struct
    rows = pl.scan_parquet(path).select(
        id=trajectory.field("trajectory_id"),
        acted=trajectory.field("num_actions") > 0,
        correct=pl.col("grade").struct.field("exact_match"),
    )
    ids: dict[PairKind, dict[Stratum, list[str]]] = {kind: {} for kind in PairKind}
    for name, acted, correct in rows.collect().iter_rows():
        ids[expected_pair_kind(acted=acted, correct=correct)].setdefault((acted,), []).append(name)
    chosen: set[str] = set()
    for kind, groups in ids.items():
        sizes = {group: len(names) for group, names in groups.items()}
        for group, size in divide_evenly(sizes, params.max_parents.get(kind, 0)).items():
            chosen.update(
                sorted(groups[group], key=lambda name: seeded_rank(name, params.seed, "parent"))[
                    :size
                ]
            )
    return chosen


def expected_pair_kind(*, acted: bool, correct: bool) -> PairKind:
    """The kind of pair that a parent makes if its other arm ends differently."""
    return PairKind.ACT_IS_BETTER if acted == correct else PairKind.THINK_IS_BETTER


def forks_of(row: GradedTrajectory, params: BranchParams) -> list[Fork]:
    """Points of one trajectory and the arm to try there, chosen by the seed; none where it has no such point.

    A trajectory that ended by accident (cut off, tags broken) is not forked: its outcome says nothing about acting.
    """
    if not is_sound(row):
        return []
    steps = row.trajectory.steps
    acted = action_points(steps)
    arm, points = (
        (Arm.THINK, acted) if acted else (Arm.ACT, thought_points(steps, re.compile(params.cue)))
    )
    ranked = sorted(
        points,
        key=lambda point: seeded_rank(
            f"{row.trajectory.trajectory_id}/{point}", params.seed, "point"
        ),
    )
    return [Fork(row, point, arm) for point in sorted(ranked[: params.points_per_trajectory])]


def resolve_fork(
    fork: Fork, continuations: Sequence[GradedTrajectory], prompt: Prompt
) -> tuple[Point, PreferencePair | None]:
    """Tell what became of a point, and make the pair where an outcome differs.

    Only continuations that took the fork's arm count; the first of them that ended differently is the other side.
    `prompt` is the one that offers the tool.
    """
    parent = fork.parent
    sound = [row for row in continuations if is_sound(row)]
    on_arm = [row for row in sound if arm_of(side_of(row.trajectory, fork.point)) is fork.arm]
    other = next((row for row in on_arm if row.grade.exact_match != parent.grade.exact_match), None)
    tried = ArmCount(len(on_arm), sum(row.grade.exact_match for row in on_arm))
    pair = _pair(fork, other, tried, prompt) if other else None
    if pair:
        outcome = PointOutcome.PAIRED
    elif on_arm:
        outcome = PointOutcome.SAME_OUTCOME
    else:
        outcome = PointOutcome.OFF_ARM if sound else PointOutcome.UNSOUND
    point = Point(
        parent_id=parent.trajectory.trajectory_id,
        point=fork.point,
        arm=fork.arm,
        outcome=outcome,
        parent_is_correct=parent.grade.exact_match,
        num_continuations=tried.total,
        num_correct=tried.correct,
        pair_id=pair.pair_id if pair else "",
    )
    return point, pair


def _pair(fork: Fork, other: GradedTrajectory, tried: ArmCount, prompt: Prompt) -> PreferencePair:
    parent = fork.parent
    own = ArmCount(1, int(parent.grade.exact_match))
    act, think = (tried, own) if fork.arm is Arm.ACT else (own, tried)
    chosen = parent if parent.grade.exact_match else other
    text = prompt.fill(parent.trajectory.question)
    sides = (parent.trajectory, other.trajectory)
    return make_pair(
        *sides, fork.point, chosen=chosen.trajectory, prompt=text, act=act, think=think
    )


@dataclass(frozen=True, slots=True)
class Tables:
    """The three files of the stage."""

    pairs: tables.TableWriter
    forks: tables.TableWriter
    points: tables.TableWriter


@dataclass(slots=True)
class Totals:
    """What a run adds up to."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of points by outcome, and of pairs by kind."""
    stop_reasons: Counter[StopReason] = field(default_factory=Counter)
    """Of the continuations."""


async def branch(forks: Iterable[Fork], params: Params, out: Tables) -> tuple[Totals, str]:
    """Roll out every fork's continuations and settle it as soon as they are there.

    The forks are written to a spool first: so their number is known, and those whose continuations
    are still to come take no memory.
    """
    settings, prompts = params.section(BranchParams), load_prompts(params)
    totals = Totals()

    def tasks(chosen: Spool[Fork]) -> Iterator[Task]:
        for number in range(len(chosen)):
            fork = chosen.get(number)
            for k in range(settings.num_continuations):
                yield fork_task(fork.parent.trajectory, fork.point, fork.arm, k, prompts[fork.arm])

    group: list[GradedTrajectory] = []
    with Spool(Fork, JOURNALS) as chosen:
        for number, fork in enumerate(forks):
            chosen.put(number, fork)
        async with open_runtime(params, "branch") as runtime:
            encoder = runtime.run.encoder
            prompts = {arm: prompt.for_policy(encoder) for arm, prompt in prompts.items()}
            num_continuations = len(chosen) * settings.num_continuations
            with Progress("branch", num_continuations, "continuations") as bar:
                async with aclosing(runtime.roll_out_all(tasks(chosen), bar)) as rollouts:
                    async for trajectory in rollouts:
                        fork = chosen.get(out.points.num_rows)
                        row = grade_like(fork.parent, trajectory)
                        out.forks.write(row)
                        group.append(row)
                        totals.stop_reasons[trajectory.stop_reason] += 1
                        bar.grade(is_correct=row.grade.exact_match)
                        if len(group) == settings.num_continuations:
                            settled = resolve_fork(fork, group, prompts[Arm.ACT])
                            totals.counts.update(_write_settled(*settled, out))
                            group = []
            return totals, runtime.journal_summary


def _write_settled(point: Point, pair: PreferencePair | None, out: Tables) -> list[str]:
    """Write what became of one fork; returns what to count."""
    out.points.write(point)
    if pair is None:
        return [point.outcome]
    out.pairs.write(pair)
    return [point.outcome, pair.kind]


def load_prompts(params: Params) -> dict[Arm, Prompt]:
    """The prompt of each arm: with the tool or without it."""
    files, template = (
        params.section(PromptParams, "prompts"),
        params.section(TeacherParams, "teacher").chat_template,
    )
    return {
        arm: Prompt.load(Path(file), template)
        for arm, file in ((Arm.ACT, files.coa), (Arm.THINK, files.cot))
    }


def main(arguments: Sequence[str]) -> str:
    """Fork, continue, pair; the summary line is returned."""
    params = Params.load("branch", arguments)
    settings = params.section(BranchParams)
    chosen = choose_parents(GRADED, settings)
    rows = (
        row
        for row in tables.read_table(GRADED, GradedTrajectory)
        if row.trajectory.trajectory_id in chosen
    )
    forks = (fork for row in rows for fork in forks_of(row, settings))
    with (
        tables.TableWriter(OUT / "pairs.parquet", PreferencePair) as pairs,
        tables.TableWriter(OUT / "forks.parquet", GradedTrajectory) as continuations,
        tables.TableWriter(OUT / "points.parquet", Point) as points,
    ):
        out = Tables(pairs, continuations, points)
        totals, saved = run_interruptible(branch(forks, params, out))
    counts = totals.counts
    metrics: dict[str, object] = {str(name): counts[name] for name in (*PairKind, *PointOutcome)}
    metrics["stop_reasons"] = stop_reason_counts(totals.stop_reasons)
    write_metrics("branch", {"parents": len(chosen), "points": points.num_rows, **metrics})
    kinds = ", ".join(f"{counts[kind]:,} {kind}" for kind in PairKind)
    found = f"{pairs.num_rows:,} pairs of {points.num_rows:,} points ({kinds})"
    return f"{OUT}: {found}; {shown_stop_reasons(totals.stop_reasons)}; {saved}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
