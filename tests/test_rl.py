"""Test RL from questions to a model: the shares of modes, refused settings, resumed runs."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.records.trajectory import Mode
from coa.rollout.loop import Limits
from coa.settings.stages import Stage
from coa.student.settings import Baseline

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.rollout.simulators.settings import SimulatorParams  # noqa: E402
from coa.student.checkpoint import Student, load_student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    QUESTIONS,
    make_rollouts,
    make_run,
    write_project,
    write_verdict_of_gain,
)
from train.rl import choose_modes, make_trainer  # noqa: E402
from train.rollouts import Ask  # noqa: E402
from train.run import main  # noqa: E402


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_questions_without_the_tool_is_exact_and_follows_from_the_seed(
    share: float,
) -> None:
    asks = choose_modes(QUESTIONS, share, seed=3)

    assert sum(ask.mode is Mode.COT for ask in asks) == share * len(QUESTIONS)
    assert choose_modes(reversed(QUESTIONS), share, seed=3) == asks
    with pytest.raises(ConfigError, match="cot_share"):
        choose_modes(QUESTIONS, share + 1.1, seed=0)


@pytest.mark.parametrize(
    "name", ["use_transformers_paged", "top_k", "repetition_penalty", "no_such_setting"]
)
def test_a_setting_that_would_be_ignored_is_refused_by_name(
    name: str, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {name: 2}
    run = make_run(tmp_path, **settings)
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]

    with pytest.raises(ConfigError, match="setting") as error:
        make_trainer(run, student, {"train": asks}, make_rollouts(run, student, loop))
    assert name in str(error.value)


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(
    student_folder: Path, loop: asyncio.Runner, tmp_path: Path
) -> None:
    def trained(workspace: Path, max_steps: int, **options: Any) -> Any:
        workspace.mkdir(exist_ok=True)
        student = load_student(str(student_folder))
        arguments: dict[str, Any] = {
            "save_strategy": "steps",
            "save_steps": 2,
            "lr_scheduler_type": "constant",
            "max_steps": max_steps,
        }
        run = make_run(workspace, rewards={"f1": 1.0, "format_penalty": 1.0}, **arguments)
        asks = [Ask(question, Mode.COA) for question in QUESTIONS]
        trainer = make_trainer(
            run,
            student,
            {"train": asks},
            make_rollouts(run, student, loop, limits=Limits(2, 40, 4)),
        )
        trainer.train(**options)
        return trainer

    straight = trained(tmp_path / "straight", 4)
    trained(tmp_path / "killed", 2)
    last = tmp_path / "killed" / "checkpoints" / "checkpoint-2"
    resumed = trained(tmp_path / "killed", 4, resume_from_checkpoint=str(last))

    assert resumed.state.global_step == straight.state.global_step == 4
    for ours, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_the_command_goes_from_questions_to_a_model(
    stage: Stage,
    student_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, stage, student_folder)
    write_verdict_of_gain(student_folder, SimulatorParams())

    summary = main([])

    assert summary.startswith(f"data/train/{stage}: 2 steps, reward ")
    assert load_student(f"data/train/{stage}").model.config.hidden_size == 32
    measured = json.loads(Path(f"metrics/train_{stage}.json").read_text())
    assert {"eval_reward", "eval_format/broken", "eval_accuracy/coa"} <= measured.keys()
    logged = json.loads(Path(f"data/train/{stage}/log.jsonl").read_text().splitlines()[0])
    assert {"entropy", "frac_reward_zero_std", "searches/mean", "format/forged"} <= logged.keys()


def test_what_the_world_model_invents_is_held_against_the_search_after_rl1(
    student_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, Stage.RL1, student_folder, validates_with_search=True)
    write_verdict_of_gain(student_folder, SimulatorParams())
    main(["train.monitors.limits={simulation_gap: -2.0}"])
    measured = json.loads(Path("metrics/train_rl1.json").read_text())
    assert "eval_simulated/gap" in measured
    assert capsys.readouterr().err.count("warning at step 2: simulation_gap") == 1
    main(["train.monitors.limits={simulation_gap: 2.0}", "name=quiet"])
    assert "simulation_gap" not in capsys.readouterr().err


@pytest.mark.long
def test_two_processes_train_on_groups_that_they_share(
    student_folder: Path, root: Path, tmp_path: Path
) -> None:
    with contextlib.chdir(tmp_path):
        write_project(tmp_path, Stage.RL2, student_folder, baseline=Baseline.ACTIONS)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train.run"]
    split = "train.rl2.arguments.per_device_train_batch_size=6"
    done = subprocess.run(
        [sys.executable, "-m", *launch, split],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "data/train/rl2: 2 steps, reward " in done.stdout
