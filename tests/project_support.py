"""Make projects, and start and finish their commands, for the tests that kill them."""

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from coa.pipeline import render_pipeline
from coa.plan import Plan
from coa.settings.params import Params
from coa.settings.stages import Stage

ROOT = Path(__file__).parent.parent
REPRO = ("dvc", "repro", "report", "render")
"""The line of data; the chain of training on it is run by the stages' own tests."""
TREE = (
    "annotate",
    "coa",
    "synth",
    "curate",
    "data_cards",
    "train",
    "evaluation",
    "lab",
    "conf",
    "pipeline",
    ".dvcignore",
)


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "GIT_CONFIG_GLOBAL": os.devnull}
    variables.pop("PYTHONPATH", None)  # it would bring in other code than the project's own
    return variables


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command in its own process group, to be killed with or without its children."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(),
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(folder: Path, *command: str) -> str:
    process = start(folder, *command)
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]
    return output


def make_project(folder: Path) -> Path:
    """A copy of the project without data."""
    folder.mkdir()
    for name in TREE:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy2)(ROOT / name, folder / name)
    (folder / "data").mkdir()
    for name in ("reviews", "agreement"):
        shutil.copy2(ROOT / f"data/{name}.parquet", folder / "data")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    return folder


def make_tiny_project(folder: Path) -> Path:
    """A copy of the project in a git repository of its own, with the tiny profile."""
    make_project(folder)
    finish(folder, sys.executable, "-m", "coa.params", "conf/tiny.yaml")
    finish(folder, "git", "init", "--quiet", "--initial-branch=main")
    finish(folder, "git", "config", "user.email", "test@example.org")
    finish(folder, "git", "config", "user.name", "test")
    return folder


def stages_run(output: str) -> list[str]:
    """The stages that `dvc repro` says it ran."""
    return re.findall("Running stage '([^']+)'", output)


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to, symlinks=True)
    return to


@cache
def all_stages() -> dict[str, dict[str, Any]]:
    """Every stage that a profile can have, by name, as dvc.yaml describes it."""
    everything = [
        "pipeline.trajectories=[sample,ingest]",
        f"pipeline.training=[{','.join(Stage)}]",
        f"pipeline.student={Stage.RL2}",
        "pipeline.student_pairs=1",
        "ingest.files=[{path: data/raw}]",
    ]
    params = Params.load("pipeline", everything, ROOT / "conf/microworld.yaml")
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load(render_pipeline(Plan(params)))[
        "stages"
    ]
    return found
