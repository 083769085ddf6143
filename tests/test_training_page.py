"""The page about training and the summary of the demo, from logs and results of any run."""

import base64
import json
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError
from coa.student.settings import MonitorSettings
from evaluation import summary
from evaluation.result_files import write_result
from lab.training import read_log, render, result_groups, trained_models
from tests.evaluate_support import TABLE, result
from train.monitors.alarms import find_alarms

HOSTILE = "<script>alert(1)</script>"
PICTURE = b"\x89PNG picture"


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("rl2", "sft2", HOSTILE.replace("/", "")):
        folder = Path("data/train") / name
        folder.mkdir(parents=True)
        entries = [
            {"step": step, "searches/trigger_rate": 1.0, "loss": 1.0} for step in range(1, 6)
        ]
        entries += [{"step": 5, "train_runtime": 60.0}, {"step": 5, "eval_loss": 0.25}]
        (folder / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        (folder / "curves.png").write_bytes(PICTURE)


def write_results(*names: str) -> None:
    for name in names:
        write_result(result(name, [True, False]))


def test_the_page_holds_its_pictures_and_shows_stages_in_their_order() -> None:
    models = trained_models(MonitorSettings())
    assert [model.name for model in models[:2]] == ["sft2", "rl2"]
    assert models[0].seconds == 60.0
    assert models[0].final == {"eval_loss": 0.25}
    page = render(models, [])
    assert page.count(base64.b64encode(PICTURE).decode()) == 3
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_an_alarm_is_shown_at_the_step_where_it_went_off() -> None:
    history = read_log(Path("data/train/sft2/log.jsonl"))
    seen = find_alarms(history, MonitorSettings(patience=3))
    found = {it.alarm.name: it.step for it in seen}
    assert found["over_triggering"] == 3
    assert not list(find_alarms(history[:2], MonitorSettings(patience=3)))


def test_a_broken_log_is_named() -> None:
    Path("data/train/sft2/log.jsonl").write_text("{")
    with pytest.raises(InputError, match=r"sft2/log\.jsonl"):
        trained_models(MonitorSettings())


def test_the_summary_of_the_demo_fits_100_columns_and_says_what_to_open() -> None:
    write_results("a", "a-name-that-is-much-longer-than-the-column-for-the-names-of-systems")
    text = f"{summary.render(result_groups(TABLE))}{summary._NEXT}"
    assert max(map(len, text.splitlines())) <= 100
    assert "50.0%" in text
    assert "reports/training.html" in text


def test_a_summary_without_results_says_how_to_make_one() -> None:
    section = "table: {rows: {}, sets: {}, compares: []}"
    Path("params.yaml").write_text(section)
    with pytest.raises(ConfigError, match="no result"):
        summary.main([])
