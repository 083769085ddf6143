"""Measure time and memory of rendering, checking and publishing the sets to a local Hub.

    python -m bench.publish       # the sets of data/, then 2, 4 and 8 times as many rows
    python -m bench.publish 1     # the sets of data/ alone

Target: 7,500 rows rendered, checked and published in under 60 s; memory flat with the number of
rows. The project is copied to a temporary folder with a git repository of its own; the larger sets
repeat the rows under other ids. Reasons that have nothing to do with the rows (uncommitted code, a
stale lock) are waived: their checks run all the same.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.store import tables
from data_cards.catalogue import SPLITS, SetName, local_path

ROOT = Path(__file__).parent.parent
COPIED = ("data", "reports", "synth/prompts", "params.yaml", "dvc.yaml", "dvc.lock", ".dvc/config")
WAIVED = "allow=scripted_teacher,uncommitted_code,stale_lock,card_out_of_date,evaluation_overlap"
MEASURED = """
import resource, sys
from coa.cli import run
from data_cards.{module} import main
try:
    run(main, sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.stderr)
"""


def renamed(row: Any, copy: int) -> Any:
    """Return the same row under another id."""
    if isinstance(row, GradedTrajectory):
        new_id = f"{copy}-{row.trajectory.trajectory_id}"
        return replace(row, trajectory=replace(row.trajectory, trajectory_id=new_id))
    if isinstance(row, PreferencePair):
        return replace(row, pair_id=f"{copy}-{row.pair_id}")
    return replace(row, question_id=f"{copy}-{row.question_id}")


def repeated(path: Path, record: type[Any], times: int) -> Iterator[Any]:
    """Read the rows of a file again and again."""
    for copy in range(times):
        for row in tables.read_table(path, record):
            yield renamed(row, copy)


def grow(project: Path, times: int) -> int:
    """Make the sets of `project` so many times as large as those of data/; return their rows."""
    kinds: dict[SetName, type[Any]] = {SetName.COT_A: PreferencePair, SetName.RL: Question}
    count = 0
    for name in SetName:
        for split in SPLITS:
            path, record = local_path(name, split), kinds.get(name, GradedTrajectory)
            count += tables.write_table(project / path, record, repeated(path, record, times))
    return count


def measured(project: Path, module: str, *arguments: str, **environment: str) -> tuple[float, int]:
    """Run a command and return its seconds and peak megabytes."""
    command = [sys.executable, "-c", MEASURED.format(module=module), *arguments]
    started = time.perf_counter()
    done = subprocess.run(
        command, cwd=project, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - started, int(done.stderr.split()[-1])


def make_project(folder: Path) -> Path:
    """Copy the run and commit it."""
    project = folder / "project"
    for name in COPIED:
        source, target = ROOT / name, project / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
    for command in ("init --quiet", "add params.yaml dvc.yaml dvc.lock", "commit --quiet -m all"):
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.org")
        subprocess.run(["git", *who, *command.split()], cwd=project, check=True)
    return project


def main() -> None:
    """Measure every size."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [1, 2, 4, 8]
    port = "8049"
    with tempfile.TemporaryDirectory() as folder:
        project = make_project(Path(folder))
        environment = {
            "PYTHONPATH": str(ROOT),
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_TOKEN": "hf_local",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }
        command = [
            sys.executable,
            "-m",
            "tests.hub.server",
            str(port),
            f"{folder}/hub",
        ]
        with subprocess.Popen(
            command, cwd=project, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
        ) as hub:
            time.sleep(3)
            published = f"{'check, publish s':>17} {'MB':>5} {'again s':>8}"
            print(f"{'rows':>8} {'render s':>9} {'MB':>5} {published}")
            for size in sizes:
                rows = grow(project, size)
                rendered, render_mb = measured(project, "render", **environment)
                arguments = (f"repository=local/x{size}", WAIVED)
                first, publish_mb = measured(project, "publish", *arguments, **environment)
                again, _ = measured(project, "publish", *arguments, **environment)
                render = f"{rendered:9.1f} {render_mb:5}"
                print(f"{rows:8,} {render} {first:17.1f} {publish_mb:5} {again:8.1f}")
            hub.terminate()


if __name__ == "__main__":
    main()
