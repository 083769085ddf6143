"""Test `make lab`: what it trains and evaluates, and that its chains are those of table.mk."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lab.chains import TRAININGS
from lab.plan import LabParams, plan_rows
from tests.lab_support import keep_row, write_params

MAKEFILES = ("table.mk", "lab.mk")


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with make's files and settings, and nothing that they make."""
    monkeypatch.chdir(tmp_path)
    for name in MAKEFILES:
        Path(name).write_text((root / name).read_text())
    Path("Makefile").write_text("INSTALLED := installed\n" + "include table.mk lab.mk\n")
    Path("installed-train").touch()
    monkeypatch.setenv("PYTHONPATH", str(root))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    write_params(root)
    return tmp_path


def shown_commands(*arguments: str) -> list[str]:
    """Return the commands that make would run."""
    done = subprocess.run(
        ["make", "-n", *arguments], check=True, capture_output=True, text=True, timeout=120
    )
    return [line for line in done.stdout.splitlines() if "python -m" in line or "$launch" in line]


def settings_of(command: str) -> list[str]:
    """Return the settings of a training's command, without its name, seed and start."""
    _, _, arguments = command.partition("train.run ")
    own = ("stage=", "name=", "train.seed=")
    return [
        word for word in shlex.split(arguments) if not word.startswith(own) and ".init=" not in word
    ]


def test_make_shows_the_commands_of_an_experiment_in_their_order(project: Path) -> None:
    shown = "\n".join(shown_commands("lab", "EXPERIMENT=masking", "SEED=3", "LAB_QUESTIONS=20"))
    first = shown.index(
        "name=unmasked-s3 train.seed=3 train.sft3.init=data/train/sft1-s3 "
        "'train.sft3.arguments=${train.sft2.arguments}'"
    )
    second = shown.index(
        "python -m evaluation.evaluate name=lab_unmasked_validation20-s3 "
        "model=data/train/unmasked-s3 mode=coa split=validation num_questions=20"
    )
    third = shown.index(
        "python -m lab.row experiment=masking row=unmasked seed=3 split=validation num_questions=20"
    )
    assert first < second < third < shown.index("python -m lab.page")
    assert " num_questions=20 search.observation.top_k=3 search.observation.numbering=doc" in shown
    assert shown.count("name=sft2-s3") == 1


def test_a_row_that_is_kept_is_not_made_again(project: Path) -> None:
    right = [True, False] * 6
    rows = ("alpha_0", "papers_loss", "sft1", "alpha_0_sft2", "papers_loss_sft2", "sft2")
    for row in rows:
        keep_row("alpha", row, right)
    shown = shown_commands("lab", "EXPERIMENT=alpha")
    assert not any("train.run" in command or "evaluation.evaluate" in command for command in shown)
    assert shown[-1] == "python -m lab.page"


def test_sets_of_an_experiment_are_made_before_they_are_trained_on(project: Path) -> None:
    shown = "\n".join(shown_commands("lab", "EXPERIMENT=cot_share"))
    made = shown.index("lab.subset out=data/lab/s0/cot_half ")
    assert "'shares=[0.5,0.5]' num_rows=2000" in shown
    assert made < shown.index("'train.sft2.trajectories=[data/lab/s0/cot_half]'")


def test_simulators_are_measured_on_the_searches_of_sft3_even_where_its_row_is_kept(
    project: Path,
) -> None:
    keep_row("fidelity", "sft3", [True, False] * 6)
    shown = "\n".join(shown_commands("lab", "EXPERIMENT=fidelity"))
    searched = shown.index("evaluation.evaluate name=lab_sft3_validation600-s0 ")
    measured = shown.index(
        "evaluation.fidelity name=lab_recorded_validation600-s0 model=data/train/sft3-s0 "
        "rollouts=data/evaluate/lab_sft3_validation600-s0.parquet simulator.kind=recorded"
    )
    assert searched < measured < shown.index("row=recorded ")
    assert "row=sft3 " not in shown


def test_a_simulator_is_trained_before_the_policy_that_practises_with_it(project: Path) -> None:
    shown = "\n".join(shown_commands("lab", "EXPERIMENT=gate"))
    frozen = shown.index(" stage=sft3 name=sft3-s0 ")
    gate = shown.index("evaluation.gate name=gate_model_sft2-s0 ")
    assert frozen < gate < shown.index(" stage=rl1 name=gate_model_sft2-s0 ")


def test_an_unknown_experiment_stops_make(project: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        shown_commands("lab", "EXPERIMENT=alpa")
    assert "unknown experiment 'alpa'" in caught.value.stderr + caught.value.stdout


def test_trainings_of_the_table_are_the_same_there(project: Path) -> None:
    shared = {training.name: training for training in TRAININGS if training.is_of_table}
    planned = {}
    for plan in plan_rows(LabParams()):
        for training in plan.chain:
            if training.name in shared:
                planned[training.name] = list(training.settings)
    targets = [f"data/train/{name}-s0/params.yaml" for name in shared]
    found = {}
    for command in shown_commands("-B", *targets):
        for name in shared:
            if f" name={name}-s0 " in command and "train.run" in command:
                found[name] = settings_of(command)
    assert found == planned
