"""Run the tiny profile from scratch to the sets, to a remote and back, and into clear errors."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from coa.cli import run
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.grading import Verdict
from coa.records.pairs import Arm, PreferencePair, arm_of
from coa.records.question import Question
from coa.records.trajectory import Mode
from coa.rollout.points import PointOutcome
from coa.store import tables
from tests.project_support import REPRO, environment, make_tiny_project, stages_run

SIZES = {"cot_a": 40, "coa": 180, "cot": 60, "rl": 60}


def call(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture
def project(finished_project: Path) -> Path:
    """The project after one `dvc repro` on the tiny profile."""
    return finished_project


def rows(project: Path, name: str, record: type[Any], split: str = "train") -> list[Any]:
    return list(tables.read_table(project / f"data/assemble/{name}/{split}.parquet", record))


@pytest.mark.slow
def test_the_sets_have_exactly_the_sizes_asked_for(project: Path) -> None:
    sizes = json.loads((project / "metrics/assemble.json").read_text())
    assert {name: size["train"] for name, size in sizes.items()} == SIZES


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), [("coa", Mode.COA), ("cot", Mode.COT)])
def test_the_trajectories_of_a_set_are_right_and_well_formed(
    project: Path, name: str, mode: Mode
) -> None:
    chosen = rows(project, name, GradedTrajectory)
    assert [row.trajectory.trajectory_id for row in chosen] == sorted(
        row.trajectory.trajectory_id for row in chosen
    )
    for row in chosen:
        assert row.trajectory.mode is mode
        assert row.grade.verdict is Verdict.CORRECT
        assert not protocol.stray_tags(row.trajectory.steps)
        assert (row.trajectory.num_actions == 0) or mode is Mode.COA


@pytest.mark.slow
def test_the_pairs_share_their_prefix_and_differ_in_acting_and_outcome(project: Path) -> None:
    for pair in rows(project, "cot_a", PreferencePair):
        assert {arm_of(pair.chosen), arm_of(pair.rejected)} == set(Arm)
        assert protocol.answer_text(pair.chosen)
        assert len(protocol.render(pair.prefix)) == pair.point


@pytest.mark.slow
def test_no_question_is_on_both_sides_of_a_split_nor_in_rl_and_sft(project: Path) -> None:
    def ids(split: str) -> set[str]:
        trajectories = [
            row for name in ("coa", "cot") for row in rows(project, name, GradedTrajectory, split)
        ]
        pairs = rows(project, "cot_a", PreferencePair, split)
        return {row.trajectory.question_id for row in trajectories} | {
            pair.question_id for pair in pairs
        }

    rl = {
        question.question_id
        for split in ("train", "validation")
        for question in rows(project, "rl", Question, split)
    }
    assert not ids("train") & ids("validation")
    assert not rl & (ids("train") | ids("validation"))
    held_out = {
        q.question_id
        for q in tables.read_table(project / "data/questions.parquet", Question)
        if q.split != "train"
    }
    assert not held_out & (rl | ids("train") | ids("validation"))


@pytest.mark.slow
def test_nothing_is_dropped_in_silence(project: Path) -> None:
    metrics = {
        path.stem: json.loads(path.read_text()) for path in (project / "metrics").glob("*.json")
    }
    for mode in Mode:
        assert sum(metrics["filter"][mode].values()) == metrics[f"sample_{mode}"]["trajectories"]
    outcomes = sum(metrics["branch"][name] for name in PointOutcome)
    assert outcomes == metrics["branch"]["points"]


@pytest.mark.slow
def test_a_repro_with_nothing_changed_runs_no_stage(project: Path) -> None:
    assert stages_run(call(project, *REPRO).stdout) == ["code"]


@pytest.mark.slow
@pytest.mark.long
def test_the_whole_line_again_from_nothing_gives_the_same_bytes(
    project: Path, tmp_path: Path
) -> None:
    again = make_tiny_project(tmp_path / "again")
    call(again, *REPRO)
    assert locked(again) == locked(project)


def locked(project: Path) -> dict[str, Any]:
    """The hashes of all that the stages read and wrote; DVC writes the stages in any order."""
    found: dict[str, Any] = YAML(typ="safe").load(
        (project / "dvc.lock").read_text(encoding="utf-8")
    )
    return found


@pytest.mark.slow
def test_sets_go_to_a_folder_remote_and_an_older_version_comes_back(
    project: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    shutil.copytree(project, work, symlinks=True)
    call(work, "dvc", "remote", "add", "--default", "store", str(tmp_path / "store"))
    call(work, "git", "add", "--all")
    call(work, "git", "commit", "--quiet", "-m", "first")
    call(work, "dvc", "push", "assemble")
    first = (work / "data/assemble/coa/train.parquet").read_bytes()

    params = (work / "params.yaml").read_text().replace("num_coa: 180", "num_coa: 150")
    (work / "params.yaml").write_text(params)
    changed = set(stages_run(call(work, "dvc", "repro", "assemble").stdout))
    assert changed == {"code", "train_check", "assemble"}
    call(work, "git", "commit", "--quiet", "-am", "second")
    call(work, "dvc", "push", "assemble")
    second = (work / "data/assemble/coa/train.parquet").read_bytes()

    clone = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(work), str(clone))
    call(clone, "dvc", "pull", "assemble")
    assert (clone / "data/assemble/coa/train.parquet").read_bytes() == second
    call(clone, "git", "checkout", "--quiet", "HEAD~1")
    call(clone, "dvc", "pull", "assemble")
    assert (clone / "data/assemble/coa/train.parquet").read_bytes() == first != second


@pytest.mark.slow
def test_the_summary_shows_the_funnel(project: Path) -> None:
    table = call(project, sys.executable, "-m", "curate.summary").stdout
    assert "coa              180" in table
    assert "dropped: wrong" in table


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("synth.sample mode=telepathy", "telepathy"),
        ("synth.sample sample.nun_questions=3", "num_questions"),
        ("synth.sample num_questions=99999", "too few train questions"),
        (
            "synth.sample teacher.policy=completions teacher.server.model=m "
            "teacher.server.base_url=http://127.0.0.1:9/v1 "
            "teacher.server.patience_minutes=0",
            "127.0.0.1:9",
        ),
        (
            "synth.sample search.engine=server search.server.url=http://127.0.0.1:9 "
            "search.server.deadline_seconds=1",
            "127.0.0.1:9",
        ),
        ("synth.sample search.index=nowhere", "coa search index"),
        ("synth.sample prompts.coa=nowhere.txt", "nowhere.txt"),
        ('synth.questions files=[{"path":"nowhere.parquet"}]', "is the run's own"),
        ("curate.assemble num_coa=100000", "too few rows for the set 'coa'"),
        ("coa.params nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_a_mistake_ends_with_a_clear_error_and_a_status(
    project: Path,
    command: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (project / "data").rglob("*.parquet")}
    monkeypatch.chdir(project)
    module, *arguments = command.split()
    main = importlib.import_module(module).main
    with pytest.raises(SystemExit) as ended:
        run(main, arguments)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert "error:" in said
    assert message in said
    assert "Traceback" not in said
    assert before == {
        path: path.stat().st_mtime_ns for path in (project / "data").rglob("*.parquet")
    }
