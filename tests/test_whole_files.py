"""Files are whole or not there, whatever ends the writing; leftovers never stand in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from annotate.state import DATABASE, State
from coa.errors import InputError, OutputError
from coa.search import Passage
from coa.store import tables
from coa.store.model_files import fingerprint_files
from coa.store.sources import read_rows
from coa.store.whole_files import PRIVATE, replacing, write_file

ROOT = Path(__file__).parent.parent
PASSAGE = Passage("1", "t", "x")
FULL = """
import resource, sys
from pathlib import Path
from coa.errors import OutputError
{imports}
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    {call}
except OutputError as error:
    print(error)
"""
"""No file may grow beyond the limit, as on a disk that is full."""


def on_a_full_disk(folder: Path, imports: str, call: str, limit: int = 10) -> str:
    """What a call says when the disk is full, in a process of its own."""
    script = FULL.format(imports=imports, call=call, limit=limit)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_is_written_with_its_folders_and_private_where_it_has_to_be(tmp_path: Path) -> None:
    write_file(tmp_path / "a/b/c.txt", "é")
    (tmp_path / "secret").write_text("old, and readable to all")
    write_file(tmp_path / "secret", b"x", mode=PRIVATE)
    assert (tmp_path / "a/b/c.txt").read_bytes() == "é".encode()
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "secret"]


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_file(tmp_path / "f", "old")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "f") as partial:
        partial.write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "f").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "pid",
    ["1", str(os.getpid()), str(os.getppid()), "99999999", "x"],
    ids=["the first process", "this process", "its parent", "no process", "no number"],
)
def test_a_leftover_never_blocks_whomever_its_process_id_belongs_to(
    tmp_path: Path, pid: str
) -> None:
    (tmp_path / f".t.parquet.{pid}.partial").write_text("torn")
    tables.write_table(tmp_path / "t.parquet", Passage, [PASSAGE])
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_the_work_of_a_process_that_runs_is_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "t[1].parquet"
    with tables.TableWriter(path, Passage) as slow:
        tables.write_table(path, Passage, [])
        slow.write(PASSAGE)
    assert list(tables.read_table(path, Passage)) == [PASSAGE]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_killed_writer_leaves_the_old_file_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    write_file(tmp_path / "f", "old")
    script = """
import os, signal, sys
from pathlib import Path
from coa.store.whole_files import replacing
with replacing(Path("f")) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment)
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "f").read_text() == "old"
    write_file(tmp_path / "f", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_leaves_params_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("old: {}")
    (tmp_path / "base.yaml").write_text("section: {key: value, another: value}")
    call = "write_profile(Path('base.yaml'), base=Path('base.yaml'))"
    said = on_a_full_disk(tmp_path, "from coa.settings.params import write_profile", call)
    assert "cannot write params.yaml" in said
    assert "free some space" in said
    assert (tmp_path / "params.yaml").read_text() == "old: {}"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("call", ["secret()", "owner_key()", "note_address('http://127.0.0.1')"])
def test_a_full_disk_leaves_no_part_of_a_secret(tmp_path: Path, call: str) -> None:
    said = on_a_full_disk(tmp_path, "from annotate.state import State", f"State(Path('s')).{call}")
    assert "cannot write s/" in said
    assert list((tmp_path / "s").iterdir()) == []
    assert len(State(tmp_path / "s").secret()) >= 32


@pytest.mark.parametrize("found", ["", "a", "0123456789"])
def test_a_secret_that_was_cut_off_is_made_again(tmp_path: Path, found: str) -> None:
    for name in ("secret", "owner.key"):
        (tmp_path / name).write_text(found)
    state = State(tmp_path)
    assert len(state.secret()) >= 32
    assert len(state.owner_key()) >= 32
    assert State(tmp_path).secret() == state.secret() != state.owner_key()
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_an_owners_key_that_is_lost_is_not_replaced_by_one_that_no_account_has(
    tmp_path: Path,
) -> None:
    (tmp_path / DATABASE).touch()
    (tmp_path / "owner.key").touch()
    with pytest.raises(InputError, match="the owner's key is lost"):
        State(tmp_path).owner_key()


@pytest.mark.parametrize("name", ["x.parquet", "x.jsonl", "x.csv", "x.jsonl.gz"])
def test_a_folder_is_named_where_a_file_is_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name} is a folder"):
        list(read_rows(tmp_path / name, {"question": "question"}))


def test_a_folder_is_named_where_a_table_or_a_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").mkdir()
    with pytest.raises(InputError, match=r"x\.json is a folder"):
        tables.count_rows(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"x\.json is a folder"):
        fingerprint_files(tmp_path)


PUSH = """
import sys, time
from annotate.push import one_push
with one_push("http://127.0.0.1:6900", sys.argv[1]):
    with open("log", "a") as log:
        print("in", file=log, flush=True)
        time.sleep(0.5)
        print("out", file=log, flush=True)
"""


def pushes(folder: Path, *workspaces: str) -> list["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COA_CACHE": str(folder / "cache")}
    return [
        subprocess.Popen(
            [sys.executable, "-c", PUSH, workspace],
            cwd=folder,
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
        )
        for workspace in workspaces
    ]


def test_two_pushes_to_one_workspace_go_one_after_the_other(tmp_path: Path) -> None:
    started = pushes(tmp_path, "review", "review", "review")
    said = "".join(process.communicate(timeout=60)[1] for process in started)
    assert [process.returncode for process in started] == [0, 0, 0]
    assert "another push to review is going on" in said
    assert (tmp_path / "log").read_text().split() == ["in", "out"] * 3


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "f.json").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*f\.json"):
        write_file(tmp_path / "f.json", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["f.json"]


def test_a_file_that_was_readable_to_all_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("old")
    write_file(tmp_path / "secret", "new", mode=PRIVATE)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
