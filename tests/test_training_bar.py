"""The bar of a training shows the loss, and no entry of the log."""

import pytest

pytest.importorskip("transformers")

from transformers import TrainerControl, TrainerState

from train.monitors.callbacks import TrainingBar


def test_the_last_loss_stays_behind_the_bar_and_no_entry_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar, state, control = TrainingBar(), TrainerState(max_steps=2), TrainerControl()
    bar.on_train_begin(None, state, control)
    bar.on_log(None, state, control, {"loss": 0.25, "grad_norm": 1.0})
    bar.on_log(None, state, control, {"eval_loss": 0.5})
    state.global_step = 1
    bar.on_step_end(None, state, control)
    bar.on_train_end(None, state, control)
    told = capsys.readouterr()
    assert "loss=0.25" in told.err
    assert "grad_norm" not in told.out + told.err
