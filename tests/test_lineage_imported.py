"""Imported rows: traced to their file and line, and read from files older than their columns."""

import dataclasses
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from coa.errors import InputError
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Mode, Trajectory
from coa.store import tables
from coa.store.files import ASSEMBLED, GRADED, INGESTED, QUESTIONS
from curate import grade
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import collect, facts
from data_cards.lineage import main
from data_cards.provenance import md5_of
from data_cards.rows import find_one
from synth import ingest, questions
from tests.card_support import question, trajectory
from tests.ingest_support import R1, make_folder, write
from tests.lineage_support import sections


@pytest.fixture
def row(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Trajectory:
    """An imported row of a set; the run that made the set is the current folder."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path, root)
    write(tmp_path / "qwen.jsonl", {"a": 1}, R1)
    entry = "{path: qwen.jsonl, split: train, origin: R1-Searcher, license: MIT}"
    ingest.main([f"ingest.files=[{entry}]"])
    questions.main([])
    grade.main(["samples=[data/ingest]"])
    graded = list(tables.read_table(GRADED, GradedTrajectory))
    for split in SPLITS:
        tables.write_table(local_path(SetName.COT_A, split), PreferencePair, [])
        tables.write_table(local_path(SetName.COT, split), GradedTrajectory, [])
        tables.write_table(local_path(SetName.RL, split), Question, [])
        rows = graded if split == "train" else []
        tables.write_table(local_path(SetName.COA, split), GradedTrajectory, rows)
    lines: dict[str, tuple[list[Path], list[Path]]] = {
        "ingest": ([], [INGESTED]),
        "questions": ([INGESTED / "questions.parquet"], [QUESTIONS]),
        "grade": ([QUESTIONS, INGESTED], [GRADED]),
        "assemble": ([QUESTIONS, GRADED], [ASSEMBLED]),
    }
    stages = {}
    for name, (deps, outs) in lines.items():
        stages[name] = {"cmd": name, "deps": md5s(deps), "outs": md5s(outs)}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return graded[0].trajectory


def md5s(paths: list[Path]) -> list[dict[str, str]]:
    return [{"path": str(path), "md5": md5_of(path)} for path in paths]


def test_an_imported_row_is_traced_to_its_line_its_publisher_and_the_stage_that_read_it(
    row: Trajectory,
) -> None:
    text = main([row.trajectory_id])
    found = sections(text)
    asked = dict(found[f"question {row.question_id}"])
    assert asked["source"] == "not stated, split train"
    facts = dict(found[f"trajectory {row.trajectory_id}"])
    assert (facts["model"], facts["published by"], facts["licence"]) == (
        "qwen",
        "R1-Searcher",
        "MIT",
    )
    assert facts["prompt"].startswith("synth/prompts/coa.txt, hash ")
    assert facts["prompt"].endswith("what its model was asked with is not recorded")
    calls = dict(found[f"calls of {row.trajectory_id}"])
    assert calls["stands in"] == "qwen.jsonl, line 2"
    assert "the file names T" in calls["result 1"]
    files = found["code and files"]
    assert ("ingest", f"data/ingest {md5_of(INGESTED)}") in files
    assert not any("sample" in name for name, _ in files)
    assert "teacher" not in text and "journal" not in text


def test_files_of_another_run_are_not_said_to_hold_the_row(row: Trajectory) -> None:
    write(Path("qwen.jsonl"), {**R1, "gen_text_store": "No.</think><answer>Paris</answer>"})
    ingest.main(["ingest.files=[{path: qwen.jsonl, split: train}]"])
    found = sections(main([row.trajectory_id]))
    calls = dict(found[f"calls of {row.trajectory_id}"])
    assert calls["stands in"].startswith("not known: data/ingest/coa.parquet is missing or does")
    files = dict(found["code and files"])
    assert files["ingest"] == "not known: data/ingest is not the one that dvc.lock describes"


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
