"""Run the doctor as a command: what it reads, prints and writes, and how it exits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coa.cli import run
from coa.doctor.__main__ import main
from coa.errors import CoaError, InputError
from coa.records.graded import GradedTrajectory
from coa.store import tables
from tests.doctor_support import ANSWER, CLEAN, changed, piecewise
from tests.tokenizers_support import byte_level

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def project(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy a small run and save a small tokenizer in it."""
    folder = tmp_path_factory.mktemp("doctor") / "run"
    shutil.copytree(small_run, folder)
    (folder / "coa").mkdir(exist_ok=True)  # as in the repository
    tokenizer = byte_level()
    tokenizer.save_pretrained(folder / "tokenizer")
    rows = [piecewise(tokenizer, CLEAN), piecewise(tokenizer, changed(2, trained=True))]
    pq.write_table(pa.Table.from_pylist(rows), folder / "finished.parquet")
    datasets.Dataset.from_list(rows[:1]).save_to_disk(str(folder / "saved"))
    return folder


@pytest.fixture(autouse=True)
def in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


def examine(*arguments: str) -> str:
    return main(["tokenizer=tokenizer", *arguments])


@pytest.mark.parametrize("name", ["coa", "cot", "cot_a"])
def test_the_sets_of_a_run_are_clean(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(f"set={name}").startswith("clean: ")
    shown = capsys.readouterr().out
    assert "policy" in shown and "100.0%" in shown


def test_a_set_is_shown_under_the_prompt_that_the_student_reads(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tables.read_table(project / "data/assemble/coa/train.parquet", GradedTrajectory)
    row = next(iter(rows))
    trajectory = row.trajectory
    assert "Think step by step" in trajectory.prompt  # the teacher's instructions
    examine(
        "set=coa", f"show={trajectory.trajectory_id}", "train.prompt=train/prompts/question.txt"
    )
    shown = capsys.readouterr().out
    assert f"Question: {trajectory.question}" in shown
    assert "Think step by step" not in shown


def test_a_fault_is_printed_written_and_ends_with_status_1(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["set=finished.parquet", "tokenizer=tokenizer", "json=out/doctor.json"]
    with pytest.raises(SystemExit) as ended:
        run(main, command)
    assert ended.value.code == 1
    shown = capsys.readouterr()
    assert "observation_trained" in shown.out
    assert "1 of 2 rows have findings" in shown.err
    written = json.loads((project / "out/doctor.json").read_text(encoding="utf-8"))
    assert (written["rows"], written["clean"]) == (2, 1)
    assert written["rows_by_fault"] == {"observation_trained": 1}
    assert written["rows_with_findings"][0]["row"] == "finished.parquet:2"
    assert written["rows_with_findings"][0]["findings"][0]["fault"] == "observation_trained"


def test_a_clean_folder_that_datasets_saved_ends_with_status_0(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(main, ["set=saved", "tokenizer=tokenizer"])
    assert ended.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "clean: 1 rows of saved" in shown.out


def test_hostile_text_cannot_act_on_the_terminal(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = f"{ANSWER[:3]}\x1b]0;title\x07\x1b[2J[red]\u202e{ANSWER[3:]}"
    row: dict[str, Any] = piecewise(byte_level(), changed(3, hostile, trained=False))
    row["id"] = "\x1b[31mred"
    (project / "hostile.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(InputError):
        examine("set=hostile.jsonl")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\u202e" not in shown and "\x07" not in shown
    assert "[red]" in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "doctor.set is empty"),
        (["set=missing.jsonl"], "is missing"),
        (["set=saved", "chat_template=missing.jinja"], "cannot read the chat template"),
        (["set=saved", "tokenizer=nowhere"], "nowhere"),
    ],
)
def test_a_bad_setting_says_what_is_wrong(arguments: list[str], said: str) -> None:
    with pytest.raises(CoaError, match=said):
        examine(*arguments)
