"""Measure how true a simulated search is: compare what it shows with what the search returned.

    coa fidelity model=data/train/sft3 rollouts=data/evaluate/sft3.parquet
    coa fidelity simulator.kind=recorded simulator.recorded.held_out=true

Goes through the searches of held-out rollouts (`coa evaluate` wrote them): each time the simulator
of the section `simulator` gets the text up to the action and writes the observation, as in RL stage
1. By default that is the model itself. Writes results/fidelity/{name}.json. Where predictions do
not bear the answers, RL on them teaches not to search: `warnings` says so before stage rl1.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

import yaml

from coa.intervals import Interval, mean_interval
from coa.policy import BatchPolicy
from coa.policy.local.model import LocalPolicy, LocalSettings
from coa.policy.scripted import ScriptedPolicy
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.rollout.simulators.factory import open_simulator
from coa.rollout.simulators.settings import SimulatorKind, SimulatorParams
from coa.search.settings import SearchParams
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import QUESTIONS
from coa.store.model_files import fingerprint_model
from coa.store.whole_files import write_file
from coa.student.knowledge import NOBODY_CAN_TELL, open_probe
from coa.student.results import file_name, read_json
from evaluation.held_out_searches import Prediction, find_probes, predict

FOLDER = Path("results/fidelity")
COMMAND = "coa fidelity"
_SEED = 0
"""Of what the simulator samples."""


@dataclass(frozen=True, slots=True)
class FidelityParams:
    """Which world model is asked about which searches, and when to warn."""

    model: str = "data/train/sft3"
    """A folder, or a name on the Hub."""
    name: str = ""
    """Of the report; empty: the last part of `model`."""
    rollouts: str = "data/evaluate/sft3.parquet"
    """Rollouts with real searches on held-out questions."""
    num_observations: int = 1000
    """The first so many observations of the rollouts."""
    max_observation_tokens: int = 64
    """Where a prediction that is not closed is cut; as in train.rl1."""
    batch_size: int = 64
    """Requests that go through the model together."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The means over some of the observations."""

    well_formed: Interval | None
    f1: Interval | None
    answer_bearing: Interval | None


@dataclass(frozen=True, slots=True)
class Report:
    """The worth of a world model."""

    model: str
    model_fingerprint: str
    rollouts: str
    num_observations: int
    all: Fidelity
    known: Fidelity
    """On searches for facts known from pre-training."""
    unknown: Fidelity
    warnings: tuple[str, ...]
    """What speaks against RL stage 1 with this model."""
    simulator: str = ""
    """Fingerprint of what wrote the observations."""
    sft3_steps: int | None = None
    """Steps of SFT 3 of the model that writes; None where it is not from there."""


def report(params: FidelityParams, predictions: Sequence[Prediction]) -> Report:
    """Average the predictions and say what speaks against RL on them."""
    everything = _fidelity(predictions)
    known = [prediction for prediction in predictions if prediction.is_known]
    unknown = [prediction for prediction in predictions if prediction.is_known is False]
    return Report(
        model=params.model,
        model_fingerprint=fingerprint_model(params.model),
        rollouts=params.rollouts,
        num_observations=len(predictions),
        all=everything,
        known=_fidelity(known),
        unknown=_fidelity(unknown),
        warnings=tuple(_doubts(everything)),
    )


def _fidelity(chosen: Sequence[Prediction]) -> Fidelity:
    def mean(values: Iterable[float | None]) -> Interval | None:
        applying = [float(value) for value in values if value is not None]
        return mean_interval(applying)

    return Fidelity(
        well_formed=mean(prediction.is_well_formed for prediction in chosen),
        f1=mean(prediction.f1 for prediction in chosen),
        answer_bearing=mean(prediction.bears_answer for prediction in chosen),
    )


_LEAST = {"well_formed": 0.95, "answer_bearing": 0.5}
"""Below these shares the gate warns; the second one is over the observations that held the answer
in reality."""
_FIXES = {
    "well_formed": "train sft3 for longer",
    "answer_bearing": "harmless where train.rl1.rewards pays `recalled` and `acted` "
    "in place of answers",
}


def _doubts(found: Fidelity) -> Iterator[str]:
    """Say which figures are below their limits, and what helps."""
    for name, least in _LEAST.items():
        interval: Interval | None = getattr(found, name)
        if interval is None or interval.value < least:
            figure = name.replace("_", " ")
            shown = interval or "nothing to measure"
            yield f"{figure}: {shown}, below {least}; {_FIXES[name]}"


def known_doubts(model: str) -> tuple[str, ...]:
    """Return what speaks against RL stage 1 from `model`.

    So does that its fidelity was not measured since it was trained.
    """
    path = FOLDER / f"{Path(model).name}.json"
    found = read_json(path, Report, command=COMMAND) if path.is_file() else None
    if found is None or found.model_fingerprint != fingerprint_model(model):
        return (f"the fidelity of {model} was not measured: {COMMAND} model={model}",)
    return found.warnings


def _writer(params: FidelityParams, world: SimulatorParams) -> str:
    """Name the model that writes observations; empty where none does."""
    kind: SimulatorKind | None = world.kind
    if kind is SimulatorKind.RECORDED:
        kind = world.recorded.fallback
    if kind is None:
        return ""
    return params.model if kind is SimulatorKind.POLICY else world.model


def sft3_steps(model: str) -> int | None:
    """Read how many steps of SFT 3 made a model; None where no such run did."""
    folder = Path(model)
    try:
        settings = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
        log = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, yaml.YAMLError):
        return None
    if settings["train"]["stage"] != "sft3":
        return None
    return max((json.loads(line).get("step", 0) for line in log), default=0)


def main(arguments: Sequence[str]) -> str:
    """Measure one simulator and return the summary line."""
    loaded = Params.load("fidelity", arguments)
    params = loaded.section(FidelityParams)
    world = loaded.section(SimulatorParams, "simulator")
    knowledge = NOBODY_CAN_TELL
    if QUESTIONS.is_file():
        knowledge = open_probe(tables.read_table(QUESTIONS, Question), loaded)
    rows = list(tables.read_table(Path(params.rollouts), GradedTrajectory))
    probes = list(islice(find_probes(rows, knowledge), params.num_observations))
    writer = _writer(params, world)
    policy: BatchPolicy = ScriptedPolicy([])
    if writer == params.model and probes:
        policy = LocalPolicy.load(LocalSettings(writer, batch_size=params.batch_size))
    simulate = open_simulator(world, max_tokens=params.max_observation_tokens)
    simulator = simulate(policy)
    # A student that never searches is a finding, no wrong setting: the report says so.
    numbering = loaded.section(SearchParams, "search").observation.numbering
    predictions = asyncio.run(
        predict(
            simulator,
            policy,
            probes,
            numbering,
            batch_size=params.batch_size,
            seed=_SEED,
        )
    )
    name = file_name(params.name, params.model, "name")
    found = replace(
        report(replace(params, model=writer), predictions),
        simulator=simulator.fingerprint,
        sft3_steps=sft3_steps(writer),
    )
    path = FOLDER / f"{name}.json"
    write_file(path, json.dumps(asdict(found), indent=2) + "\n")
    doubts = "".join(f"\nWARNING before rl1: {warning}" for warning in found.warnings)
    shown = (
        f"answer-bearing {found.all.answer_bearing}, well-formed {found.all.well_formed}, "
        f"overlap {found.all.f1}"
    )
    return f"{path}: {shown}{doubts}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
