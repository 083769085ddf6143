"""Make a folder in which the project's commands run, apart from the files of this one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from bench.gpu.sizes import Sizes

ROOT = Path(__file__).parent.parent.parent
_DATA = (
    ("synth.microworld",),
    ("synth.questions",),
    ("coa.search.index",),
    ("synth.sample", "mode=cot"),
    ("synth.sample", "mode=coa"),
    ("curate.grade",),
    ("curate.analyse",),
    ("curate.filter",),
    ("curate.branch",),
    ("curate.screen",),
    ("curate.assemble",),
)
"""From nothing to the sets."""


class Workplace:
    """A folder with settings, data and models of its own."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder = folder
        self.sizes = sizes

    def run(self, module: str, *arguments: str) -> None:
        """Run a module of the project here.

        Raises:
            RuntimeError: it failed; says how its output ended.
        """
        environment = {**os.environ, "PYTHONPATH": _with_root(os.environ.get("PYTHONPATH", ""))}
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        if done.returncode:
            shown = " ".join((module, *arguments))
            raise RuntimeError(f"{shown} failed: {done.stdout[-2000:]}")

    def make_sets(self) -> None:
        """Make the world, the trajectories and the sets, unless they are there."""
        if (self.folder / "data/assemble/rl/train.parquet").is_file():
            return
        (self.folder / "data").mkdir(exist_ok=True)
        shutil.copy2(ROOT / "data/reviews.parquet", self.folder / "data")
        self.run("coa.params", *self.sizes.profiles)
        for command in _DATA:
            self.run(*command)

    def train(self, stage: str, name: str, settings: Sequence[str]) -> dict[str, float]:
        """Train a stage; return seconds, seconds a step, tokens a second and gigabytes."""
        self.run("bench.gpu.measured", "took.json", f"stage={stage}", f"name={name}", *settings)
        took: dict[str, float] = msgspec.json.decode((self.folder / "took.json").read_bytes())
        log = read_log(self.folder / "data/train" / name / "log.jsonl")
        trained = [entry for entry in log if "train_runtime" in entry]
        if trained:
            seconds = trained[-1]["train_runtime"]
            took["seconds_per_step"] = seconds / trained[-1]["step"]
            num_tokens = max(entry.get("num_tokens", 0.0) for entry in log)
            if num_tokens:
                took["tokens_per_second"] = num_tokens / seconds
        return {key: round(value, 3) for key, value in took.items()}

    def result(self, name: str) -> dict[str, Any]:
        """Read the result of an evaluation."""
        path = self.folder / f"results/evaluate/{name}.json"
        found: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        return found


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a trainer's log."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def _with_root(paths: str) -> str:
    return os.pathsep.join(part for part in (str(ROOT), paths) if part)
