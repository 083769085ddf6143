"""Choose the trajectories to fork, and the points at which the policy can fork them.

A policy of raw completions can go on from any character. A chat policy can do what its server can,
from what the record holds; the points that it cannot fork are counted by reason.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from coa import protocol, tables
from coa.errors import ConfigError
from coa.forking import BranchParams, first_turns, way_to
from coa.graded import GradedTrajectory, is_sound
from coa.pairs import Arm, PairKind
from coa.policy.chat_families import ChatFamily, ForkWay
from coa.policy.chat_record import Unforkable, UnforkableError
from coa.ranking import seeded_rank
from coa.trajectory import Step
from curate.forks import fork_points, tool_at
from curate.strata import Stratum, divide_evenly


@dataclass(frozen=True, slots=True)
class Fork:
    """A parent, a point in it, and the arm that it did not take there."""

    parent: GradedTrajectory
    point: int
    arm: Arm
    way: ForkWay = ForkWay.TEXT
    """How the policy is made to take it."""
    tool: str = "search"
    """The tool in question: one arm calls it there, the other does not."""

    @property
    def by_turn(self) -> bool:
        """Return whether arms are those of whole turns: a chat policy thinks before it acts."""
        return self.way is not ForkWay.TEXT


Refused = Counter[Unforkable]
"""Points that the policy cannot fork, by reason."""


def choose_parents(path: Path, params: BranchParams) -> set[str]:
    """Choose the trajectories to fork and return their ids.

    For each kind of pair they are taken evenly from those that acted and those that did not.
    Imported ones are not forked: the teacher did not write them, and their licence binds a pair.
    """
    trajectory = pl.col("trajectory").struct
    is_own = trajectory.field("sampling").struct.field("temperature") >= 0
    rows = (
        pl.scan_parquet(path)
        .filter(is_own)
        .select(
            id=trajectory.field("trajectory_id"),
            acted=trajectory.field("num_actions") > 0,
            correct=pl.col("grade").struct.field("exact_match"),
        )
    )
    ids: dict[PairKind, dict[Stratum, list[str]]] = {kind: {} for kind in PairKind}
    for trajectory_id, acted, correct in rows.collect().iter_rows():
        kind = expected_pair_kind(acted=acted, correct=correct)
        ids[kind].setdefault((acted,), []).append(trajectory_id)

    def rank(trajectory_id: str) -> str:
        return seeded_rank(trajectory_id, params.seed, "parent")

    chosen: set[str] = set()
    for kind, groups in ids.items():
        sizes = {group: len(members) for group, members in groups.items()}
        shares = divide_evenly(sizes, params.max_parents.get(kind, 0))
        for group, share in shares.items():
            ranked = sorted(groups[group], key=rank)
            chosen.update(ranked[:share])
    return chosen


def expected_pair_kind(*, acted: bool, correct: bool) -> PairKind:
    """Tell which kind of pair a parent makes if its other arm ends differently."""
    return PairKind.ACT_IS_BETTER if acted == correct else PairKind.THINK_IS_BETTER


def forks_of(
    row: GradedTrajectory,
    params: BranchParams,
    family: ChatFamily | None = None,
    refused: Refused | None = None,
) -> list[Fork]:
    """Choose, by the seed, the points of one trajectory to fork and the arm to try there.

    A trajectory without a fitting point gives none. One that ended by accident (cut off, tags
    broken) is not forked either: its outcome says nothing about acting. A chat policy with a server
    of the given `family` cannot go on from every point; those that it cannot are counted in
    `refused`.
    """
    if not is_sound(row):
        return []
    refused = Refused() if refused is None else refused
    steps = row.trajectory.steps
    arm = Arm.THINK if protocol.action_indices(steps) else Arm.ACT
    way = way_to(arm, family)
    found: set[int] = set()
    for cue in (params.cue, *params.tool_cues.values()):
        found.update(fork_points(steps, arm, way or ForkWay.TEXT, re.compile(cue)))
    points = sorted(found)
    if way is None:
        refused[Unforkable.NO_WAY] += len(points)
        return []
    if family is not None:
        points = _forkable(steps, points, arm, way, family, refused)

    def rank(point: int) -> str:
        return seeded_rank(f"{row.trajectory.trajectory_id}/{point}", params.seed, "point")

    chosen = sorted(points, key=rank)[: params.points_per_trajectory]
    forks = []
    for point in sorted(chosen):
        forks.append(Fork(row, point, arm, way, tool_at(steps, point, params.tool_cues)))
    return forks


def _forkable(
    steps: Sequence[Step],
    points: Sequence[int],
    arm: Arm,
    way: ForkWay,
    family: ChatFamily,
    refused: Refused,
) -> list[int]:
    """Return the points from which a chat policy can go on exactly, and count the others."""
    found = []
    for point in points:
        prefix, _ = protocol.split_at(steps, point)
        try:
            first_turns(prefix, arm, way, family)
        except UnforkableError as error:
            refused[error.reason] += 1
        else:
            found.append(point)
    return found


def find_forks(
    path: Path,
    parents: set[str],
    params: BranchParams,
    family: ChatFamily | None,
    refused: Refused,
) -> Iterator[Fork]:
    """Find the forks of the chosen trajectories of a graded table, in its order.

    Raises:
        ConfigError: There are none, because the policy cannot fork any of the points.
    """
    num_forks = 0
    for row in tables.read_table(path, GradedTrajectory):
        if row.trajectory.trajectory_id in parents:
            for fork in forks_of(row, params, family, refused):
                num_forks += 1
                yield fork
    if refused and not num_forks:
        raise ConfigError(
            "the chat policy can fork none of the points, so there are no pairs",
            where="branch.policy, or teacher",
            got=shown_refused(refused),
            fix="fork with a model behind raw completions (branch.policy and branch.prompts, "
            "docs/teachers.md), or set assemble.num_cot_a: 0",
        )


def shown_refused(refused: Refused) -> str:
    """Return the numbers of points that the policy cannot fork, for people."""
    counts = [f"{refused[reason]:,} {reason}" for reason in Unforkable if refused[reason]]
    return f"{refused.total():,} points that it cannot fork ({', '.join(counts)})"
