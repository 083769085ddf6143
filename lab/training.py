"""Write a page about the training of all models: reports/training.html.

    coa page training

Reads the log and the curves of every model in data/train/ and every result in results/evaluate/;
models that were trained under names of their own are shown, too. The page needs no network and has
no script, and the pictures are in it. An alarm is shown where those of train/monitors/alarms.py go
off in the log, with the limits that the settings have now.
"""

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import InputError
from coa.pages.report_page import render_report
from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.store.whole_files import write_file
from coa.student.checkpoint import OUT as MODELS
from coa.student.settings import MonitorSettings, TrainParams
from evaluation.summary import result_groups
from evaluation.table import PICTURE, TableParams
from train.monitors.alarms import SeenAlarm, find_alarms
from train.monitors.report import Entry

OUT = Path("reports/training.html")
_TEMPLATES = Path(__file__).parent / "templates"
_FINAL = ("eval_loss", "eval_reward", "eval_pair_accuracy", "eval_mean_token_accuracy")
"""What is shown of the last measures on the validation split, where it is there."""


class Trained(NamedTuple):
    """One trained model as the page shows it."""

    name: str
    num_steps: int
    seconds: float
    """The time of training and of validation, as the trainer measured it; a run that was killed
    and went on counts what came after."""
    final: dict[str, float]
    alarms: tuple[SeenAlarm, ...]
    curves: str
    """The picture as a data URL; empty where there is none."""


def read_log(path: Path) -> list[Entry]:
    """Read a trainer's log.

    Raises:
        InputError: the file is broken.
    """
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the log {path}", got=str(error)[:200]) from error


def read_trained(folder: Path, settings: MonitorSettings) -> Trained:
    """Read what a training left beside its model.

    Raises:
        InputError: the log is broken.
    """
    history = read_log(folder / "log.jsonl")
    seconds = 0.0
    final: dict[str, float] = {}
    for entry in history:
        seconds += entry.get("train_runtime", 0.0) + entry.get("eval_runtime", 0.0)
        final.update({name: entry[name] for name in _FINAL if entry.get(name) is not None})
    return Trained(
        name=folder.name,
        num_steps=max((int(entry.get("step", 0)) for entry in history), default=0),
        seconds=seconds,
        final=final,
        alarms=tuple(find_alarms(history, settings)),
        curves=data_url(folder / "curves.png"),
    )


def data_url(picture: Path) -> str:
    """Write a picture into an address, so that a page holds it; empty where there is none."""
    if not picture.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def trained_models(settings: MonitorSettings) -> list[Trained]:
    """Read the trained models, the stages in their order and names of other runs after them."""
    order = {str(stage): place for place, stage in enumerate(Stage)}
    folders = [path.parent for path in MODELS.glob("*/log.jsonl")]
    folders.sort(key=lambda folder: (order.get(folder.name, len(order)), folder.name))
    return [read_trained(folder, settings) for folder in folders]


def render(models: Sequence[Trained], groups: Sequence[dict[str, Any]]) -> str:
    """Write the page; every text is escaped."""
    picture = data_url(PICTURE) if groups else ""
    return render_report(_TEMPLATES, "training.html", models=models, groups=groups, picture=picture)


def main(arguments: Sequence[str]) -> str:
    """Write the page, and return the summary line."""
    params = Params.load("train", arguments)
    models = trained_models(params.section(TrainParams).monitors)
    if not models:
        raise InputError(
            f"there is no training log in {MODELS}", fix="train something: dvc repro sft2"
        )
    groups = result_groups(params.section(TableParams, "table"))
    write_file(OUT, render(models, groups))
    num_alarms = sum(len(model.alarms) for model in models)
    return f"{OUT}: {len(models)} models, {num_alarms} alarms; open it in a browser"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
