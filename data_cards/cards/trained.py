"""Read the facts of a trained model: the stages behind it, what they read, how it was evaluated.

A folder under data/train/ holds the resolved settings of its run (params.yaml), its log and its
weights. Its settings name the folder that it started from. Results are in results/evaluate/ and
name the weights that they are of by a fingerprint.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from coa.errors import InputError
from coa.store.files import ASSEMBLED
from data_cards.cards.licences import Source
from data_cards.catalogue import SetName

RESULTS = Path("results/evaluate")
_DATA_KEYS = ("documents", "pairs", "trajectories", "questions")
"""Settings of a stage that name what it reads."""
_COMMON_KEYS = ("max_context_tokens", "seed", "lora")
"""Settings of all stages that a card shows with those of the stage."""


class TrainedStage(NamedTuple):
    """One stage of a chain as it was run."""

    folder: Path
    stage: str
    """`pretrain`, `sft1`, ..."""
    init: str
    """The folder or the model that it started from; empty for one made from scratch."""
    data: tuple[str, ...]
    """Files and folders that it was trained on."""
    arguments: dict[str, Any]
    """Of its trainer."""
    settings: dict[str, Any]
    """Its other settings."""
    steps: int


def read_run(folder: Path) -> TrainedStage:
    """Read what a folder says of its own run.

    Raises:
        InputError: `coa train` has not finished this folder.
    """
    try:
        train = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["train"]
        stage = train["stage"]
        settings = dict(train[stage])
        log_file = folder / "log.jsonl"
        log = log_file.read_text(encoding="utf-8").splitlines() if log_file.exists() else []
        logged = [json.loads(line) for line in log]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise InputError(
            f"{folder} is not a trained model",
            got=repr(error)[:200],
            expected="params.yaml and log.jsonl of a run",
            fix="train it first: coa train stage=sft2",
        ) from error
    data: list[str] = []
    for key in _DATA_KEYS:
        named = settings.pop(key, ())
        data += [named] if isinstance(named, str) else named
    arguments = settings.pop("arguments", {})
    base = settings.pop("base", "")
    init = settings.pop("init", base)
    if base:
        data = []  # The model was brought from elsewhere: nothing was trained.
    for key in _COMMON_KEYS:
        if train.get(key):
            settings[key] = train[key]
    steps = max((line.get("step", 0) for line in logged), default=0)
    return TrainedStage(
        folder=folder,
        stage=stage,
        init=init,
        data=tuple(data),
        arguments=arguments,
        settings=settings,
        steps=steps,
    )


def chain(folder: Path) -> list[TrainedStage]:
    """Read the runs behind a model, from the first to its own."""
    run = read_run(folder)
    runs = [run]
    seen = {run.folder}
    while run.init:
        before = Path(run.init)
        is_trained = (before / "params.yaml").is_file() and (before / "config.json").is_file()
        if before in seen or not is_trained:
            break
        run = read_run(before)
        runs.append(run)
        seen.add(run.folder)
    return runs[::-1]


def data_files(runs: list[TrainedStage]) -> dict[str, str]:
    """Hash every file that a chain was trained on with SHA-256, the hash that the Hub shows."""
    hashes = {}
    for item in _data_of(runs):
        path = Path(item)
        files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        for file in files:
            if not file.is_file():
                continue
            with file.open("rb") as opened:
                hashes[file.as_posix()] = hashlib.file_digest(opened, "sha256").hexdigest()
    return hashes


def _data_of(runs: list[TrainedStage]) -> list[str]:
    """List what a chain was trained on, each file or folder once."""
    items: dict[str, None] = {}
    for run in runs:
        items.update(dict.fromkeys(run.data))
    return list(items)


def sets_of(runs: list[TrainedStage]) -> list[SetName]:
    """List the sets that a chain was trained on."""
    items = {Path(item) for item in _data_of(runs)}
    return [name for name in SetName if ASSEMBLED / name in items]


def other_sources(runs: list[TrainedStage]) -> list[Source]:
    """Name what a chain learned from besides the sets.

    That is the base model, the text of pre-training and files from elsewhere.
    """
    found = []
    if runs[0].init:
        found.append(Source("the model it starts from", runs[0].init))
    known = {ASSEMBLED / name for name in SetName}
    for item in _data_of(runs):
        if Path(item) not in known:
            # A file below data/ is named by its first folder there.
            parts = Path(item).parts
            is_below_data = parts[:1] == ("data",) and len(parts) > 2
            found.append(Source("training text", parts[1] if is_below_data else item))
    return list(dict.fromkeys(found))


Metrics = Mapping[str, Mapping[str, float] | None]
"""Means with their intervals, by name; None for what does not apply."""


class ResultPart(NamedTuple):
    """The figures of some questions of an evaluation."""

    title: str
    """An evaluation set or the mean over the sets; empty for all questions of a single set."""
    num_questions: int
    metrics: Metrics


class Result(NamedTuple):
    """An evaluation of a model."""

    setting: Mapping[str, Any]
    metrics: Metrics
    num_questions: int
    by_set: Mapping[str, Metrics]
    """The metrics of each evaluation set; empty in results that are older than the sets."""
    mean_over_sets: Metrics

    def asked(self, part: ResultPart) -> list[str]:
        """Name the questions that figures are of, and how they were asked."""
        names = [str(self.setting["split"]), str(self.setting["mode"]), part.title]
        return [name for name in names if name]

    def parts(self) -> list[ResultPart]:
        """Return the figures that a card shows: of several sets those of each, then their mean."""
        if len(self.by_set) < 2:
            return [ResultPart("", self.num_questions, self.metrics)]
        parts = []
        for name, metrics in self.by_set.items():
            found = metrics["exact_match"]
            num = int(found["num"]) if found else 0
            parts.append(ResultPart(name or "no_source", num, metrics))
        return [*parts, ResultPart("mean_over_sets", self.num_questions, self.mean_over_sets)]


def results(fingerprint: str) -> list[Result]:
    """Read the evaluations of the weights with this fingerprint.

    Raises:
        InputError: a result is broken.
    """
    evaluations = []
    for path in sorted(RESULTS.glob("*.json")):
        try:
            found = json.loads(path.read_bytes())
            result = Result(
                setting=found["setting"],
                metrics=found["metrics"],
                num_questions=found["num_questions"],
                by_set=found.get("by_set", {}),
                mean_over_sets=found.get("mean_over_sets", {}),
            )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"cannot read {path}", got=repr(error)[:200], fix="evaluate again"
            ) from error
        if result.setting.get("model_fingerprint") == fingerprint:
            evaluations.append(result)
    return evaluations
