"""Grading the trajectories of several folders: a teacher's, and those that others made."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Trajectory
from coa.store import tables
from curate.grade import main
from tests.sample_records import make_trajectory

BOTH = "samples=[data/sample,data/ingest]"
QUESTION = Question("q", "What is the capital?", ("Paris",), "train")
OWN = "It is {answer}.</think> \\boxed{{{answer}}}"
FOREIGN = "I know it.</think><answer>Paris</answer>"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """A folder with settings and a question."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    tables.write_table(Path("data/questions.parquet"), Question, [QUESTION])
    return tmp_path


def row(mode: Mode, index: int, text: str) -> Trajectory:
    steps = protocol.parse(text)
    name = f"q/{mode}/{index}"
    return make_trajectory(QUESTION, steps, mode, trajectory_id=name, index=index, num_actions=0)


def write(folder: str, mode: Mode, *answers: str, first: int = 0) -> None:
    """Write a file with a row for each answer."""
    rows = []
    for index, answer in enumerate(answers, first):
        rows.append(row(mode, index, OWN.format(answer=answer)))
    tables.write_table(Path(folder) / f"{mode}.parquet", Trajectory, rows)


def test_the_rows_of_all_folders_are_graded_and_counted_by_mode(folder: Path) -> None:
    write("data/sample", Mode.COT, "Paris")
    write("data/sample", Mode.COA, "Lyon")
    write("data/ingest", Mode.COT)
    write("data/ingest", Mode.COA, "Paris", "Paris", first=1)
    assert main([BOTH]) == "data/grade.parquet: 1 cot (1 correct), 3 coa (2 correct)"
    assert json.loads(Path("metrics/grade.json").read_text()) == {
        "cot_trajectories": 1,
        "coa_trajectories": 3,
        "cot_correct_rate": 1.0,
        "coa_correct_rate": 0.6667,
    }
    rows = tables.read_table(Path("data/grade.parquet"), GradedTrajectory)
    assert [found.trajectory.trajectory_id for found in rows] == [
        "q/cot/0",
        "q/coa/0",
        "q/coa/1",
        "q/coa/2",
    ]


def test_a_missing_file_is_named_with_the_setting_before_anything_is_graded(folder: Path) -> None:
    write("data/sample", Mode.COT, "Paris")
    write("data/sample", Mode.COA, "Paris")
    write("data/ingest", Mode.COA, "Paris", first=1)
    with pytest.raises(InputError, match=r"data/ingest/cot\.parquet is missing") as caught:
        main([BOTH])
    assert caught.value.details["where"] == "grade.samples: data/sample, data/ingest"
    assert not Path("data/grade.parquet").exists()


def test_one_id_in_two_folders_is_an_error_that_names_both(folder: Path) -> None:
    for name in ("data/sample", "data/ingest"):
        write(name, Mode.COT)
        write(name, Mode.COA, "Paris")
    with pytest.raises(InputError, match="'q/coa/0' is in two files") as caught:
        main([BOTH])
    where = caught.value.details["where"]
    assert where == "data/sample/coa.parquet and data/ingest/coa.parquet"
    assert not Path("data/grade.parquet").exists()


def test_a_small_file_in_foreign_tags_is_refused_beside_a_large_one_in_ours(folder: Path) -> None:
    write("data/sample", Mode.COA, *["Paris"] * 9)
    foreign = replace(row(Mode.COA, 9, FOREIGN), trajectory_id="q/coa/9")
    tables.write_table(Path("data/ingest/coa.parquet"), Trajectory, [foreign])
    with pytest.raises(InputError, match=r"data/ingest/coa\.parquet is not written in the tags"):
        main([BOTH, "modes=[coa]"])
