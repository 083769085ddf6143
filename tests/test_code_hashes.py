"""Test that a changed file makes stale the stages that run it, and no other."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coa.code_hashes import (
    Entry,
    describe_settings,
    modules_of,
    reachable_files,
    read_entries,
    write_code,
)
from coa.errors import InputError
from coa.settings.params import Params
from coa.settings.stages import Stage
from tests.project_support import ROOT, all_stages, environment, finish


def command_of(name: str) -> str:
    stage = all_stages()[name]
    command: str | list[str] = stage.get("do", stage)["cmd"]
    return command if isinstance(command, str) else command[0]


def files_of(name: str) -> set[str]:
    files: set[str] = set()
    for module in modules_of(name, command_of(name)):
        files |= reachable_files(ROOT, module)
    return files


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_every_stage_but_code_depends_on_its_code() -> None:
    for name, stage in all_stages().items():
        deps = stage.get("do", stage).get("deps", ())
        assert (f".code/{name}" in deps) is (name != "code"), name


def test_the_code_of_a_stage_is_what_it_reaches_by_import() -> None:
    files = files_of("grade")
    assert {
        "curate/__init__.py",
        "curate/grade.py",
        "coa/records/grading.py",
        "coa/cli.py",
    } <= files
    assert "curate/filter.py" not in files


def test_a_training_stage_has_the_code_of_its_own_trainer_alone() -> None:
    assert {"train/sft1.py", "train/run.py"} <= files_of("sft1")
    assert not {"train/sft.py", "train/rl.py"} & files_of("sft1")
    for stage in Stage:
        assert modules_of(stage, f"accelerate launch -m train.run stage={stage}")[0] == "train.run"


def test_a_stage_that_is_gone_leaves_no_file(tmp_path: Path) -> None:
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_text(
        "stages:\n"
        "  grade: {cmd: python -m curate.grade, deps: [.code/grade]}\n"
        "  own: {cmd: echo, deps: [a.txt]}\n"
    )
    folder = tmp_path / ".code"
    folder.mkdir()
    (folder / "gone").write_text("")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(tmp_path)
        assert read_entries(pipeline) == {"grade": Entry("python -m curate.grade", ())}
        assert write_code() == ["grade"]
    assert [path.name for path in folder.iterdir()] == ["grade"]


def test_a_default_that_changes_and_a_setting_that_is_added_change_the_file() -> None:
    names = ("filter", "sample.num_rollouts")
    default = Params.load("filter", (), ROOT / "params.yaml")
    before = describe_settings(names, default.values(["filter", "sample"]))
    assert [line.partition(":")[0] for line in before.splitlines()] == [f"# {it}" for it in names]
    added = default.override(["sample.num_rollouts=9"]).values(["filter", "sample"])
    after = describe_settings(names, added)
    assert before.splitlines()[0] == after.splitlines()[0]
    assert before.splitlines()[1] != after.splitlines()[1]


def test_every_setting_that_a_stage_reads_is_followed_by_dvc_or_by_the_code(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  grade:\n"
        "    cmd: [python -m curate.grade]\n"
        "    deps: [.code/grade]\n"
        "    params: [grade]\n"
        "    meta: {by_default: [judge, costs.models]}\n"
    )
    entry = Entry("python -m curate.grade", ("costs.models", "grade", "judge"))
    assert read_entries(tmp_path / "dvc.yaml") == {"grade": entry}


@pytest.mark.parametrize("text", ["stages: [", "- 1", ""])
def test_a_broken_pipeline_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.yaml").write_text(text)
    with pytest.raises(InputError, match="cannot read the stages of"):
        read_entries(tmp_path / "dvc.yaml")


@pytest.mark.slow
def test_a_changed_file_makes_stale_what_runs_it_and_no_more(
    finished_project: Path, tmp_path: Path
) -> None:
    project = Path(shutil.copytree(finished_project, tmp_path / "project", symlinks=True))
    for name in ("coa/view/app.py", "curate/filter.py"):
        with (project / name).open("a") as file:
            file.write("# A comment.\n")
    finish(project, sys.executable, "-m", "coa.code_hashes")
    done = subprocess.run(
        ["dvc", "status", "--json"], cwd=project, env=environment(), capture_output=True, text=True
    )
    stale = {name for name, why in json.loads(done.stdout).items() if why != ["always changed"]}
    # No stage runs the browser of files.
    line = {"questions", "sample@coa", "grade", "analyse", "filter", "screen", "report"}
    assert stale & line == {"filter"}
