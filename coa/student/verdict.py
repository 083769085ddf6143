"""Find the verdict of the gate, without which stage rl1 does not start.

`coa gate` (evaluation/gate.py) measures whether a simulated search pays, and writes what it found
to results/gate/. A verdict holds for the very model and the very simulator that it was measured on.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from coa.errors import ConfigError
from coa.intervals import Interval
from coa.rollout.simulators.settings import SimulatorParams
from coa.store.model_files import fingerprint_model
from coa.student.results import read_json

FOLDER = Path("results/gate")
FILE = "gate.json"
COMMAND = "coa gate"
_HELP = (
    "train sft3 for longer, practise on recorded searches (simulator.kind=recorded) and measure "
    "again, or ask more questions where the interval holds 0 (gate.num_questions)"
)


class Prediction(StrEnum):
    """What rl1 is expected to bring."""

    GAIN = "gain"
    HARM = "harm"


@dataclass(frozen=True, slots=True)
class GateReport:
    """What a simulated search is worth to a model."""

    model: str
    model_fingerprint: str
    simulator: str
    """Fingerprint of the simulator."""
    num_questions: int
    num_searched: int
    """Questions that it searched."""
    num_searches: int
    answer_bearing: Interval | None
    """P(answer in the observation | search), over the questions that it searched."""
    closed_book: Interval | None
    """Right answers to the same questions without any tool."""
    pays: Interval | None
    """The difference of the two, question by question."""
    prediction: Prediction
    world: dict[str, Any] = field(default_factory=dict)
    """The section `simulator` that it was measured with."""

    def __str__(self) -> str:
        if self.pays is None:
            return f"none of {self.num_questions:,} questions was searched"
        return (
            f"P(answer in observation | search) {self.answer_bearing}, closed-book recall "
            f"{self.closed_book} on {self.num_searched:,} searched questions: a search brings "
            f"{self.pays}"
        )


def world_settings(world: SimulatorParams) -> dict[str, Any]:
    """Return the section `simulator` as a report keeps it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(world))
    return found


def require_gain(model: str, world: SimulatorParams) -> GateReport:
    """Return the verdict on a model and a simulator, which has to be a gain.

    Raises:
        ConfigError: the gate has not measured the two, or searching does not pay with them.
        InputError: a verdict cannot be read.
    """
    fingerprint = fingerprint_model(model)
    for path in sorted(FOLDER.glob("*.json")):
        report = read_json(path, GateReport, command=COMMAND)
        is_of_model = (report.model, report.model_fingerprint) == (model, fingerprint)
        if not is_of_model or report.world != world_settings(world):
            continue
        if report.prediction is Prediction.GAIN:
            return report
        raise ConfigError(
            "rl1 would teach not to search: a simulated search does not pay",
            where=f"{path}, questions of train.rl1.questions",
            expected="beyond noise, observations hold the answer more often than it is known",
            got=report,
            fix=_HELP,
        )
    raise ConfigError(
        "rl1 does not start before the gate has measured whether a simulated search pays",
        where=f"{FOLDER}: no verdict on {model} with the simulator of params.yaml",
        fix=f"{COMMAND} model={model}, with the settings `simulator` of this run",
    )
