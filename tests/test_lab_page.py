"""Test the lab's page, and one experiment from its sets to its rows at a tiny size."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lab import page
from lab.comparing import compare, find
from lab.experiments import EXPERIMENTS, find_experiment
from lab.kept import read_row, write_row
from tests.lab_support import keep_row, write_params


@pytest.fixture
def folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_params(root)
    return tmp_path


def test_without_rows_the_page_says_of_every_experiment_that_it_is_not_run(folder: Path) -> None:
    Path("params.yaml").unlink()
    assert "0 rows" in page.main([])
    text = page.OUT.read_text()
    assert text.count("Not run") == len(EXPERIMENTS)
    assert "make lab EXPERIMENT=alpha SEED=0" in text
    assert "<script" not in text
    assert "<svg" not in text


def test_rows_are_shown_beside_the_papers_figures_with_the_commands_that_make_them(
    folder: Path,
) -> None:
    for seed in (0, 1):
        keep_row("sft_stages", "sft1", [number % 5 == 0 for number in range(60)], seed)
        keep_row("sft_stages", "sft2", [number % 5 < 4 for number in range(60)], seed)
    page.main([])
    text = page.OUT.read_text()
    assert "<td>SFT 1,2</td><td>0, 1</td><td>80.0<br>" in text
    assert "<td>31.4</td><td>18.1</td><td>22.6</td>" in text  # the paper's SFT 1
    assert "<b>+60.0<br>" in text
    assert "make lab EXPERIMENT=sft_stages SEED=1" in text
    assert "Not run: SFT 2; SFT 1,2,3; RL 2 only." in text
    assert "number of actions" in text
    assert text.count("<svg") == 3  # by hops, by what is known, by actions


def test_a_paired_difference_is_over_the_seeds_that_both_have(folder: Path) -> None:
    keep_row("alpha", "sft1", [True] * 20)
    keep_row("alpha", "sft1", [False] * 20, seed=1)
    keep_row("alpha", "alpha_0", [False] * 20)
    systems = {system.row.name: system for system in find(find_experiment("alpha")).systems}
    found = compare(systems["sft1"], systems["alpha_0"]).by_group["all"]
    assert found is not None
    assert (found.value, found.num) == (1.0, 20)


def test_what_was_watched_while_training_is_drawn_where_rows_have_it(folder: Path) -> None:
    watched = ("exact_match", "broken", "searched_known", "searched_unknown")
    curves = {f"eval_rollouts/{name}": [(0, 0.25), (10, 0.5)] for name in (*watched, "answered")}
    for row in ("alpha_0", "sft1"):
        kept = keep_row("alpha", row, [True] * 12)
        write_row(Path(f"lab/alpha/{row}-s0.json"), replace(kept, curves={row: curves}))
    keep_row("cot_share", "cot_none", [True] * 12)
    page.main([])
    text = page.OUT.read_text()
    alpha, _, others = text.partition('<h2 id="alpha"')[2].partition("<h2 id=")
    for title in ("exact match", "broken texts", "searches for known facts", "alpha 0", "sft1"):
        assert f">{title}</text>" in alpha
    assert ">answered<" not in alpha
    assert alpha.count("<svg") == 2  # by hops, and what was watched: no curves were logged
    assert "asked while training" not in others


def test_alarms_of_the_watched_trainings_are_named_with_their_seeds(folder: Path) -> None:
    falls = {"eval_rollouts/searched": [(0, 0.9), (10, 0.2), (20, 0.1)]}
    stays = {"eval_rollouts/searched": [(0, 0.9), (10, 0.8), (20, 0.9)]}
    for seed, curves in ((0, falls), (1, stays)):
        kept = keep_row("alpha", "sft1", [True] * 12, seed)
        logged = {"sft1": curves, "alpha_0": stays}
        write_row(Path(f"lab/alpha/sft1-s{seed}.json"), replace(kept, curves=logged))
    page.main([])
    said = "sft1 (seeds 0, 1): falling search rate (seeds 0); alpha 0 (seeds 0, 1): none."
    assert said in page.OUT.read_text()


def test_a_row_of_other_questions_is_left_out_and_named(folder: Path) -> None:
    keep_row("alpha", "alpha_0", [True] * 12)
    keep_row("alpha", "sft1", [True] * 12)
    path = Path("lab/alpha/sft1-s0.json")
    write_row(path, replace(read_row(path), questions="others"))
    findings = find(find_experiment("alpha"))
    assert [system.row.name for system in findings.systems] == ["alpha_0"]
    assert any(
        "SFT 1, with whole trajectories beside it, seed 0: left out" in note
        for note in findings.notes
    )


@pytest.mark.slow
@pytest.mark.long
def test_one_experiment_runs_from_its_sets_to_its_page_and_is_not_run_again(
    small_run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for path in (small_run / "data").iterdir():
        Path("data", path.name).symlink_to(path)
    values: Any = OmegaConf.load(small_run / "params.yaml")
    values.train.prompt = str(root / values.train.prompt)
    values.evaluate.prompts.coa = str(root / values.evaluate.prompts.coa)
    values.train.monitors.every = 0
    values.train.sft1.arguments.max_steps = 1
    values.train.sft2.arguments.max_steps = 1
    values.lab.num_mixed = 12
    OmegaConf.save(values, "params.yaml")
    for name in ("table.mk", "mining.mk", "lab.mk"):
        Path(name).write_text((root / name).read_text())
    # The sets are there, so that DVC has nothing to make.
    Path("Makefile").write_text("INSTALLED := installed\ninclude table.mk mining.mk lab.mk\n")
    Path("installed-train").touch()
    Path("dvc").write_text("#!/bin/sh\n")
    Path("dvc").chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(root))
    programs = f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}"
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    command = ["make", "lab", "EXPERIMENT=cot_share", "LAB_QUESTIONS=8", "PRETRAIN_STEPS=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = sorted(path.name for path in Path("lab/cot_share").iterdir())
    assert rows == ["cot_half-s0.json", "cot_none-s0.json", "cot_sixth-s0.json"]
    assert "one sixth" in page.OUT.read_text()
    again = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert "0 of 3 rows are to be made" in again.stdout + again.stderr
    assert "train.run" not in again.stdout
