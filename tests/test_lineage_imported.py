"""An imported row is traced to the file and the line in which it stands, and to no call of ours."""

from pathlib import Path

import pytest
import yaml

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Trajectory
from coa.store import tables
from coa.store.files import ASSEMBLED, GRADED, INGESTED, QUESTIONS
from curate import grade
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.lineage import main
from data_cards.provenance import md5_of
from synth import ingest, questions
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
