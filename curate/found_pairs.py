"""Add the pairs that `curate.shared_prefix` found to those that were forked."""

from collections import Counter
from pathlib import Path

from coa import tables
from coa.pairs import Arm, ArmCount, PairKind, PreferencePair
from coa.points import Point, PointOutcome

CHOSEN_BY = "shared_prefix"
"""Why such a point was chosen."""


def add_found_pairs(
    path: Path, pairs: tables.TableWriter, points: tables.TableWriter
) -> Counter[str]:
    """Write the pairs of a file, and the point of each, after those that were forked.

    Returns:
        The numbers of points by outcome and of pairs by kind.

    Raises:
        InputError: the file is missing or has no pairs.
    """
    counts: Counter[str] = Counter()
    for pair in tables.read_table(path, PreferencePair):
        point = point_of(pair)
        pairs.write(pair)
        points.write(point)
        counts[point.outcome] += 1
        counts[pair.kind] += 1
    return counts


def point_of(pair: PreferencePair) -> Point:
    """Describe the point at which two trajectories part, as if the right one had been forked."""
    tried = ArmCount(pair.num_think, pair.num_think_correct)
    arm = Arm.THINK
    if pair.kind is PairKind.THINK_IS_BETTER:
        tried = ArmCount(pair.num_act, pair.num_act_correct)
        arm = Arm.ACT
    return Point(
        parent_id=pair.trajectory_id,
        point=pair.point,
        arm=arm,
        outcome=PointOutcome.PAIRED,
        parent_is_correct=True,
        num_continuations=tried.total,
        num_correct=tried.correct,
        pair_id=pair.pair_id,
        tool=pair.tool,
        chosen_by=CHOSEN_BY,
    )
