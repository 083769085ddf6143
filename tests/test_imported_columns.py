"""Files from before a column was added are read, with its default."""

import dataclasses
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coa.errors import InputError
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Trajectory
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.facts import collect, facts
from data_cards.rows import find_one
from tests.card_support import question, trajectory

ADDED = ("origin", "license")
ROW = trajectory(question(1), Mode.COA, 2)


def as_before(path: Path) -> None:
    """Write a file as it was before trajectories had an origin and a licence."""
    table = pq.read_table(path)
    metadata = table.schema.metadata
    rows = table.to_pylist()
    for row in rows:
        for column in ADDED:
            row.get("trajectory", row).pop(column)
    older = pa.Table.from_pylist(rows)
    pq.write_table(older.replace_schema_metadata(metadata), path)
    assert "origin" not in str(pq.read_schema(path))


def test_an_older_file_of_trajectories_is_read_and_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "coa.parquet"
    tables.write_table(path, Trajectory, [ROW.trajectory])
    as_before(path)
    assert list(tables.read_table(path, Trajectory)) == [ROW.trajectory]
    condition = pl.col("trajectory_id") == ROW.trajectory.trajectory_id
    assert find_one(path, Trajectory, condition) == ROW.trajectory
    tables.write_table(path, Trajectory, [ROW.trajectory])
    assert set(ADDED) <= set(pq.read_schema(path).names)


def test_an_older_set_is_read_and_nothing_in_it_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("data/questions.parquet"), Question, [question(1)])
    for split in ("train", "validation"):
        path = local_path(SetName.COA, split)
        tables.write_table(path, GradedTrajectory, [ROW])
        as_before(path)
        assert list(tables.read_table(path, GradedTrajectory)) == [ROW]
    found = collect(facts(SetName.COA).select("is_imported", *ADDED))
    assert found.rows() == [(False, "", "")] * 2


def test_a_column_without_a_default_may_not_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "coa.parquet"
    tables.write_table(path, Trajectory, [ROW.trajectory])
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["model"]), path)
    with pytest.raises(InputError, match="lacks the column 'model'"):
        list(tables.read_table(path, Trajectory))


def test_origin_and_licence_come_back_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "coa.parquet"
    row = dataclasses.replace(ROW.trajectory, origin="R1-Searcher", license="MIT")
    tables.write_table(path, Trajectory, [row])
    assert list(tables.read_table(path, Trajectory)) == [row]
