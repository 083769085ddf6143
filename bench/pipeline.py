"""Measure the time of each stage of a profile, and of a `dvc repro` that has nothing to do.

    python -m bench.pipeline                        # conf/microworld.yaml
    python -m bench.pipeline conf/tiny.yaml         # another profile

Works in a fresh temporary copy of the files that git knows or would add, without data, journals or
DVC's cache. The time of a stage goes from its start to the start of the next, so it includes what
DVC hashes and stores for it. PYTHONDONTWRITEBYTECODE is unset for the measurement: with it every
stage would compile all its modules again. Targets for the default profile on two cores: all within
240 s; nothing changed under 5 s.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil  # type: ignore[import-untyped]

PROFILE = "conf/microworld.yaml"
NUM_IDLE_RUNS = 3
RUNNING = re.compile(r"^Running stage '(?P<stage>[^']+)'")


class Spent(NamedTuple):
    """Time that a stage took, in seconds."""

    stage: str
    wall: float
    cpu: float


def copy_project(target: Path) -> None:
    """Copy what a fresh clone would hold into a new repository, uncommitted changes included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0"):
        if name and Path(name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, target / name)
    subprocess.run(["git", "init", "--quiet", str(target)], check=True)


def environment() -> dict[str, str]:
    """Return the environment of the commands."""
    variables = dict(os.environ)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    variables["PYTHONUNBUFFERED"] = "1"
    return variables


def clock(process: psutil.Process) -> tuple[float, float]:
    """Return wall seconds, and CPU seconds of a process and of its children that have ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return time.perf_counter(), 0.0
    return (
        time.perf_counter(),
        times.user + times.system + times.children_user + times.children_system,
    )


def repro_by_stage(folder: Path) -> Iterator[Spent]:
    """Run `dvc repro` and give what each stage took as it ends.

    Raises:
        CalledProcessError: a stage failed.
    """
    command = ["dvc", "repro"]
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as dvc:
        process = psutil.Process(dvc.pid)
        assert dvc.stdout is not None
        stage, since, log = "(start of DVC)", clock(process), []
        for line in dvc.stdout:
            log.append(line)
            found = RUNNING.match(line)
            if found:
                now = clock(process)
                yield Spent(stage, now[0] - since[0], now[1] - since[1])
                stage, since = found["stage"], now
        # The process has closed its output. It may be a zombie, whose times can still be read.
        now = clock(process)
        yield Spent(stage, now[0] - since[0], max(now[1] - since[1], 0.0))
    if dvc.returncode:
        print("".join(log[-20:]), file=sys.stderr)
        raise subprocess.CalledProcessError(dvc.returncode, command)


def idle_seconds(folder: Path) -> float:
    """Measure the wall seconds of a `dvc repro` that has nothing to do."""
    started = time.perf_counter()
    done = subprocess.run(
        ["dvc", "repro"], cwd=folder, env=environment(), check=True, capture_output=True, text=True
    )
    ran = [line for line in done.stdout.splitlines() if RUNNING.match(line)]
    assert len(ran) == 1, done.stdout  # the stage `code` always runs
    return time.perf_counter() - started


def main(arguments: list[str]) -> None:
    """Print the table."""
    profile = arguments[0] if arguments else PROFILE
    print(f"{profile} on {os.cpu_count()} cores; seconds", flush=True)
    print(f"{'stage':20}{'wall':>8}{'CPU':>8}{'share':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        subprocess.run(
            [sys.executable, "-m", "coa.params", profile],
            cwd=folder,
            env=environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )
        spent = list(repro_by_stage(folder))
        total = Spent("all", sum(row.wall for row in spent), sum(row.cpu for row in spent))
        for row in (*spent, total):
            print(f"{row.stage:20}{row.wall:8.1f}{row.cpu:8.1f}{row.wall / total.wall:8.0%}")
        idle = [idle_seconds(folder) for _ in range(NUM_IDLE_RUNS)]
    print(f"nothing changed: median {statistics.median(idle):.2f} s, first {idle[0]:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
