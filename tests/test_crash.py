"""Send SIGKILL at seeded moments, and start the run again.

It ends with the same bytes and pays for no finished call twice.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML, YAMLError
from voluptuous import Invalid

from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.policy import Completion, Request
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve
from coa.settings.params import Params
from tests.project_support import (
    copy,
    finish,
    make_project,
    stages_run,
    start,
)

CONCURRENCY = 16
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


class Paid(ScriptedPolicy):
    """The microworld's teacher as a slow, paid model that remembers which calls it answered."""

    def __init__(self, params: MicroworldParams) -> None:
        teacher = scripted_teacher(params)
        super().__init__(lambda request: teacher._complete(request).text, "paid")
        self.answered: Counter[Request] = Counter()

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0.01)
        self.answered[request] += 1
        return await super().complete(request)


@contextmanager
def served(policy: Paid) -> Iterator[str]:
    """The policy behind a real HTTP server, in a thread."""
    ready, stop, found = threading.Event(), threading.Event(), list[str]()

    async def run() -> None:
        async with serve(policy) as base_url:
            found.append(base_url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join()


def wait_until_idle(policy: Paid) -> None:
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
    prepared: Path, tmp_path: Path
) -> None:
    policy = Paid(
        Params.load("microworld", path=prepared / "params.yaml").section(MicroworldParams)
    )
    rng = random.Random(20)
    with served(policy) as base_url:
        command = (
            sys.executable,
            "-m",
            "synth.sample",
            "mode=coa",
            "num_questions=400",
            "teacher.policy=completions",
            f"teacher.server.base_url={base_url}",
            "teacher.server.model=paid",
            f"teacher.concurrency={CONCURRENCY}",
        )
        whole = copy(prepared, tmp_path / "whole")
        finish(whole, *command)
        expected, all_calls = (whole / "data/sample/coa.parquet").read_bytes(), set(policy.answered)
        assert max(policy.answered.values()) == 1

        policy.answered.clear()
        killed = copy(prepared, tmp_path / "killed")
        journal = killed / ".journal/sample-coa.sqlite"
        num_kills = 0
        for target in sorted(rng.sample(range(1, len(all_calls)), 4)):
            process = start(killed, *command)
            while recorded(journal) < target and process.poll() is None:
                time.sleep(0.005)
            num_kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            assert not (killed / "data/sample/coa.parquet").exists() or process.returncode == 0
        assert num_kills >= 3

        wait_until_idle(policy)
        held, answered_before = recorded(journal), policy.answered.copy()
        finish(killed, *command)

    assert (killed / "data/sample/coa.parquet").read_bytes() == expected
    assert [path.name for path in (killed / "data/sample").iterdir()] == ["coa.parquet"]
    assert set(policy.answered) == all_calls
    # The last run asked for what the journal did not hold, and for nothing else.
    assert (policy.answered - answered_before).total() == len(all_calls) - held
    # Only calls in flight at a kill were asked for twice.
    assert sum(count - 1 for count in policy.answered.values()) <= num_kills * CONCURRENCY


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
    """Do what docs/running.md tells to do after a kill: DVC writes two files in place.

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


def test_an_interrupt_says_that_nothing_is_lost_and_sets_the_status(
    prepared: Path, tmp_path: Path
) -> None:
    policy = Paid(
        Params.load("microworld", path=prepared / "params.yaml").section(MicroworldParams)
    )
    folder = copy(prepared, tmp_path / "interrupted")
    journal = folder / ".journal/sample-coa.sqlite"
    with served(policy) as base_url:
        process = start(
            folder,
            sys.executable,
            "-m",
            "synth.sample",
            "mode=coa",
            "num_questions=400",
            "teacher.policy=completions",
            f"teacher.server.base_url={base_url}",
            "teacher.server.model=paid",
            "teacher.concurrency=1",  # so slow that the signal comes in time
        )
        while recorded(journal) < 20 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "interrupted: finished calls are kept" in output
    assert "Traceback" not in output
    assert recorded(journal) >= 20
    assert not list((folder / "data/sample").glob("*"))
