"""Send SIGKILL at seeded moments, and start the run again.

It ends with the same bytes and pays for no finished call twice.
"""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

from tests import shard_support
from tests.project_support import (
    copy,
    finish,
    make_project,
    stages_run,
    start,
)

COMMITTER = ("-c", "user.email=test@example.org", "-c", "user.name=test")
# Each test runs the tiny pipeline several times, which a busy machine needs minutes for.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a small profile with its world, questions and index made, ready to sample."""
    folder = make_project(tmp_path_factory.mktemp("crash") / "project")
    finish(folder, sys.executable, "-m", "coa.params", "conf/tiny.yaml")
    finish(folder, "git", "init", "--quiet")
    finish(folder, "dvc", "repro", "questions", "index")
    finish(folder, "git", "add", "dvc.lock")
    finish(folder, "git", *COMMITTER, "commit", "--quiet", "-m", "prepared")
    return folder


def wait_until_idle(policy: shard_support.Paid) -> None:
    """Wait until the server has answered what a killed run left in flight."""
    before = -1
    while policy.answered.total() > before:
        before = policy.answered.total()
        time.sleep(0.5)


def recorded(journal: Path) -> int:
    """The calls of the policy that a journal holds."""
    if not journal.exists():
        return 0
    with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as connection:
        try:
            count: int = connection.execute(
                "select count(*) from calls where kind = 'policy'"
            ).fetchone()[0]
        except sqlite3.OperationalError:  # killed before the table was made
            count = 0
    connection.close()
    return count


def test_a_killed_sampling_goes_on_with_the_same_bytes_and_repeats_no_finished_call(
    small_run: Path, tmp_path: Path
) -> None:
    whole, killed = (shard_support.copy_run(small_run, tmp_path / name) for name in ("a", "b"))
    journal = killed / ".journal/sample-coa.sqlite"
    with shard_support.paid_teacher(small_run) as (teacher, at_server):
        command = (sys.executable, "-m", "synth.sample", "mode=coa", *at_server)
        shard_support.finish(shard_support.start(whole, *command))
        expected = (whole / "data/sample/coa.parquet").read_bytes()
        all_calls = set(teacher.answered)
        assert teacher.num_repeated == 0

        teacher.answered.clear()
        (killed / "data/sample/coa.parquet").unlink()
        num_kills = 0
        for target in sorted(random.Random(20).sample(range(1, len(all_calls)), 3)):
            process = shard_support.start(killed, *command)
            while recorded(journal) < target and process.poll() is None:
                time.sleep(0.005)
            num_kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert not (killed / "data/sample/coa.parquet").exists() or process.returncode == 0
        assert num_kills >= 2

        wait_until_idle(teacher)
        held, answered_before = recorded(journal), teacher.answered.copy()
        shard_support.finish(shard_support.start(killed, *command))

    assert (killed / "data/sample/coa.parquet").read_bytes() == expected
    names = {path.name for path in (killed / "data/sample").iterdir()}
    assert names == {path.name for path in (whole / "data/sample").iterdir()}
    assert set(teacher.answered) == all_calls
    # The last run asked for what the journal did not hold, and for nothing else.
    assert (teacher.answered - answered_before).total() == len(all_calls) - held
    # Only calls in flight at a kill were asked for twice.
    assert teacher.num_repeated <= num_kills * shard_support.CONCURRENCY


@pytest.mark.long
def test_a_killed_repro_goes_on_with_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    whole = copy(prepared, tmp_path / "whole")
    began = time.monotonic()
    finish(whole, "dvc", "repro", "report", "render")
    seconds = time.monotonic() - began
    expected = locked(whole)
    keys = journal_keys(whole)

    killed = copy(prepared, tmp_path / "killed")
    rng = random.Random(7)
    for with_children in (True, False, True):
        process = start(killed, "dvc", "repro", "report", "render")
        try:
            process.communicate(timeout=seconds * rng.uniform(0.2, 0.6))
        except subprocess.TimeoutExpired:
            (os.killpg if with_children else os.kill)(process.pid, signal.SIGKILL)
            process.communicate()
        mend(killed)

    finish(killed, "dvc", "repro", "report", "render")
    assert locked(killed) == expected
    assert journal_keys(killed) == keys


def mend(project: Path) -> None:
    """Do what docs/daily_use.md tells to do after a kill: DVC writes two files in place.

    A lock that was cut off may be valid YAML with fewer stages, so it is always taken from git. A
    folder of the run cache that was made and not filled stops `dvc repro`.
    """
    finish(project, "git", "checkout", "dvc.lock")
    rwlock = project / ".dvc/tmp/rwlock"
    with suppress(FileNotFoundError):
        try:
            json.loads(rwlock.read_text())
        except json.JSONDecodeError:
            rwlock.unlink()
    runs = project / ".dvc/cache/runs"
    if runs.is_dir():
        finish(project, "find", str(runs), "-type", "d", "-empty", "-delete")


def locked(project: Path) -> dict[str, Any] | None:
    """Return the hashes of all that the stages read and wrote, in any order.

    None where a kill cut the file off, and where it cut off a hash or the name of its algorithm:
    DVC stops at a hash that is now a number, and at an algorithm that it does not know.
    """
    try:
        found: dict[str, Any] = COMPILED_LOCKFILE_SCHEMA(
            YAML(typ="safe").load((project / "dvc.lock").read_text())
        )
    except (YAMLError, Invalid):
        return None
    for stage in found["stages"].values():
        for file in (*stage.get("deps", ()), *stage.get("outs", ())):
            if not isinstance(file.get("md5", ""), str) or file.get("hash", "md5") != "md5":
                return None
    return found


def journal_keys(project: Path) -> dict[str, set[str]]:
    """The keys of all calls, by journal."""
    found = {}
    for path in sorted((project / ".journal").glob("*.sqlite")):
        connection = sqlite3.connect(path)
        found[path.stem] = {row[0] for row in connection.execute("select key from calls")}
        connection.close()
    return found


@pytest.mark.long
def test_every_lock_that_a_kill_cut_off_is_mended_by_git(prepared: Path, tmp_path: Path) -> None:
    project = copy(prepared, tmp_path / "cut")
    whole = (project / "dvc.lock").read_bytes()
    rng = random.Random(35)
    num_valid = 0
    for length in rng.sample(range(len(whole)), 30):
        (project / "dvc.lock").write_bytes(whole[:length])
        num_valid += locked(project) is not None
        mend(project)
        assert (project / "dvc.lock").read_bytes() == whole
    assert num_valid  # DVC would not complain about these: they lack stages


@pytest.mark.long
def test_a_lock_that_a_kill_cut_to_a_shorter_valid_one_is_restored_or_made_again(
    prepared: Path, tmp_path: Path
) -> None:
    project = copy(prepared, tmp_path / "shorter")
    expected, whole = locked(project), (project / "dvc.lock").read_bytes()
    rng = random.Random(83)
    num_valid = 0
    while num_valid < 2:
        (project / "dvc.lock").write_bytes(whole[: rng.randrange(1, len(whole))])
        if locked(project) in (None, expected):
            continue
        num_valid += 1
        assert "changed" in finish(project, "dvc", "status", "questions", "index")
        finish(project, "dvc", "repro", "questions", "index")
        assert locked(project) == expected

    (project / "dvc.lock").write_bytes(whole[: whole.index(b"\n  questions:") + 1])
    assert locked(project) not in (None, expected)
    shutil.copy2(prepared / "dvc.lock", project / "dvc.lock")
    output = finish(project, "dvc", "repro", "questions", "index")
    assert stages_run(output) == ["code"] and locked(project) == expected


@pytest.mark.long
@pytest.mark.parametrize("name", ["dvc.lock", ".dvc/tmp/rwlock"])
def test_dvc_names_the_file_that_a_kill_cut_off_and_goes_on_without_it(
    prepared: Path, tmp_path: Path, name: str
) -> None:
    project = copy(prepared, tmp_path / "cut")
    expected = locked(project)
    whole = (project / name).read_bytes()
    (project / name).write_bytes(whole[: whole.rindex(b"md5") + 2] if name == "dvc.lock" else b"")
    process = start(project, "dvc", "repro", "questions", "index")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert name in output
    mend(project)
    assert "changed" not in finish(project, "dvc", "status", "questions", "index")
    finish(project, "dvc", "repro", "questions", "index")
    assert locked(project) == expected
