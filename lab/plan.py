"""Plan every row for every seed: plans/ROW-sSEED.json, on which DVC's stage of the row depends.

    python -m lab.plan                      # the stage `plans` of lab/dvc.yaml, which always runs
    python -m lab.plan folder=lab/smollm    # that of another lab

A plan holds all that decides the row: the settings of every training of its chain and of its
evaluation, with the values of params.yaml, hashes of the data as dvc.lock has them, and hashes of
the code. So a row is stale when its plan has changed, and a clone without data has the same plans.
A plan holds nothing that cannot change a result, such as a number of requests at once.
"""

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from coa.code_hashes import describe_code
from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.store.dvc_lock import LOCK, read_stages
from coa.store.files import DATA, QUESTIONS, TRAINED
from coa.store.whole_files import write_file
from coa.student.results import read_json
from lab.records import FOLDER, Lab, Row, fill, folder_of, read_lab
from train.run import sections_beside

SETS = DATA / "lab"
_HASH_LENGTH = 10
_SHARED = ("prompt", "chat_template", "max_context_tokens", "lora")
"""Settings of the section `train` that all stages share and that change a model."""
_OF_SETS = (
    "pipeline",
    "microworld",
    "search",
    "tools",
    "teacher",
    "prompts",
    "rollout",
    "sample",
    "grade",
    "judge",
    "analyse",
    "filter",
    "branch",
    "assemble",
    "student_pairs",
    "student_set",
)
"""Sections that the commands which make sets read."""
_OF_EVALUATION = ("evaluate", "search", "tools", "judge", "microworld")
_WITHOUT_EFFECT = frozenset(
    {
        "batch_size",
        "concurrency",
        "deadline_seconds",
        "device",
        "disable_tqdm",
        "index",
        "init",
        "logging_steps",
        "max_concurrency",
        "max_per_second",
        "max_requests_per_minute",
        "max_tokens_per_minute",
        "name",
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
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_BETWEEN_PATHS = re.compile(r"[\s=,\[\]{}'\"]+")


@dataclass(frozen=True, slots=True)
class Step:
    """A set or a training that a row needs."""

    name: str
    """Ends in a hash of all that decides it, so nothing stale bears its name."""
    folder: str
    stage: str
    """Of a training; empty for a set."""
    start: str
    """The folder of the model that it starts from; empty for none."""
    commands: tuple[str, ...]
    """A module with its settings, one after the other; of a training the settings alone."""
    decided_by: dict[str, Any]
    """Settings with their values, hashes of data and code, and the names of what it needs."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a row is made by, and by what it is decided."""

    row: str
    seed: int
    steps: tuple[Step, ...]
    """In their order; the last one trains the model."""
    evaluation: str
    """The settings of `coa evaluate`."""
    decided_by: dict[str, Any]
    """What else the evaluation depends on: settings, data and code."""
    common: str
    """A hash of the questions and of how all rows are asked; rows that differ in it are not to be
    compared."""
    shows: tuple[str, ...] = ()
    """What experiments show of the log of the last training."""

    @property
    def hash(self) -> str:
        """Return a hash of the whole plan."""
        return hash_of(asdict(self))


class Planner:
    """Plans rows from params.yaml, dvc.lock and the code; what rows share is found once."""

    def __init__(self, lab: Lab, params: Params, data: Mapping[str, str]) -> None:
        self._lab = lab
        self._params = params
        self._data = data
        self._asked = with_effect(params.values(["evaluate"]))
        self._decided: dict[str, dict[str, Any]] = {}
        self._steps: dict[tuple[str, int], Step] = {}

    def plan(self, name: str, seed: int) -> Plan:
        """Plan one row.

        Raises:
            ConfigError: a name or a setting of its chain is unknown.
        """
        row = self._lab.rows[name]
        steps = []
        for needed in self._lab.chain_of(row.training):
            steps.append(self._step(needed, seed))
        decided_by, common = self._evaluation(row)
        asked = f"mode={row.mode} split={row.split} num_questions={row.num_questions}"
        asked = f"{asked} {self._lab.expand(row.settings)}"
        shows: set[str] = set()
        for experiment in self._lab.experiments.values():
            if name in experiment.rows:
                shows.update(experiment.shows)
        return Plan(
            name, seed, tuple(steps), asked.strip(), decided_by, common, tuple(sorted(shows))
        )

    def _step(self, name: str, seed: int) -> Step:
        """Plan a set or a training for one seed."""
        key = (name, seed)
        if key not in self._steps:
            self._steps[key] = self._make_step(name, seed)
        return self._steps[key]

    def _make_step(self, name: str, seed: int) -> Step:
        lab = self._lab
        training = lab.trainings.get(name)
        texts = [training.settings] if training else lab.sets[name]
        expanded = [lab.expand(text) for text in texts]
        needed = [part for text in expanded for part in lab.needs(text)]
        if training and training.start:
            needed.append(training.start)
        steps = {part: self._step(part, seed) for part in needed}
        if name not in self._decided:
            self._decided[name] = self._of_training(name) if training else self._of_set(expanded)
        decided_by = dict(self._decided[name])
        decided_by["needs"] = [steps[part].name for part in sorted(steps)]
        own = name
        # A set whose commands name neither the seed nor anything before it serves every seed.
        if training or steps or "{seed}" in " ".join(expanded):
            decided_by["seed"] = seed
            own = f"{name}-s{seed}"
        own = f"{own}-{hash_of(decided_by)[:_HASH_LENGTH]}"
        folder = (TRAINED if training else SETS) / own
        places = {part: step.folder for part, step in steps.items()}
        places |= {"seed": str(seed), "out": folder.as_posix()}
        return Step(
            name=own,
            folder=folder.as_posix(),
            stage=str(training.stage) if training else "",
            start=steps[training.start].folder if training and training.start else "",
            commands=tuple(fill(text, places) for text in expanded),
            decided_by=decided_by,
        )

    def _of_training(self, name: str) -> dict[str, Any]:
        """Describe a training by all settings, data and code that can change its model."""
        training = self._lab.trainings[name]
        stage = training.stage
        # Its name says what it needs, so that the settings are the same for every seed.
        text = self._lab.expand(training.settings)
        params = self._params.override(fill(text, _Unfilled()).split())
        values = params.values({"train", "judge", *sections_beside(stage)})
        train = values.pop("train")
        judge = values.pop("judge")
        of_stage = dict(train[stage])
        if stage is Stage.PRETRAIN and of_stage["base"]:
            # Another maker's model is brought, and none is trained on texts.
            of_stage = {name: of_stage[name] for name in ("base", "revision")}
        own = {"own": of_stage, **{key: train[key] for key in _SHARED}, **values}
        if stage in (Stage.RL1, Stage.RL2):
            own["max_turn_tokens"] = train["max_turn_tokens"]
            if "judge" in train[stage]["rewards"]:
                own["judge"] = judge
        code = [code_of("train.run", f"stage={stage}")]
        if stage is Stage.RL1:
            code.append(code_of("evaluation.gate"))
        return {
            "stage": str(stage),
            "settings": with_effect(own),
            "data": self._inputs(own),
            "code": code,
        }

    def _of_set(self, commands: Iterable[str]) -> dict[str, Any]:
        """Describe a set by its commands, and the settings, data and code that they read."""
        commands = list(commands)
        sections = self._params.values(_OF_SETS)
        if all(command.startswith("lab.subset ") for command in commands):
            sections = {}  # It reads its arguments alone.
        referred: dict[str, Any] = {}
        for name in _REFERENCE.findall(" ".join(commands)):
            value: Any = self._params.values([name.partition(".")[0]])
            for part in name.split("."):
                value = value[part]
            if name.rpartition(".")[2] not in _WITHOUT_EFFECT:
                referred[name] = value
        return {
            "commands": commands,
            "settings": with_effect(sections) | referred,
            "data": self._inputs([commands, sections, referred]),
            "code": {command.split()[0]: code_of(command.split()[0]) for command in commands},
        }

    def _evaluation(self, row: Row) -> tuple[dict[str, Any], str]:
        """Describe how a row is asked, and hash what all rows of an experiment share of it."""
        key = f"{row.settings} {row.split} {row.num_questions}"
        if key not in self._decided:
            settings = self._lab.expand(row.settings).split()
            values = self._params.override(settings).values(_OF_EVALUATION)
            data = self._inputs([values, QUESTIONS.as_posix()])
            self._decided[key] = {
                "settings": with_effect(values),
                "data": data,
                "code": code_of("evaluation.evaluate"),
            }
        decided_by = self._decided[key]
        questions = decided_by["data"].get(QUESTIONS.as_posix())
        return decided_by, hash_of([self._asked, questions, row.split, row.num_questions])

    def _inputs(self, values: Any) -> dict[str, str]:
        """Return a hash of each file or folder that settings name, by its path.

        What the project's pipeline makes is described by dvc.lock, other files by themselves.
        """
        found = {}
        for text in _texts_of(values):
            for name in _BETWEEN_PATHS.split(text):
                path = Path(name)
                if path.is_relative_to(TRAINED) or path.is_relative_to(SETS):
                    continue
                if path.is_relative_to(DATA):
                    for made, md5 in self._data.items():
                        if path.is_relative_to(made):
                            found[name] = md5
                        elif path != DATA and Path(made).is_relative_to(path):
                            found[made] = md5
                elif "/" in name and not path.is_absolute() and path.is_file():
                    found[name] = hashlib.md5(path.read_bytes()).hexdigest()
        return found


class _Unfilled(dict[str, str]):
    """Gives each place a folder that is the same for every seed."""

    def __missing__(self, name: str) -> str:
        return (SETS / name).as_posix()


def _texts_of(values: Any) -> Iterator[str]:
    """Yield the texts within settings."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _texts_of(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts_of(value)


def with_effect(values: Any) -> Any:
    """Leave out settings without effect, and the folders above a machine's own paths."""
    if isinstance(values, Mapping):
        kept = {}
        for key, value in values.items():
            if key not in _WITHOUT_EFFECT:
                kept[str(key)] = with_effect(value)
        return kept
    if isinstance(values, list | tuple):
        return [with_effect(value) for value in values]
    if isinstance(values, str) and Path(values).is_absolute():
        return Path(values).name
    return values


def hash_of(described: object) -> str:
    """Hash settings: the SHA-256 of their JSON in hex digits."""
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_of(module: str, *arguments: str) -> str:
    """Hash the files that a command reaches by import, and their paths."""
    text = describe_code(module, " ".join(["python -m", module, *arguments]))
    return hashlib.sha256(text.encode()).hexdigest()


def read_data(lock: Path = LOCK) -> dict[str, str]:
    """Return the MD5 of everything that the project's pipeline has made, by its path.

    Raises:
        InputError: the lock cannot be read.
    """
    found = {}
    for stage in read_stages(lock).values():
        for out in stage.get("outs", ()):
            found[str(out["path"])] = str(out.get("md5", ""))
    return found


def plan_path(row: str, seed: int, folder: Path = FOLDER) -> Path:
    """Return the file of a row's plan in a lab."""
    return folder / "plans" / f"{row}-s{seed}.json"


def write_plan(plan: Plan, folder: Path = FOLDER) -> Path:
    """Write a plan of a lab, and return its file; equal plans give equal bytes."""
    path = plan_path(plan.row, plan.seed, folder)
    write_file(path, json.dumps(asdict(plan), indent=1, sort_keys=True) + "\n")
    return path


def read_plan(row: str, seed: int, folder: Path = FOLDER) -> Plan:
    """Read a plan of a lab back.

    Raises:
        InputError: it is missing or holds something else.
    """
    command = f"python -m lab.plan folder={folder}"
    return read_json(plan_path(row, seed, folder), Plan, command=command)


def main(arguments: Sequence[str]) -> str:
    """Write all plans of a lab, and return the summary line."""
    folder = folder_of(arguments)
    lab = read_lab(folder)
    planner = Planner(lab, Params.load("train"), read_data())
    planned = set()
    for seed in lab.seeds:
        for row in lab.rows:
            planned.add(write_plan(planner.plan(row, seed), folder))
    plans = folder / "plans"
    for path in plans.glob("*.json"):
        if path not in planned:
            path.unlink()
    return f"{plans}: {len(lab.rows)} rows with {len(lab.seeds)} seeds"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
