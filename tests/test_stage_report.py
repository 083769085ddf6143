"""The report of a training stage, where a measure has no value."""

import json
from pathlib import Path

import pytest

from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.student.checkpoint import Workspace
from coa.student.settings import TrainParams
from train.monitors.report import StageReport


def test_a_measure_that_no_rollout_allows_is_null_in_the_metrics(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = Params.load("train", (), root / "conf/microworld.yaml").section(TrainParams)
    report = StageReport(Stage.RL2, params, Workspace("rl2"), "")
    Path("data/train/rl2").mkdir(parents=True)
    report.write_trained([{"loss": 1.0, "step": 1}], {"eval_loss": 1.0, "eval_known": None}, 1)
    figures = json.loads(Path("metrics/train_rl2.json").read_text())
    assert (figures["eval_loss"], figures["eval_known"]) == (1.0, None)
