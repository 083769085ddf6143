"""What a stage reports when it is trained: the picture of its log, and its figures."""

import json
from pathlib import Path

import pytest
from PIL import Image

from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.student.checkpoint import Workspace
from coa.student.settings import TrainParams
from train.monitors.report import Curve, Entry, StageReport, panels, write_curves

LOG: list[Entry] = [
    {
        "step": step,
        "loss": 2.0 - step,
        "reward": 0.1 * step,
        "rewards/exact_match/mean": 0.2 * step,
        "rewards/exact_match/std": 0.3 * step,
        "searches/known": 0.1 * step,
        "searches/unknown": 1.0 - 0.1 * step,
        "failures": 0.0,
        "step_time": 1.5 * step,
        "train_runtime": 9.0 * step,
    }
    for step in (1, 2, 3)
]
VALIDATION: Entry = {
    "step": 3,
    "eval_searches/known": 0.7,
    "eval_searches/unknown": None,
    "eval_runtime": 5.0,
}


def test_quantities_of_a_kind_share_a_panel_and_what_never_changes_has_none() -> None:
    shown = panels([*LOG, VALIDATION])

    assert {title: list(curves) for title, curves in shown.items()} == {
        "reward": ["reward"],
        "rewards": ["exact_match"],
        "searches": ["known", "unknown"],
        "loss": ["loss"],
    }
    assert shown["loss"]["loss"] == Curve([(1, 1.0), (2, 0.0), (3, -1.0)], [])
    assert [curve.validation for curve in shown["searches"].values()] == [[(3, 0.7)], []]


def test_a_picture_holds_the_telling_panels_when_there_are_too_many() -> None:
    many = [
        {**entry, **{f"a{number}": number * entry["step"] for number in range(20)}} for entry in LOG
    ]

    assert list(panels(many))[:4] == ["reward", "rewards", "searches", "loss"]
    assert len(panels(many)) == 12


def test_the_picture_can_be_opened(tmp_path: Path) -> None:
    for name, log in (("full", [*LOG, VALIDATION]), ("empty", [])):
        write_curves(tmp_path / f"{name}.png", log, name)
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width == 1320


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
