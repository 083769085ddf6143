"""Shards on Ray: on this machine, and on two nodes of which a worker and then a node are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray.cluster_utils

from coa.errors import ConfigError, ServiceError
from coa.shards.files import SHARDS, Shard, shards_in, split
from curate.filter import main as filter_
from tests.shard_support import (
    CONCURRENCY,
    Paid,
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

FILTER = (sys.executable, "-m", "curate.filter")
SAMPLE = (sys.executable, "-m", "synth.sample", "mode=coa")
FOUR = ("shards.num_shards=4", "shards.launcher=ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def project(small_run: Path, tmp_path: Path) -> Path:
    return copy_run(small_run, tmp_path / "run")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head, where the launcher runs, and two nodes beside it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    started = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        started.add_node(num_cpus=2, object_store_memory=80_000_000)
    try:
        yield started
    finally:
        started.shutdown()


def expected_of(project: Path, teacher: Paid, at_server: list[str]) -> dict[str, bytes]:
    """The bytes of one process."""
    finish(start(project, *SAMPLE, *at_server))
    expected = made(project)
    clear(project)
    teacher.answered.clear()
    return expected


def processes_in(folder: Path) -> set[str]:
    """The processes that were started in a folder, or that know of it."""
    found = subprocess.run(["ps", "-eo", "pid"], capture_output=True, text=True, check=True)
    running: set[str] = set()
    for pid in found.stdout.split()[1:]:
        try:
            if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                running.add(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return running


def test_on_this_machine_the_bytes_are_those_of_one_process_and_nothing_is_left_behind(
    project: Path,
) -> None:
    finish(start(project, *FILTER))
    expected = made(project)
    output = finish(start(project, *FILTER, "shards.num_shards=2", "shards.launcher=ray"))
    assert made(project) == expected
    assert not list((project / SHARDS).glob("*"))
    bar, summary = output.strip().splitlines()[-2:]
    assert bar.startswith("filter, 2 shards: 100%") and summary.startswith("data/filter")
    assert "ray" not in output.lower()
    wait_until(lambda: not processes_in(project))


def test_a_killed_worker_and_a_lost_node_cost_no_more_than_the_calls_in_flight(
    project: Path, cluster: Any
) -> None:
    lost = cluster.worker_nodes.copy().pop()
    with paid_teacher(project) as (teacher, at_server):
        expected = expected_of(project, teacher, at_server)
        address = f"shards.ray_address={cluster.address}"
        launch = start(project, *SAMPLE, *at_server, *FOUR, address)
        victim = process_of(project, "sample-coa", Shard(3, 4))
        wait_until(lambda: num_done(project, "sample-coa", Shard(3, 4)) > 0)
        kill(victim)
        wait_until(lambda: teacher.answered.total() > 60)
        cluster.remove_node(lost, allow_graceful=False)
        output = finish(launch)
        assert "0 calls made" in output and "raylet" not in output
        assert made(project) == expected
        assert teacher.num_repeated <= 3 * CONCURRENCY


def test_without_ray_an_error_says_how_to_get_it_and_what_else_there_is(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'ray.* shard=1/4"):
        filter_(["shards.num_shards=2", "shards.launcher=ray"])


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_shards_in_order_and_the_next_run_repeats_nothing(
    project: Path, number: signal.Signals
) -> None:
    with paid_teacher(project) as (teacher, at_server):
        expected = expected_of(project, teacher, at_server)
        launch = start(project, *SAMPLE, *at_server, *FOUR)
        shards = [process_of(project, "sample-coa", shard) for shard in split(4)]
        wait_until(lambda: teacher.answered.total() > 40)
        if number is signal.SIGINT:
            os.killpg(launch.pid, number)  # as a terminal does
        else:
            launch.send_signal(number)
        output, _ = launch.communicate(timeout=200)
        assert launch.returncode == 128 + number, output
        assert "run the same command again" in output
        assert shards_in(project / SHARDS / "sample-coa") == split(4)
        wait_until(lambda: not any(Path(f"/proc/{shard}").exists() for shard in shards))
        assert "0 calls made" in finish(start(project, *SAMPLE, *at_server, *FOUR))
        assert made(project) == expected
        assert teacher.num_repeated == 0


@pytest.mark.long
def test_a_launcher_that_is_killed_takes_its_shards_along_and_the_next_run_goes_on(
    project: Path,
) -> None:
    with paid_teacher(project) as (teacher, at_server):
        expected = expected_of(project, teacher, at_server)
        launch = start(project, *SAMPLE, *at_server, *FOUR)
        shards = [process_of(project, "sample-coa", shard) for shard in split(4)]
        wait_until(lambda: teacher.answered.total() > 40)
        kill(launch.pid)
        launch.communicate(timeout=200)
        wait_until(lambda: not any(Path(f"/proc/{shard}").exists() for shard in shards))
        assert "0 calls made" in finish(start(project, *SAMPLE, *at_server, *FOUR))
        assert made(project) == expected
        assert teacher.num_repeated <= 4 * CONCURRENCY


@pytest.mark.long
def test_a_wrong_setting_ends_the_run_with_the_error_of_the_shard(project: Path) -> None:
    launch = start(project, *SAMPLE, *FOUR, "teacher.policy=gold", "teacher.gold.questions=x")
    output, _ = launch.communicate(timeout=200)
    assert launch.returncode == 1
    assert "failed, so the others were stopped" in output
    assert "name another file in params.yaml" in output


def test_an_address_without_a_cluster_is_an_error(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(ServiceError, match="there is no Ray cluster that can be used"):
        filter_([*FOUR, "shards.ray_address=127.0.0.1:9"])
