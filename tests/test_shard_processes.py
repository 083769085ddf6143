"""Shards as processes: a killed one starts again, a signal or a wrong setting ends all."""

import asyncio
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from coa.journal import Journal
from coa.shard_files import SHARDS, Shard
from coa.shard_processes import run_processes
from tests.shard_support import (
    CONCURRENCY,
    ROOT,
    clear,
    copy_run,
    finish,
    kill,
    made,
    num_done,
    paid_teacher,
    process_of,
    start,
    wait_until,
)

SAMPLE = (sys.executable, "-m", "synth.sample", "mode=coa")
MERGE = (sys.executable, "-m", "coa.merge", "stage=sample", "mode=coa")
IN_SHARDS = ("shards.num_shards=4", "shards.launcher=processes")
SHARD = Shard(3, 4)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_run(small_run, tmp_path_factory.mktemp("shards") / "run")


def is_running(process: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


def test_a_shard_that_is_killed_starts_again_and_repeats_only_calls_in_flight(
    project: Path,
) -> None:
    with paid_teacher(project) as (teacher, at_server):
        finish(start(project, *SAMPLE, *at_server))
        expected = made(project)
        clear(project)
        teacher.answered.clear()
        launch = start(project, *SAMPLE, *at_server, *IN_SHARDS)
        victim = process_of(project, "sample-coa", SHARD)
        wait_until(lambda: teacher.answered.total() > 40)
        kill(victim)
        output = finish(launch)
        assert "shard 3 of 4 died (exit status -9) and is started again" in output
        assert made(project) == expected
        assert teacher.num_repeated <= CONCURRENCY
        assert "0 calls made" in output
        clear(project)


def test_sigterm_stops_all_shards_in_order_and_the_next_run_repeats_nothing(project: Path) -> None:
    with paid_teacher(project) as (teacher, at_server):
        finish(start(project, *SAMPLE, *at_server))
        expected = made(project)
        clear(project)
        teacher.answered.clear()
        launch = start(project, *SAMPLE, *at_server, *IN_SHARDS)
        shards = [process_of(project, "sample-coa", Shard(number, 4)) for number in (1, 2, 3, 4)]
        wait_until(lambda: teacher.answered.total() > 40)
        launch.send_signal(signal.SIGTERM)
        output, _ = launch.communicate(timeout=200)
        assert launch.returncode == 143, output
        assert "run the same command again" in output
        assert not any(is_running(process) for process in shards)
        finish(start(project, *SAMPLE, *at_server, *IN_SHARDS))
        assert made(project) == expected
        assert teacher.num_repeated == 0
        clear(project)


SLOW = """
import signal, sys, time
number = int(sys.argv[-1].partition("=")[2].partition("/")[0])
def stop(signal_number, frame):
    time.sleep(number - 1)
    open(f"ended-{number}", "w").close()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
open(f"ready-{number}", "w").close()
time.sleep(60)
"""


def test_a_shard_that_stops_early_does_not_end_those_that_wait_for_their_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slow_to_stop.py").write_text(SLOW)
    shards = [Shard(number, 2) for number in (1, 2)]

    async def stop_in_order() -> None:
        run = asyncio.create_task(run_processes(tmp_path / "sample", shards, "slow_to_stop", []))
        while len(list(tmp_path.glob("ready-*"))) < len(shards):
            await asyncio.sleep(0.05)
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run

    asyncio.run(stop_in_order())
    assert sorted(path.name for path in tmp_path.glob("ended-*")) == ["ended-1", "ended-2"]


def test_a_wrong_setting_ends_all_shards_with_its_error(project: Path) -> None:
    launch = start(project, *SAMPLE, *IN_SHARDS, "rollout.max_actions=many")
    output, _ = launch.communicate(timeout=200)
    assert launch.returncode == 1
    assert "a setting has a bad value" in output
    launch = start(project, *SAMPLE, *IN_SHARDS, "teacher.policy=gold", "teacher.gold.questions=x")
    output, _ = launch.communicate(timeout=200)
    assert launch.returncode == 1
    assert re.search(r"shard \d of 4 failed, so the others were stopped", output), output
    assert "is started again" not in output
    clear(project)


def test_shards_without_a_launcher_are_an_error(project: Path) -> None:
    launch = start(project, *SAMPLE, "shards.num_shards=4")
    output, _ = launch.communicate(timeout=200)
    assert launch.returncode == 1
    assert "4 shards and nobody starts them" in output


@pytest.mark.long
def test_a_job_of_an_array_that_is_killed_goes_on_when_it_is_submitted_again(
    project: Path, tmp_path: Path
) -> None:
    requeued = tmp_path / "requeued"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {requeued}\n')
    (tmp_path / "scontrol").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    with paid_teacher(project) as (teacher, at_server):
        finish(start(project, *SAMPLE, *at_server))
        expected = made(project)
        clear(project)
        teacher.answered.clear()

        def submit(number: int):  # type: ignore[no-untyped-def]
            script = (str(ROOT / "examples/slurm_array.sh"), "mode=coa", *at_server)
            return start(
                project,
                *script,
                PATH=path,
                SLURM_ARRAY_JOB_ID="7",
                SLURM_ARRAY_TASK_ID=str(number),
                SLURM_ARRAY_TASK_COUNT="4",
            )

        jobs = [submit(number) for number in (1, 2, 3, 4)]
        victim = process_of(project, "sample-coa", SHARD)
        wait_until(lambda: num_done(project, "sample-coa", SHARD) > 0)
        kill(victim)
        output, _ = jobs[2].communicate(timeout=200)
        assert jobs[2].returncode == 137, output
        assert requeued.read_text() == "requeue 7_3\n"
        for job in (jobs[0], jobs[1], jobs[3]):
            finish(job)
        merge = start(project, *MERGE, *at_server)
        output, _ = merge.communicate(timeout=200)
        assert merge.returncode == 1 and "shard 3 (not over)" in output
        finish(submit(3))
        assert "0 calls made" in finish(start(project, *MERGE, *at_server))
        assert made(project) == expected
        assert teacher.num_repeated <= CONCURRENCY
        clear(project)


def test_a_journal_names_the_machine_that_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path):
        Path(f"{path}.pid").write_text("17 node5")
        with (
            pytest.raises(OSError, match="open in process 17 on node5"),
            Journal(path, wait_seconds=0.1),
        ):
            pass
    assert not SHARDS.is_absolute()
