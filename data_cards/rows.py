"""Find single rows by their ids without reading the others into memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from coa import tables
from coa.files import FORKS, GRADED, INGESTED, SAMPLED
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair, fork_point
from coa.question import Question
from coa.trajectory import Trajectory, is_imported
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import collect, scan

Record = TypeVar("Record")
_TRAJECTORY_ID = pl.col("trajectory").struct.field("trajectory_id")
SetRow = GradedTrajectory | PreferencePair | Question


def find_one(path: Path, record: type[Record], condition: pl.Expr) -> Record | None:
    """Find the first row of a file for which a condition holds.

    Raises:
        InputError: the file is missing or broken, or lacks a column.
    """
    rows = scan(path, tables.required_columns(record))
    found = collect(rows.filter(condition).head(1)).to_dicts()
    return msgspec.convert(found[0], record) if found else None


def find_in_sets(row_id: str, names: Iterable[SetName]) -> tuple[SetName, str, SetRow] | None:
    """Find a row of any of these sets, with the set and the split in which it stands.

    Raises:
        InputError: a file is missing or broken.
    """
    for name in names:
        record, column = _record_of(name)
        for split in SPLITS:
            row = find_one(local_path(name, split), record, column == row_id)
            if row is not None:
                return name, split, row
    return None


def _record_of(name: SetName) -> tuple[type[SetRow], pl.Expr]:
    """Give the type of a set's rows and the column of their ids."""
    if name is SetName.COT_A:
        return PreferencePair, pl.col("pair_id")
    if name is SetName.RL:
        return Question, pl.col("question_id")
    return GradedTrajectory, _TRAJECTORY_ID


def find_trajectory(trajectory_id: str) -> GradedTrajectory | None:
    """Find a graded trajectory, or a fork where the id is that of one.

    Raises:
        InputError: a file is broken.
    """
    return find_graded(FORKS if fork_point(trajectory_id) else GRADED, trajectory_id)


def find_graded(path: Path, trajectory_id: str) -> GradedTrajectory | None:
    """Find a graded trajectory in a file, which may be missing.

    Raises:
        InputError: the file is broken.
    """
    if not path.exists():
        return None
    return find_one(path, GradedTrajectory, pl.lit(trajectory_id) == _TRAJECTORY_ID)


def is_in_run(trajectory: Trajectory) -> bool:
    """Say whether this very trajectory is in the file in which it came into the run."""
    path = run_file(trajectory)
    if not path.exists():
        return False
    found = find_one(path, Trajectory, pl.col("trajectory_id") == trajectory.trajectory_id)
    return found == trajectory


def run_file(trajectory: Trajectory) -> Path:
    """Give the file in which a trajectory came into the run: sampled, or imported, by its mode."""
    folder = INGESTED if is_imported(trajectory) else SAMPLED
    return folder / f"{trajectory.mode}.parquet"
