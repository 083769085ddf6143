"""The folder of a trained model to its facts: the chain of stages behind it, what they read, how it was evaluated.

A folder under data/train/ holds the resolved settings of its run (params.yaml), its log and its weights; what it
started from is the folder that its settings name. Results stand in results/evaluate/ and name the weights that they are
of by a fingerprint.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from coa.errors import InputError
from coa.files import ASSEMBLED
from coa.model_files import fingerprint_files
from data_cards.cards.licences import Source
from data_cards.catalogue import SetName

RESULTS = Path("results/evaluate")
_DATA_KEYS = ("documents", "pairs", "trajectories", "questions")
"""Settings of a stage that name what it reads."""


class TrainedStage(NamedTuple):
    """One stage of a chain as it was run."""

    folder: Path
    stage: str
    """`pretrain`, `sft1`, ..."""
    init: str
    """The folder or the model that it started from; empty for one made from nothing."""
    data: tuple[str, ...]
    """Files and folders that it was trained on."""
    arguments: dict[str, Any]
    """Of its trainer."""
    settings: dict[str, Any]
    """Its other settings."""
    steps: int
    figures: dict[str, float]
    """Of the validation at its end."""


def read_run(folder: Path) -> TrainedStage:
    """What a folder says of its own run.

    Raises:
        InputError: it is no folder that `train.run` has finished.
    """
    try:
        train = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["train"]
        stage = train["stage"]
        settings = dict(train[stage])
        log = [json.loads(line) for line in _read_text(folder / "log.jsonl").splitlines()]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(
            f"{folder} is no trained model",
            got=repr(error)[:200],
            expected="params.yaml and log.jsonl of a run",
            fix="train it first: python -m train.run stage=sft2",
        ) from error
    data = [item for key in _DATA_KEYS for item in _as_list(settings.pop(key, ()))]
    arguments, base = settings.pop("arguments", {}), settings.pop("base", "")
    init = settings.pop("init", base)
    if base:
        data = []  # brought from elsewhere: nothing was trained
    figures = {
        name: value for line in log for name, value in line.items() if name.startswith("eval_")
    }
    steps = max((line.get("step", 0) for line in log), default=0)
    common = {key: train[key] for key in ("max_context_tokens", "seed", "lora") if train.get(key)}
    return TrainedStage(
        folder, stage, init, tuple(data), arguments, {**settings, **common}, steps, figures
    )


def _read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _as_list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def chain(folder: Path) -> list[TrainedStage]:
    """The runs behind a model, the first one first, itself the last.

    Raises:
        InputError: a folder on the way is no trained model.
    """
    runs = [read_run(folder)]
    while (
        runs[-1].init
        and _is_trained(before := Path(runs[-1].init))
        and before not in {run.folder for run in runs}
    ):
        runs.append(read_run(before))
    return runs[::-1]


def _is_trained(folder: Path) -> bool:
    return (folder / "params.yaml").is_file() and (folder / "config.json").is_file()


def base_of(runs: list[TrainedStage]) -> str:
    """The model of another maker that a chain starts from; empty where it was made from nothing."""
    return runs[0].init


def data_files(runs: list[TrainedStage]) -> dict[str, str]:
    """Every file that a chain was trained on, with its SHA-256: the hash under which the Hub shows it, too."""
    found = {}
    for item in dict.fromkeys(item for run in runs for item in run.data):
        path = Path(item)
        for file in (
            sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.is_file() else []
        ):
            with file.open("rb") as opened:
                found[file.as_posix()] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def sets_of(runs: list[TrainedStage]) -> list[SetName]:
    """The sets that a chain was trained on."""
    items = {Path(item) for run in runs for item in run.data}
    return [name for name in SetName if ASSEMBLED / name in items]


def other_sources(runs: list[TrainedStage]) -> list[Source]:
    """What a chain learned from beside the sets: the base, the text of pre-training, files from elsewhere."""
    known = {ASSEMBLED / name for name in SetName}
    found = [Source("the model it starts from", base_of(runs))] if base_of(runs) else []
    for run in runs:
        for item in run.data:
            path = Path(item)
            if path not in known:
                name = (
                    path.parts[1] if path.parts[:1] == ("data",) and len(path.parts) > 2 else item
                )
                found.append(Source("training text", name))
    return list(dict.fromkeys(found))


class Result(NamedTuple):
    """An evaluation of a model."""

    name: str
    setting: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, float] | None]
    num_questions: int


def results(folder: Path) -> tuple[list[Result], list[str]]:
    """The evaluations of these very weights, and the names of those that are of others that lay in this folder.

    Raises:
        InputError: a result is broken.
    """
    own, fingerprint = [], fingerprint_files(folder)
    others = []
    for result in _all_results():
        if result.setting.get("model_fingerprint") == fingerprint:
            own.append(result)
        elif Path(result.setting.get("model") or "-") == folder:
            others.append(result.name)
    return own, others


def _all_results() -> Iterator[Result]:
    for path in sorted(RESULTS.glob("*.json")):
        try:
            found = json.loads(path.read_bytes())
            yield Result(path.stem, found["setting"], found["metrics"], found["num_questions"])
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"cannot read {path}", got=repr(error)[:200], fix="evaluate again"
            ) from error
