"""Kill every training stage twice at seeded moments: it ends with the same files."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.project_support import (
    copy,
    finish,
    make_project,
    start,
)

pytestmark = pytest.mark.slow
FEW_STEPS = """
train:
  pretrain: {arguments: {max_steps: 40, save_steps: 5}}
  sft1: {arguments: {save_steps: 1}}
  sft2: {arguments: {max_steps: 10, save_steps: 2}}
  sft3: {arguments: {max_steps: 10, save_steps: 2}}
  rl2: {arguments: {max_steps: 3, save_steps: 1}}
"""
STAGES = (
    "synth.microworld",
    "synth.questions",
    "coa.search.index",
    "synth.sample mode=cot",
    "synth.sample mode=coa",
    "curate.grade",
    "curate.analyse",
    "curate.filter",
    "curate.branch",
    "curate.screen",
    "curate.assemble",
    "curate.report",
    "data_cards.render",
    "train.run stage=pretrain",
    "train.run stage=sft1",
    "train.run stage=sft2",
    "train.run stage=sft3",
    "train.run stage=rl2",
    "evaluation.evaluate name=rl2 model=data/train/rl2 mode=coa",
)
MADE = ("data", "metrics", "reports", "results", ".journal", ".checkpoints")
WITH_TIMES = ("log.jsonl", "curves.png", "training_args.bin")
"""Files that say how long a training took, so that two runs of it never write the same bytes."""


def files(project: Path) -> dict[str, os.stat_result]:
    """What the stages have written."""
    found = {}
    for made in MADE:
        # `walk` passes over folders that are removed meanwhile.
        for folder, _, names in os.walk(project / made):
            for name in names:
                path = Path(folder) / name
                with suppress(FileNotFoundError):  # renamed meanwhile
                    found[path.relative_to(project).as_posix()] = path.stat()
    return found


def contents(project: Path) -> dict[str, bytes]:
    """The files, by name, and what can be compared of them."""
    found = {}
    for name in sorted(files(project)):
        is_compared = not name.startswith((".journal", "metrics/train_"))
        is_compared &= not name.endswith(WITH_TIMES)
        found[name] = (project / name).read_bytes() if is_compared else b""
    return found


def changes(project: Path) -> dict[str, tuple[int, int]]:
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in files(project).items()}


def wait_for_a_change(project: Path, process: subprocess.Popen[str]) -> None:
    before = changes(project)
    while process.poll() is None and changes(project) == before:
        time.sleep(0.002)


def undisturbed(project: Path, command: tuple[str, ...]) -> tuple[float, float]:
    """Run a command; the seconds until it first changed a file, and until its end."""
    began = time.monotonic()
    process = start(project, *command)
    wait_for_a_change(project, process)
    changed = time.monotonic() - began
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]
    return changed, time.monotonic() - began


def is_killed(project: Path, command: tuple[str, ...], seconds: float, writes: bool) -> bool:
    """Run a command and kill it after so long, counted from its first change where it `writes`."""
    process = start(project, *command)
    if writes:
        wait_for_a_change(project, process)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)
    has_ended = process.poll() is not None
    if not has_ended:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return not has_ended


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_every_stage_killed_twice_at_seeded_moments_goes_on_to_the_same_files(
    tmp_path: Path,
) -> None:
    pytest.importorskip("trl")
    whole, killed = make_project(tmp_path / "whole"), tmp_path / "killed"
    (whole / "few_steps.yaml").write_text(FEW_STEPS)
    finish(whole, sys.executable, "-m", "coa.params", "conf/tiny.yaml", "few_steps.yaml")
    copy(whole, killed)
    rng = random.Random(40)
    num_kills = 0
    for stage in STAGES:
        command = (sys.executable, "-m", *stage.split())
        changed, seconds = undisturbed(whole, command)
        for writes in (False, True):
            longest = seconds - changed if writes else seconds
            while not is_killed(killed, command, longest * rng.random(), writes):
                longest /= 2  # it was faster than the undisturbed run
            num_kills += 1
        finish(killed, *command)
        expected, found = contents(whole), contents(killed)
        assert found.keys() == expected.keys(), stage
        assert [name for name in found if found[name] != expected[name]] == [], stage
    assert num_kills == 40
