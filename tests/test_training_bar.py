"""The bar of a training shows a few figures, and no entry of the log."""

from pathlib import Path

import pytest

pytest.importorskip("transformers")

import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

from train.monitors.callbacks import TrainingBar, use_training_bar


class Line(torch.nn.Module):
    """A model of one weight, which learns a line."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight * x - y) ** 2).mean()}


def trainer_in(folder: Path, **settings: object) -> Trainer:
    rows = [{"x": torch.tensor(float(i)), "y": torch.tensor(2.0 * i)} for i in range(8)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=4,
        logging_steps=1,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        **settings,  # type: ignore[arg-type]
    )
    return Trainer(Line(), arguments, train_dataset=rows)  # type: ignore[arg-type]


def test_a_training_shows_its_loss_behind_the_bar_and_prints_no_entry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_in(tmp_path)
    use_training_bar(trainer)
    trainer.train()
    told = capsys.readouterr()
    assert "4/4" in told.err
    assert "loss=" in told.err
    assert "grad_norm" not in told.out + told.err
    assert [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_where_bars_are_switched_off_there_is_none(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, disable_tqdm=True)
    use_training_bar(trainer)
    shown = [type(callback) for callback in trainer.callback_handler.callbacks]
    assert TrainingBar not in shown


def test_the_last_value_of_a_figure_stays(capsys: pytest.CaptureFixture[str]) -> None:
    bar, state, control = TrainingBar(), TrainerState(max_steps=2), TrainerControl()
    bar.on_train_begin(None, state, control)
    bar.on_log(None, state, control, {"reward": 0.25, "searches/mean": None, "epoch": 0.1})
    bar.on_log(None, state, control, {"eval_rollouts/exact_match": 0.5})
    bar.on_log(None, state, control, {"epoch": 0.2})
    state.global_step = 1
    bar.on_step_end(None, state, control)
    bar.on_train_end(None, state, control)
    assert "reward=0.25, correct when watched=0.5" in capsys.readouterr().err
