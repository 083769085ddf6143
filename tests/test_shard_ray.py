"""Shards on Ray: two nodes on this machine, a worker that is killed and a node that is removed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coa.shard_files import SHARDS, folder_name, shards_in
from tests.project_support import ROOT
from tests.shard_support import (
    CONCURRENCY,
    Paid,
    clear,
    copy_run,
    finish,
    made,
    paid_teacher,
    start,
    wait_until,
)

ray_cluster = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: [ray]")
pytestmark = [pytest.mark.slow, pytest.mark.long]
SAMPLE = (sys.executable, "-m", "synth.sample", "mode=coa")
NOT_YET_SHIPPED = 4
"""Calls of a shard that may be on their way to the ledger when its worker dies."""


@pytest.fixture
def project(small_run: Path, tmp_path: Path) -> Path:
    return copy_run(small_run, tmp_path / "run")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head, where the launcher runs, and two nodes beside it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    started = ray_cluster.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    try:
        yield started
    finally:
        started.shutdown()


def launch(project: Path, cluster: Any, at_server: list[str]) -> subprocess.Popen[str]:
    return start(
        project,
        *SAMPLE,
        *at_server,
        "shards.num_shards=4",
        "shards.launcher=ray",
        f"shards.ray_address={cluster.address}",
        PYTHONPATH=str(ROOT),
    )


def expected_of(project: Path, teacher: Paid, at_server: list[str]) -> dict[str, bytes]:
    finish(start(project, *SAMPLE, *at_server))
    expected = made(project)
    clear(project)
    teacher.answered.clear()
    return expected


def workers_of(module: str) -> list[int]:
    """The processes that run a shard, as Ray names them."""
    found = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if module in line]


def test_a_worker_that_is_killed_starts_again_and_pays_only_what_was_under_way(
    project: Path, cluster: Any
) -> None:
    cluster.add_node(num_cpus=4)
    with paid_teacher(project) as (teacher, at_server):
        expected = expected_of(project, teacher, at_server)
        run = launch(project, cluster, at_server)
        wait_until(lambda: teacher.answered.total() > 40)
        os.kill(workers_of("ray::run_shard")[0], signal.SIGKILL)
        assert "0 calls made" in finish(run)
        assert made(project) == expected
        assert teacher.num_repeated <= CONCURRENCY + NOT_YET_SHIPPED


def test_a_run_goes_on_without_a_node_that_is_removed(project: Path, cluster: Any) -> None:
    lost = cluster.add_node(num_cpus=2)
    cluster.add_node(num_cpus=2)
    with paid_teacher(project) as (teacher, at_server):
        expected = expected_of(project, teacher, at_server)
        run = launch(project, cluster, at_server)
        wait_until(lambda: teacher.answered.total() > 60)
        cluster.remove_node(lost, allow_graceful=False)
        assert "0 calls made" in finish(run)
        assert made(project) == expected
        assert teacher.num_repeated <= 2 * (CONCURRENCY + NOT_YET_SHIPPED)


def test_a_signal_stops_the_shards_on_all_nodes_and_nothing_is_paid_twice(
    project: Path, cluster: Any
) -> None:
    cluster.add_node(num_cpus=4)
    with paid_teacher(project) as (teacher, at_server):
        expected = expected_of(project, teacher, at_server)
        run = launch(project, cluster, at_server)
        wait_until(lambda: teacher.answered.total() > 40)
        run.send_signal(signal.SIGTERM)
        output, _ = run.communicate(timeout=200)
        assert run.returncode == 143, output
        kept = shards_in(project / SHARDS / "sample-coa")
        assert [folder_name(shard) for shard in kept] == ["1-of-4", "2-of-4", "3-of-4", "4-of-4"]
        assert "0 calls made" in finish(launch(project, cluster, at_server))
        assert made(project) == expected
        assert teacher.num_repeated == 0


def test_a_wrong_setting_ends_the_run_with_the_error_of_the_shard(
    project: Path, cluster: Any
) -> None:
    cluster.add_node(num_cpus=4)
    run = launch(project, cluster, ["teacher.policy=gold", "teacher.gold.questions=x"])
    output, _ = run.communicate(timeout=200)
    assert run.returncode == 1
    assert "failed, so the others were stopped" in output
    assert "name another file in params.yaml" in output
