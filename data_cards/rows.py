"""Find single rows by their ids without reading the others into memory."""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from coa.records.graded import GradedTrajectory
from coa.records.pairs import fork_point
from coa.records.trajectory import Trajectory, is_imported
from coa.store import tables
from coa.store.files import FORKS, GRADED, INGESTED, SAMPLED
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import collect, id_column
from data_cards.formats.published_rows import RECORDS
from data_cards.formats.published_rows import Record as SetRow

Record = TypeVar("Record")
_TRAJECTORY_ID = pl.col("trajectory").struct.field("trajectory_id")


def find_one(path: Path, record: type[Record], condition: pl.Expr) -> Record | None:
    """Find the first row of a file for which a condition holds."""
    rows = tables.scan(path, tables.required_columns(record))
    found = collect(rows.filter(condition).head(1)).to_dicts()
    return msgspec.convert(found[0], record) if found else None


def find_in_sets(row_id: str, names: Iterable[SetName]) -> tuple[SetName, str, SetRow] | None:
    """Find a row of any of these sets, with the set and the split in which it stands."""
    for name in names:
        for split in SPLITS:
            row = find_one(local_path(name, split), RECORDS[name], id_column(name) == row_id)
            if row is not None:
                return name, split, row
    return None


def find_trajectory(trajectory_id: str) -> GradedTrajectory | None:
    """Find a graded trajectory, or a fork where the id is that of one."""
    return find_graded(FORKS if fork_point(trajectory_id) else GRADED, trajectory_id)


def find_graded(path: Path, trajectory_id: str) -> GradedTrajectory | None:
    """Find a graded trajectory in a file, which may be missing."""
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
