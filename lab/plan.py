"""Plan a row before it is trained: the settings of its chain, and their fingerprint.

A kept row is skipped where its fingerprint is that of its plan, on whichever machine it was made.
So the fingerprint holds what can change a result, and nothing that cannot: no path of a machine, no
batch of an evaluation, no number of requests at once.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ruamel.yaml import YAML

from coa.errors import InputError
from coa.files import TRAINED
from coa.params import Params
from coa.stages import Stage
from evaluation.result_files import FIDELITY
from evaluation.result_files import FOLDER as RESULTS
from lab.chains import TRAININGS, chain_of
from lab.experiments import EXPERIMENTS, find_experiment
from lab.records import Experiment, Row, Training

_SHARED = ("prompt", "chat_template", "max_context_tokens", "lora", "seed")
"""Settings of the section `train` that all stages share and that change a model."""
_DATA = (
    "pipeline",
    "microworld",
    "questions",
    "ingest",
    "search",
    "tools",
    "teacher",
    "prompts",
    "rollout",
    "sample",
    "analyse",
    "filter",
    "branch",
    "screen",
    "assemble",
)
"""Sections that decide what is trained on and what is searched."""
_WITHOUT_EFFECT = frozenset(
    {
        "batch_size",
        "concurrency",
        "corpus",
        "deadline_seconds",
        "device",
        "disable_tqdm",
        "documents",
        "index",
        "init",
        "logging_steps",
        "max_concurrency",
        "max_per_second",
        "max_requests_per_minute",
        "max_tokens_per_minute",
        "name",
        "num_resamples",
        "patience_minutes",
        "per_device_eval_batch_size",
        "report_to",
        "save_steps",
        "save_strategy",
        "save_total_limit",
        "timeout_seconds",
        "training",
        "use_cpu",
        "validates_with_search",
    }
)
"""Settings by which no result changes, and those that the chain itself says."""


@dataclass(frozen=True, slots=True)
class LabParams:
    """Which rows are made, and how large they are."""

    experiment: str = ""
    """One of lab/experiments.py, or several joined by commas; empty: all of them."""
    row: str = ""
    """A row of the experiment; empty: all of them."""
    seed: int = 0
    """Of the chain's trainings."""
    split: str = ""
    """Whose questions are asked; empty: those of the experiment's split."""
    num_questions: int | None = None
    """Of each evaluation set, as in the section `evaluate`; null: as many as the experiment has."""
    pretrain_steps: int = 1700
    """As PRETRAIN_STEPS of table.mk."""
    rl_steps: int = 24
    """As RL_STEPS of table.mk."""
    num_mixed: int = 2000
    """Trajectories of each row of `cot_share`; half of them are CoT in one of the rows."""
    pair_steps: int = 94
    """Steps of SFT 1 in each row of `pairs`: about an epoch of all pairs."""
    num_resamples: int = 2000
    """Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A row that is to be there."""

    experiment: Experiment
    row: Row
    seed: int
    fingerprint: str
    """Of all settings of the chain and of the evaluation: 16 hex digits."""
    common: str
    """Of the settings that all rows of an experiment share; rows that differ in it are not to be
    compared."""
    chain: tuple[Training, ...]
    """With the places in their settings filled in."""
    split: str
    num_questions: int

    @property
    def asked(self) -> dict[str, object]:
        """Return what the lab says of the evaluation in place of the section `evaluate`."""
        return {"split": self.split, "num_questions": self.num_questions}

    @property
    def model(self) -> str:
        """Return the folder of the chain's last model, as settings name it."""
        return f"{TRAINED.as_posix()}/{self.row.training}-s{self.seed}"

    @property
    def result(self) -> str:
        """Return the name of its evaluation: rows that are asked the same share it."""
        return f"{self.row.result}_{self.split}{self.num_questions}-s{self.seed}"

    @property
    def result_path(self) -> Path:
        """Return the file that its evaluation writes."""
        return RESULTS / f"{self.result}.json"

    @property
    def fidelity_path(self) -> Path:
        """Return the file with the measured observations of its simulator."""
        name = f"lab_{self.row.name}_{self.split}{self.num_questions}-s{self.seed}"
        return FIDELITY / f"{name}.json"

    @property
    def path(self) -> Path:
        """Return the file that keeps the row."""
        return Path("lab") / self.experiment.name / f"{self.row.name}-s{self.seed}.json"

    @property
    def command(self) -> str:
        """Return the command that makes the row."""
        return f"make lab EXPERIMENT={self.experiment.name} SEED={self.seed}"


def plan_rows(params: LabParams) -> list[Plan]:
    """Plan the rows that the settings name, in the order of the page."""
    names = params.experiment.split(",") if params.experiment else []
    chosen = [find_experiment(name) for name in names] or EXPERIMENTS
    settings = Settings(params)
    plans = []
    for experiment in chosen:
        for row in experiment.rows:
            if params.row in ("", row.name):
                plans.append(settings.plan(experiment, row))
    return plans


class Settings:
    """The settings of params.yaml, from which rows are planned."""

    def __init__(self, params: LabParams) -> None:
        self._params = params
        self._loaded = Params.load("train")
        self._values = self._loaded.values()
        self._described: dict[Training, dict[str, Any]] = {}
        """What was found before: chains share trainings, and to merge settings takes a while."""

    def plan(self, experiment: Experiment, row: Row) -> Plan:
        """Plan one row.

        Raises:
            ConfigError: a setting of its chain is unknown.
        """
        places = _places(self._params, self._values)
        chain = []
        for training in chain_of(row.training, TRAININGS):
            settings = _fill(training.settings, places)
            subset = _fill(training.subset, places)
            chain.append(replace(training, settings=settings, subset=subset))
        split = self._params.split or experiment.split
        num_questions = self._params.num_questions
        if num_questions is None:
            num_questions = experiment.num_questions
        asked = {"split": split, "num_questions": num_questions}
        common = {
            "data": _with_effect({name: self._values[name] for name in _DATA}),
            "evaluation": _with_effect(self._values["evaluate"]) | asked,
        }
        described = {
            **common,
            "mode": row.mode,
            "asked": list(row.settings),
            "chain": [self.describe(training) for training in chain],
        }
        # Elsewhere a training starts from the one before it.
        branched = [training for training in chain if training.needs]
        if branched:
            described["starts"] = [training.start for training in branched]
        if row.fidelity is not None:
            row = replace(row, fidelity=_fill(row.fidelity, places))
            described["fidelity"] = self._simulator(row.fidelity) if row.fidelity else ()
        return Plan(
            experiment,
            row,
            self._params.seed,
            fingerprint(described),
            fingerprint(common),
            tuple(chain),
            split,
            num_questions,
        )

    def _simulator(self, settings: Iterable[str]) -> Any:
        """Describe a simulator by all its settings: what is not named follows from params.yaml."""
        return _with_effect(self._loaded.override(list(settings)).values()["simulator"])

    def describe(self, training: Training) -> dict[str, Any]:
        """Describe a training by all settings that can change its model."""
        if training not in self._described:
            arguments = [f"train.seed={self._params.seed}", *training.settings]
            values = self._loaded.override(arguments).values()
            found = _settings_of(values, training) | {"subset": list(training.subset)}
            self._described[training] = found
        return self._described[training]


def fingerprint(described: object) -> str:
    """Hash settings: the first 16 hex digits of their SHA-256."""
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _places(params: LabParams, values: Mapping[str, Any]) -> dict[str, object]:
    """Return what stands in the places of settings, such as `{seed}`."""
    num_pairs = values["assemble"]["num_cot_a"]
    return {
        "{seed}": params.seed,
        "{pretrain_steps}": params.pretrain_steps,
        "{rl_steps}": params.rl_steps,
        "{more_rl_steps}": params.rl_steps * 3 // 2,
        "{num_mixed}": params.num_mixed,
        "{pair_steps}": params.pair_steps,
        "{quarter_of_pairs}": num_pairs // 4,
        "{sixteenth_of_pairs}": num_pairs // 16,
    }


def _fill(settings: Iterable[str], places: Mapping[str, object]) -> tuple[str, ...]:
    found = []
    for setting in settings:
        for place, value in places.items():
            setting = setting.replace(place, str(value))
        found.append(setting)
    return tuple(found)


def _settings_of(values: Mapping[str, Any], training: Training) -> dict[str, Any]:
    """Choose what concerns one stage of training; the settings may be a finished model's."""
    section = values["train"]
    shared = {name: section[name] for name in _SHARED}
    own = _with_effect(section[training.stage])
    if training.stage in (Stage.RL1, Stage.RL2):
        if "rubric" in section[training.stage]["rewards"]:
            shared["rubric"] = _with_effect(section["rubric"])
        if section.get("max_turn_tokens"):
            shared["max_turn_tokens"] = section["max_turn_tokens"]
    if training.stage is Stage.RL1:
        shared["simulator"] = _with_effect(values["simulator"])
    return {"stage": str(training.stage), "shared": _with_effect(shared), "own": own}


def _with_effect(values: Any) -> Any:
    """Leave out settings without effect, and the folders above a machine's own paths."""
    if isinstance(values, Mapping):
        return {
            str(key): _with_effect(value)
            for key, value in values.items()
            if key not in _WITHOUT_EFFECT
        }
    if isinstance(values, list | tuple):
        return [_with_effect(value) for value in values]
    if isinstance(values, str) and PurePath(values).is_absolute():
        return PurePath(values).name
    return values


def check_chain(plan: Plan) -> None:
    """Check that the models of a chain were trained as it is planned.

    Raises:
        InputError: one of them is missing, or was trained with other settings.
    """
    settings = Settings(LabParams(seed=plan.seed))
    for training in plan.chain:
        path = TRAINED / f"{training.name}-s{plan.seed}" / "params.yaml"
        try:
            trained = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
            found = _settings_of(trained, training) | {"subset": list(training.subset)}
        except (OSError, KeyError, TypeError) as error:
            raise InputError(
                f"there is no finished model in {path.parent}", got=error, fix=plan.command
            ) from error
        planned = settings.describe(training)
        if found != planned:
            raise InputError(
                f"the model in {path.parent} was trained with other settings than params.yaml has",
                where=path,
                expected=_first_difference(planned, found),
                got=_first_difference(found, planned),
                fix=f"move {path.parent} and the models that start from it away, then "
                f"{plan.command}",
            )


def _first_difference(one: Any, other: Any, name: str = "") -> str:
    """Name the first setting in which two descriptions differ, with its value in the first."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted({*one, *other}):
            if one.get(key) != other.get(key):
                return _first_difference(one.get(key), other.get(key), f"{name}.{key}".strip("."))
    return f"{name}: {one!r}"
