"""Show the files of the run that made a row, and never those of another run."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import yaml

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Step, StepKind, Trajectory
from coa.store import tables
from data_cards.catalogue import SetName
from data_cards.lineage import main
from data_cards.provenance import md5_of
from tests.lineage_support import (
    rows,
    sections,
)


def md5s(*paths: str) -> list[dict[str, str]]:
    return [{"path": path, "md5": md5_of(Path(path))} for path in paths]


def write_lock(**changed: list[dict[str, str]]) -> str:
    """Write a dvc.lock to which the files here belong; returns its SHA-256.

    Args:
        changed: What a stage is said to have made instead.
    """
    kept, dropped = "data/filter/kept.parquet", "data/filter/dropped.parquet"
    pairs, forks = "data/branch/pairs.parquet", "data/branch/forks.parquet"
    samples = {mode: f"data/sample/{mode}.parquet" for mode in ("cot", "coa")}
    grade, index, questions = "data/grade.parquet", "data/index", "data/questions.parquet"
    lines = {
        "questions": ([], [questions]),
        "index": ([], [index]),
        "sample@cot": ([questions, index], [samples["cot"]]),
        "sample@coa": ([questions, index], [samples["coa"]]),
        "grade": ([questions, *samples.values()], [grade, "metrics/grade.json"]),
        "filter": ([grade], [kept, dropped]),
        "branch": ([grade, questions, index], [pairs, forks]),
        "screen": ([questions, grade, kept, pairs], ["data/screen/excluded.parquet"]),
        "assemble": (
            [questions, grade, kept, dropped, pairs, "data/screen/excluded.parquet"],
            ["data/assemble"],
        ),
    }
    stages = {
        name: {"cmd": name, "deps": md5s(*deps), "outs": changed.get(name) or md5s(*outs)}
        for name, (deps, outs) in lines.items()
    }
    text = yaml.safe_dump({"schema": "2.0", "stages": stages})
    Path("dvc.lock").unlink(missing_ok=True)
    Path("dvc.lock").write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def code_and_files(row_id: str) -> dict[str, str]:
    """What is said of the run that made a row, by the name of the line."""
    return dict(sections(main([row_id]))["code and files"])


def test_a_folder_has_the_hash_that_dvc_gives_it(small_run: Path, tmp_path: Path) -> None:
    shutil.copytree(small_run / "data/assemble", tmp_path / "assemble")
    shutil.copy2(small_run / "data/grade.parquet", tmp_path)
    for command in (
        ["init", "--no-scm", "--quiet"],
        ["add", "--quiet", "assemble", "grade.parquet"],
    ):
        done = [sys.executable, "-m", "dvc", *command]
        subprocess.run(done, cwd=tmp_path, check=True, capture_output=True)
    for name in ("assemble", "grade.parquet"):
        (out,) = yaml.safe_load((tmp_path / f"{name}.dvc").read_text())["outs"]
        assert md5_of(tmp_path / name) == out["md5"]
    assert md5_of(tmp_path / "nothing") == ""


def test_the_files_of_the_run_that_made_a_row_are_shown_and_no_others(linked_run: Path) -> None:
    sha256 = write_lock()
    coa = code_and_files(rows(SetName.COA, GradedTrajectory)[0].trajectory.trajectory_id)
    pair = code_and_files(rows(SetName.COT_A, PreferencePair)[0].pair_id)
    question = code_and_files(rows(SetName.RL, Question)[0].question_id)
    every = {"commit", "dvc.lock", "code here", "questions", "screen", "assemble"}
    assert set(question) == every
    assert set(coa) == every | {"index", "sample@coa", "grade", "filter"}
    assert set(pair) >= every | {"index", "grade", "branch"}
    assert len([name for name in pair if name.startswith("sample@")]) == 1
    assert coa["dvc.lock"] == f"SHA-256 {sha256}"
    assert coa["assemble"] == f"data/assemble {md5_of(Path('data/assemble'))}"
    assert coa["sample@coa"].endswith(md5_of(Path("data/sample/coa.parquet")))


def test_a_lock_of_another_run_is_not_shown_as_the_rows_own(linked_run: Path) -> None:
    row_id = rows(SetName.COA, GradedTrajectory)[0].trajectory.trajectory_id
    write_lock(assemble=[{"path": "data/assemble", "md5": "0" * 32 + ".dir"}])
    found = code_and_files(row_id)
    assert set(found) == {"code here", "commit", "dvc.lock"}
    assert found["commit"].startswith("not known: another run made the row")
    assert not re.search("[0-9a-f]{32}", found["dvc.lock"])


def test_what_another_run_made_since_breaks_the_chain(linked_run: Path) -> None:
    row_id = rows(SetName.COA, GradedTrajectory)[0].trajectory.trajectory_id
    grade = md5_of(Path("data/grade.parquet"))
    write_lock(grade=[{"path": "data/grade.parquet", "md5": "1" * 32}])
    found = code_and_files(row_id)
    assert (
        found["grade"]
        == f"data/grade.parquet {grade}, as it was read; which run made it is not known"
    )
    assert "1" * 32 not in str(found)
    assert "sample@coa" not in found


def test_a_sample_that_is_another_runs_is_not_known(linked_run: Path) -> None:
    row_id = rows(SetName.COA, GradedTrajectory)[0].trajectory.trajectory_id
    path = Path("data/sample/coa.parquet")
    others = [it for it in tables.read_table(path, Trajectory) if it.trajectory_id != row_id]
    tables.write_table(path, Trajectory, others)
    write_lock()
    assert (
        code_and_files(row_id)["sample@coa"] == f"not known: {path} does not hold this trajectory"
    )
    write_lock(**{"sample@coa": [{"path": str(path), "md5": "2" * 32}]})
    assert "is not the one that dvc.lock describes" in code_and_files(row_id)["sample@coa"]


def test_a_publication_of_another_lock_is_not_said_to_hold_the_row(linked_run: Path) -> None:
    row_id = rows(SetName.COA, GradedTrajectory)[0].trajectory.trajectory_id
    sha256 = write_lock()
    for tag, lock in (("v1", "3" * 64), ("v2", sha256)):
        line = {"repository": "me/coa", "kind": "dataset", "tag": tag, "hub_revision": "a" * 40}
        with Path("publications.jsonl").open("a") as file:
            file.write(json.dumps(line | {"dvc_lock_sha256": lock}) + "\n")
    _, first, second = sections(main([row_id]))[row_id]
    assert first[1].endswith("whether it holds this row is not known")
    assert second[1] == "me/coa v2 (revision aaaaaaaaaa)"


def replace_table(path: Path, changed: list[GradedTrajectory]) -> None:
    """Write a file anew: the old one is a link to a file that other tests read."""
    tables.write_table(Path("new"), GradedTrajectory, changed)
    Path("new").replace(path)


def test_a_side_of_a_pair_that_another_run_wrote_again_is_not_shown(linked_run: Path) -> None:
    pair: PreferencePair = rows(SetName.COT_A, PreferencePair)[0]
    for path in (Path("data/grade.parquet"), Path("data/branch/forks.parquet")):
        forged = [
            with_thought(row, "Another run. ")
            if row.trajectory.trajectory_id == pair.rejected_id
            else row
            for row in tables.read_table(path, GradedTrajectory)
        ]
        replace_table(path, forged)
    found = sections(main([pair.pair_id]))
    assert found[f"rejected {pair.rejected_id}"] == [
        ("missing", "the trajectory of this id here is another run's")
    ]
    assert f"calls of {pair.rejected_id}" not in found
    assert f"calls of {pair.chosen_id}" in found


def with_thought(row: GradedTrajectory, text: str) -> GradedTrajectory:
    """A row with a thought before all others."""
    thought = Step(StepKind.THOUGHT, Author.POLICY, text)
    return replace(row, trajectory=replace(row.trajectory, steps=(thought, *row.trajectory.steps)))
