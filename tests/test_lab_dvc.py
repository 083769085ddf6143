"""Test with the real DVC which rows of the lab it runs: none that is kept, all that are stale."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lab.kept import read_row
from lab.plan import Plan, read_plan
from tests.lab_support import keep_row
from tests.project_support import ROOT, finish, make_tiny_project, stages_run, start

EXPERIMENTS = """
seeds: [{seeds}]
sets:
  mix: ["lab.subset out={{out}} seed={{seed}} num_rows=12 sets=[data/assemble/coa] shares=[1]"]
trainings:
  pretrain: {{stage: pretrain, settings: train.pretrain.arguments.max_steps=3}}
  sft1: {{stage: sft1, start: pretrain, settings: train.sft1.arguments.max_steps=1}}
  sft2: {{stage: sft2, start: sft1, settings: train.sft2.arguments.max_steps={steps}}}
  sft2_only: {{stage: sft2, start: pretrain}}
  mixed: {{stage: sft2, start: sft1, settings: "train.sft2.trajectories=[{{mix}}]"}}
  sft3: {{stage: sft3, start: sft2}}
  rl2: {{stage: rl2, start: sft2}}
  rl2_only: {{stage: rl2, start: pretrain}}
rows:
  a_cot: {{training: pretrain, title: t, mode: cot}}
  a_react: {{training: pretrain, title: t, mode: react}}
  b: {{training: sft1, title: t}}
  b_other: {{training: sft1, title: t, settings: search.observation.top_k=3}}
  c: {{training: sft2, title: t, num_questions: 8}}
  c_test: {{training: sft2, title: t, split: test, num_questions: 8}}
  d: {{training: sft2_only, title: t}}
  e: {{training: mixed, title: t}}
  f: {{training: sft3, title: t}}
  g: {{training: rl2, title: t}}
  h: {{training: rl2_only, title: t}}
  h_react: {{training: rl2_only, title: t, mode: react}}
experiments:
  one:
    title: t
    claim: c
    reading: r
    rows: [a_cot, a_react, b, b_other, c, c_test, d, e, f, g, h, h_react]
"""
LAB = ("dvc", "--cd", "lab")


def make_lab(folder: Path, seeds: range, steps: int = 20) -> list[str]:
    """Give a project a small lab, and return the names of its rows."""
    listed = ", ".join(map(str, seeds))
    text = EXPERIMENTS.format(seeds=listed, steps=steps)
    (folder / "lab/experiments.yaml").write_text(text)
    rows = list(YAML(typ="safe").load(text)["rows"])
    path = folder / "lab/dvc.yaml"
    stages = YAML(typ="safe").load(path.read_text())
    stages["stages"]["row"]["matrix"] = {"row": rows, "seed": list(seeds)}
    path.write_text(json.dumps(stages))
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text() + "\n/data/\n")
    return rows


def read_plans(rows: list[str], seeds: range) -> dict[tuple[str, int], Plan]:
    return {(row, seed): read_plan(row, seed) for row in rows for seed in seeds}


def stale_rows(folder: Path) -> set[str]:
    """Plan again, and return the rows that DVC would make."""
    finish(folder, *LAB, "repro", "plans")
    status: dict[str, Any] = json.loads(finish(folder, *LAB, "status", "--json"))
    return {name.removeprefix("row@").rpartition("-")[0] for name in status if name != "plans"}


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.slow
def test_a_clone_with_kept_rows_trains_nothing_and_a_change_makes_stale_what_depends_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_tiny_project(tmp_path / "project")
    seeds = range(2)
    rows = make_lab(project, seeds)
    finish(project, *LAB, "repro", "plans")
    monkeypatch.chdir(project)
    for (row, seed), plan in read_plans(rows, seeds).items():
        keep_row(row, [True, False], seed, plan=plan.hash, common=plan.common)
    finish(project, *LAB, "commit", "--force")
    finish(project, "git", "add", "--all")
    finish(project, "git", "commit", "--quiet", "--message", "rows")
    clone = tmp_path / "clone"
    finish(tmp_path, "git", "clone", "--quiet", str(project), str(clone))
    assert not (clone / "lab/plans").exists()
    assert stages_run(finish(clone, *LAB, "repro")) == ["plans"]
    change(clone / "params.yaml", "learning_rate: 0.002", "learning_rate: 0.003")
    assert stale_rows(clone) == {"c", "c_test", "d", "e", "f", "g"}
    finish(clone, "git", "checkout", "params.yaml")
    with (clone / "train/sft1.py").open("a") as file:
        file.write("# A comment.\n")
    assert stale_rows(clone) == {"b", "b_other", "c", "c_test", "e", "f", "g"}
    finish(clone, "git", "checkout", "train/sft1.py")
    assert stale_rows(clone) == set()

    monkeypatch.chdir(clone)
    keep_row("c", [True, True])
    difference = json.loads(finish(clone, *LAB, "metrics", "diff", "--json"))
    assert difference["rows/c-s0.json"]["exact_match"] == {"old": 0.5, "new": 1.0, "diff": 0.5}


@pytest.mark.long
def test_a_killed_chain_goes_on_from_its_checkpoint_and_rows_share_trainings(
    finished_project: Path, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    finish(tmp_path, "cp", "-r", str(finished_project), str(project))
    make_lab(project, range(1), steps=60)
    change(project / "lab/experiments.yaml", "=60", "=60 train.sft2.arguments.save_steps=2")
    killed = start(project, *LAB, "repro", "row@c-0")
    deadline = time.monotonic() + 300
    while not list((project / ".checkpoints").glob("sft2-*/checkpoint-*/trainer_state.json")):
        assert time.monotonic() < deadline
        assert killed.poll() is None
        time.sleep(0.1)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    output = finish(project, *LAB, "repro", "row@c-0")
    assert output.count("train.run") == 1
    assert "going on from .checkpoints/sft2-s0-" in output
    kept = read_row(project / "lab/rows/c-s0.json")
    assert (kept.num_questions, kept.num_failed) == (8, 0)
    assert kept.machine["torch"]

    also = finish(project, *LAB, "repro", "row@c_test-0")
    assert "train.run" not in also
    assert read_row(project / "lab/rows/c_test-s0.json").model == kept.model
    assert stages_run(finish(project, *LAB, "repro", "row@c-0")) == ["plans"]
    page = finish(project, sys.executable, "-m", "lab.page")
    assert "2 of 12 rows" in page
