"""Every `out=` against folders that the command did not make: nothing is lost."""

import contextlib
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coa.errors import CoaError, OutputError
from coa.search.building import OWN_FOLDER as INDEX
from coa.settings.outputs import PLACES, check_place
from coa.store.output_folder import OwnFolder, check_own_folder, remove_leftovers, replace_folder
from data_cards.export import OWN_FOLDER as EXPORT
from data_cards.models import OWN_FOLDER as MODELS
from data_cards.render import OWN_FOLDER as RENDER

Snapshot = dict[str, bytes]
COMMANDS = {
    "data_cards.export": (),
    "coa.search.index": (),
    "curate.filter": (),
    "synth.sample": ("mode=cot",),
    "curate.grade": (),
}
OWN = {
    "data_cards.export": "data/export/",
    "coa.search.index": "data/index/",
    "curate.filter": "data/filter/",
    "synth.sample": "data/sample/cot.parquet",
    "curate.grade": "data/grade.parquet",
}
"""What each of them makes itself, and may replace."""
HOSTILE = (
    ".",
    "./",
    "data",
    "data/",
    "data/../data",
    "data/..",
    "..",
    "../..",
    "/",
    "",
    "coa",
    "notes",
    "notes/thesis.txt",
    "link",
    "data/mine",
    "data/mine.parquet",
    "data/questions.parquet",
    "data/index",
    "data/assemble",
    "data/grade.parquet",
    "data/render",
    "elsewhere/verl",
    ".git",
)


def snapshot(*folders: Path) -> Snapshot:
    """The bytes of every file below the folders."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@pytest.fixture
def project(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small run as the current folder, with files of a person's own in many places."""
    folder = tmp_path / "project"
    shutil.copytree(small_run, folder)
    for name in (
        ".git/HEAD",
        "coa/mine.py",
        "notes/thesis.txt",
        "data/mine/thesis.txt",
        "elsewhere/verl/train.parquet",
        "data/sample/notes.txt",
        "README.md",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("years of work", encoding="utf-8")
    pq.write_table(pa.table({"question_id": ["a"]}), folder / "data/mine.parquet")
    (tmp_path / "neighbour").mkdir()
    (tmp_path / "neighbour/thesis.txt").write_text("years of work", encoding="utf-8")
    (folder / "link").symlink_to(tmp_path / "neighbour")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_deletes_or_overwrites_what_it_did_not_make(project: Path, command: str) -> None:
    mine = tuple(str(project / place) for place in (OWN[command], "metrics/", ".journal/"))
    before = snapshot(project, project.parent / "neighbour")
    for out in HOSTILE:
        with contextlib.suppress(CoaError):
            import_module(command).main([*COMMANDS[command], f"out={out}"])
        after = snapshot(project, project.parent / "neighbour")
        for path, content in before.items():
            if not path.startswith(mine):
                assert after.get(path) == content, f"{command} out={out!r} changed {path}"
        assert (project / "link").is_symlink()


def hostile_folders(root: Path, own: OwnFolder) -> dict[str, Path]:
    """Folders that no command made, each with one thing wrong."""
    made: dict[str, Path] = {}

    def make(name: str, *files: str) -> Path:
        for file in files:
            (root / name / file).parent.mkdir(parents=True, exist_ok=True)
            (root / name / file).write_text("years of work", encoding="utf-8")
        made[name] = root / name
        return root / name

    make("foreign", "thesis.txt")
    make("own_name_alone", own.always)
    make("foreign_beside_own", own.always, "thesis.txt")
    make("foreign_deep", own.always, "verl/deep/er/thesis.txt")
    make("hidden", own.always, ".env")
    make("own_name_in_another_case", own.always, own.always.upper())
    (make("empty_folder_inside", own.always) / "mine").mkdir()
    (make("link_inside", own.always) / "mine").symlink_to(root / "foreign")
    (make("dangling_link_inside", own.always) / "mine").symlink_to("nowhere")
    (root / "link").symlink_to(make("own", own.always))
    made["link"] = root / "link"
    (root / "dangling").symlink_to(root / "nowhere")
    made["dangling"] = root / "dangling"
    (root / "file").write_text("years of work", encoding="utf-8")
    made["file"] = root / "file"
    del made["own"]
    return made


@pytest.mark.parametrize("own", [INDEX, EXPORT, RENDER, MODELS], ids=lambda own: own.command)
def test_a_folder_with_one_thing_wrong_is_refused_and_stays(tmp_path: Path, own: OwnFolder) -> None:
    for name, folder in hostile_folders(tmp_path, own).items():
        before = snapshot(tmp_path)
        refused = pytest.raises(OutputError, match="is in the way: nothing was deleted")
        with refused as raised, replace_folder(folder, own) as new:
            (new / "new").write_text("new", encoding="utf-8")
        text = str(raised.value)
        assert all(f"  {part}: " in text for part in ("where", "expected", "got", "what to do")), (
            name
        )
        assert own.command in text
        assert snapshot(tmp_path) == before, name


@pytest.mark.parametrize("own", [INDEX, EXPORT, RENDER, MODELS], ids=lambda own: own.command)
def test_a_new_an_empty_and_an_own_folder_are_replaced_whole(
    tmp_path: Path, own: OwnFolder
) -> None:
    (tmp_path / "empty").mkdir()
    old = tmp_path / "old" / own.always
    old.parent.mkdir(parents=True)
    old.write_text(f"old {own.mark}", encoding="utf-8")
    for name in ("new", "empty", "old"):
        with replace_folder(tmp_path / name, own) as folder:
            (folder / own.always).parent.mkdir(parents=True, exist_ok=True)
            (folder / own.always).write_text("made", encoding="utf-8")
        assert list(snapshot(tmp_path / name).values()) == [b"made"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "new", "old"]


def test_a_file_that_is_put_there_meanwhile_is_not_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="thesis"), replace_folder(out, EXPORT):
        out.mkdir()
        (out / "thesis.txt").write_text("years of work", encoding="utf-8")
    assert (out / "thesis.txt").read_text() == "years of work"


COMMANDS_WITH_OUT = {
    "synth.sample": ("mode=coa",),
    "curate.grade": (),
    "curate.analyse": (),
    "curate.filter": (),
    "curate.branch": (),
    "curate.student_set": ("kept=data/filter/kept.parquet",),
    "curate.student_pairs": ("mined=data/branch", "graded=data/grade.parquet"),
    "lab.subset": ("sets=[data/assemble/coa]", "shares=[1]", "num_rows=1"),
    "coa.search.index": (),
    "data_cards.export": (),
    "synth.fetch": (),
}


@pytest.mark.parametrize("command", COMMANDS_WITH_OUT)
def test_no_command_writes_where_another_stage_does(project: Path, command: str) -> None:
    """The command itself is asked with a few places; the rule that it asks, with all."""
    own = [place for place in PLACES if place.command == command]
    writes_file = command in ("curate.grade", "curate.analyse", "synth.fetch")
    asked = "data/assemble/coa/train.parquet" if writes_file else "data/assemble"
    before = snapshot(project)
    for out in (asked, "data/table.parquet" if writes_file else "data/table"):
        with pytest.raises(CoaError, match=r"nothing was (overwritten|deleted)"):
            import_module(command).main([*COMMANDS_WITH_OUT[command], f"out={out}"])
        assert snapshot(project) == before, f"{command} out={out}"
    for path in sorted((project / "data").rglob("*")):
        out = path.relative_to(project).as_posix()
        is_own = any(out.startswith(f"data/{place.path}") for place in own)
        if is_own or not any(out.startswith(f"data/{place.path}") for place in PLACES):
            continue
        with pytest.raises(OutputError, match="nothing was overwritten"):
            check_place(out, command)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("curate.filter", ["out=data/fit/branch"]),
        ("curate.branch", ["out=data/fit/filter"]),
        ("curate.grade", ["out=data/fit/filter/kept.parquet"]),
        ("curate.filter", ["out=data/fit/grade"]),
        ("curate.filter", ["out=data/link"]),
        ("curate.filter", ["graded=data/fit/grade.parquet"]),
        ("curate.grade", ["samples=[data/fit]", "modes=[coa]"]),
        ("curate.analyse", ["graded=data/fit/grade.parquet"]),
        ("curate.branch", ["graded=data/fit/grade.parquet"]),
        ("synth.questions", ["files=[{path: data/fit/q.jsonl, split: train, source: x}]"]),
        ("coa.doctor", ["json=README.md", "set=coa", "tokenizer=x"]),
        ("coa.doctor", ["json=metrics/grade.json", "set=coa", "tokenizer=x"]),
    ],
)
def test_one_runs_output_is_not_replaced_by_another_commands_or_of_other_inputs(
    project: Path, command: str, arguments: list[str]
) -> None:
    fit = project / "data/fit"
    shutil.copytree(project / "data/filter", fit / "filter")
    shutil.copytree(project / "data/branch", fit / "branch")
    shutil.copy(project / "data/grade.parquet", fit / "grade.parquet")
    shutil.copy(project / "data/sample/coa.parquet", fit / "coa.parquet")
    row = '{"question_id": "a", "question": "Who?", "gold_answers": ["b"]}'
    (fit / "q.jsonl").write_text(row)
    (project / "data/link").symlink_to(project / "data/assemble")
    before = snapshot(project)
    with pytest.raises(OutputError, match=r"nothing was (overwritten|deleted)"):
        command_main = import_module(f"{command}.__main__" if command == "coa.doctor" else command)
        command_main.main(arguments)
    assert snapshot(project) == before


def test_a_table_of_a_trial_is_replaced_by_the_next_one(project: Path) -> None:
    from synth.questions import main

    Path("data/questions.parquet").unlink()
    for name in ("a", "b"):
        Path("mine.jsonl").write_text(
            f'{{"question_id": "{name}", "question": "Who {name}?", "gold_answers": ["b"]}}'
        )
        main(["files=[{path: mine.jsonl, split: train, source: x}]"])
    assert pq.read_table("data/questions.parquet").column("question_id").to_pylist() == ["b"]


def test_settings_that_were_changed_by_hand_are_replaced_only_when_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    from coa.params import main

    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(root / "conf")
    main(["conf/tiny.yaml"])
    main(["conf/microworld.yaml"])
    for mine in (Path("params.yaml").read_text() + "mine: {a: 1}\n", "mine: {a: 1}\n"):
        Path("params.yaml").write_text(mine)
        with pytest.raises(CoaError, match=r"params\.yaml was changed by hand"):
            main(["conf/tiny.yaml"])
        assert Path("params.yaml").read_text() == mine
    main(["conf/tiny.yaml", "overwrite=true"])
    assert "mine" not in Path("params.yaml").read_text()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o000)
    with pytest.raises(OutputError):
        check_own_folder(tmp_path / "out", EXPORT)


def test_only_the_leftovers_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    living = os.getppid()
    stay = [f".out.{living}.partial", ".out.mine.partial", ".out.partial", ".other.1.partial"]
    leave = [f".out.{gone.pid}.partial", f".out.{gone.pid}.a1b2.partial", f".out.{gone.pid}.old"]
    for name in (*stay, *leave):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(stay)


def test_a_table_does_not_replace_another_kind_of_table(tmp_path: Path) -> None:
    from coa.records.question import Question
    from coa.records.trajectory import Trajectory
    from coa.store import tables

    path = tmp_path / "out.parquet"
    tables.write_table(path, Question, [])
    before = path.read_bytes()
    with pytest.raises(OutputError, match="a table of another kind"):
        tables.write_table(path, Trajectory, [])
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="a folder"):
        tables.write_table(tmp_path / "folder", Trajectory, [])
    assert path.read_bytes() == before


def test_a_training_does_not_overwrite_somebodys_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coa.student.checkpoint import Workspace

    monkeypatch.chdir(tmp_path)
    workspace = Workspace("mine")
    workspace.check_out()
    workspace.out.mkdir(parents=True)
    (workspace.out / "model.safetensors").write_text("years of work", encoding="utf-8")
    with pytest.raises(OutputError, match="nothing was overwritten"):
        workspace.check_out()
    workspace.resume_from("settings", [])
    workspace.check_out()  # A run that was killed while it saved left its checkpoints.
    workspace.clear()
    (workspace.out / "params.yaml").write_text("train: {}", encoding="utf-8")
    workspace.check_out()
    assert (workspace.out / "model.safetensors").read_text() == "years of work"


@pytest.mark.parametrize("content", [b"years of work", b"PAR"])
def test_a_table_does_not_replace_a_file_that_is_no_table(tmp_path: Path, content: bytes) -> None:
    from coa.records.question import Question
    from coa.store import tables

    path = tmp_path / "out.parquet"
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is in the way"):
        tables.write_table(path, Question, [])
    assert path.read_bytes() == content
    path.write_bytes(b"")
    tables.write_table(path, Question, [])
    path.write_bytes(path.read_bytes()[:100])  # Cut off: it may be made again.
    assert tables.write_table(path, Question, []) == 0
