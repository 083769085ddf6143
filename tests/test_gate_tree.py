"""Refuse to publish from a tree or lock that is not in order; waive reasons by name alone."""

import shutil
import sys
from pathlib import Path

import pytest

from coa.errors import ConfigError, OutputError
from data_cards import provenance
from data_cards.publishing import gate
from data_cards.publishing.gate import Reason, Refusal
from tests.gate_support import (
    call,
)

pytest.importorskip("linkify_it")


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one stage that has run and is committed."""
    folder = tmp_path_factory.mktemp("committed") / "tree"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
            context.setenv(f"{name}_NAME", "test")
            context.setenv(f"{name}_EMAIL", "test@example.org")
        Path("in").write_text("1")
        Path("dvc.yaml").write_text("stages: {render: {cmd: cp in out, deps: [in], outs: [out]}}")
        call("git", "init", "--quiet")
        call(sys.executable, "-m", "dvc", "init", "--quiet")
        call(sys.executable, "-m", "dvc", "repro", "--quiet")
        call("git", "add", "--all")
        call("git", "commit", "--quiet", "-m", "all")
    return folder


@pytest.fixture
def tree(committed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the committed project the current folder."""
    folder = Path(shutil.copytree(committed, tmp_path / "tree", symlinks=True))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return folder


def test_a_committed_tree_with_a_fresh_lock_has_nothing_against_it(tree: Path) -> None:
    Path("notes.md").write_text("of no account")
    assert gate.tree_refusals("render", tree) == []


def test_code_that_is_not_committed_is_refused(tree: Path) -> None:
    Path("coa").mkdir()
    Path("coa/new.py").write_text("")
    assert gate.tree_refusals("render", tree) == [Refusal(Reason.UNCOMMITTED_CODE, "coa/new.py")]


def test_code_of_the_users_and_of_the_tool_that_is_not_committed_is_refused(
    tree: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tool = tmp_path_factory.mktemp("tool")
    (tool / "coa/records").mkdir(parents=True)
    (tool / "coa/records/grading.py").write_text("")
    call("git", "-C", str(tool), "init", "--quiet")
    call("git", "-C", str(tool), "add", ".")
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    call("git", "-C", str(tool), *author, "commit", "--quiet", "-m", "all")
    (tool / "coa/records/grading.py").write_text("# changed\n")
    Path("my_parts.py").write_text("")
    assert gate.tree_refusals("render", tool) == [
        Refusal(Reason.UNCOMMITTED_CODE, "my_parts.py, coa/records/grading.py of the tool")
    ]
    (tool / "coa/records/grading.py").write_text("")
    Path("my_parts.py").unlink()
    assert gate.tree_refusals("render", tool) == []
    assert len(provenance.code_state(tool).tool) == 40


def test_the_lock_that_a_run_has_written_is_no_uncommitted_code(tree: Path) -> None:
    Path("in").write_text("2")
    call(sys.executable, "-m", "dvc", "repro", "--quiet")
    assert "dvc.lock" in call("git", "status", "--porcelain")
    assert gate.tree_refusals("render", tree) == []


def test_a_lock_that_belongs_to_another_input_is_refused(tree: Path) -> None:
    Path("in").write_text("2")
    assert gate.tree_refusals("render", tree) == [
        Refusal(Reason.STALE_LOCK, "render: dvc repro render")
    ]


def test_a_folder_without_git_and_dvc_is_refused_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert [refusal.reason for refusal in gate.tree_refusals("render", tmp_path)] == [
        Reason.UNCOMMITTED_CODE,
        Reason.STALE_LOCK,
    ]


def test_all_reasons_are_named_at_once_and_waived_only_by_name() -> None:
    refusals = [
        Refusal(Reason.LICENCE, "one"),
        Refusal(Reason.LOSS_MASK, "two"),
        Refusal(Reason.LICENCE, "three"),
    ]
    with pytest.raises(OutputError) as caught:
        gate.enforce(refusals, frozenset({Reason.SCRIPTED_TEACHER}))
    assert all(
        word in str(caught.value)
        for word in ("one", "two", "three", "allow=scripted_teacher,licence,loss_mask")
    )
    with pytest.raises(OutputError, match="publishing is refused") as caught:
        gate.enforce(refusals, gate.read_allowed("licence"))
    assert "one" not in str(caught.value)
    gate.enforce(refusals, gate.read_allowed("licence, loss_mask, scripted_teacher"))


def test_an_unknown_reason_cannot_be_waived() -> None:
    with pytest.raises(ConfigError, match="unknown reason 'everything'"):
        gate.read_allowed("licence,everything")
