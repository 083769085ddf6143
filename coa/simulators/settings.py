"""Describe the section `simulator` of params.yaml: what stands in for the search in rl1."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import msgspec

from coa.errors import ConfigError
from coa.files import GRADED, TRAINED

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class SimulatorKind(StrEnum):
    """Who writes the observations."""

    POLICY = "policy"
    """The policy itself, as it is at that step (AutoCoA)."""
    MODEL = "model"
    """Another model that stays as it is, such as the one after SFT 3."""
    TOLD = "told"
    """Such a model that is told the answer and asked for a useful or a noisy passage."""
    RECORDED = "recorded"
    """Searches that were made before, as far as one is near."""


class Compares(StrEnum):
    """Which part of a recorded search a new query is compared with."""

    QUERIES = "queries"
    """Its query."""
    OBSERVATIONS = "observations"
    """Its query and its observation."""


class Schedule(StrEnum):
    """In which order steps take simulated and real searches."""

    SPREAD = "spread"
    """The real ones stand evenly among the others."""
    SIMULATED_FIRST = "simulated_first"
    """The real ones come last: RL 1,2 of the paper, as one run."""


@dataclass(frozen=True, slots=True)
class ToldSettings:
    """What the model of `told` is told, and how often it is asked for noise (ZeroSearch)."""

    useful: str = "It says {answer}."
    """The note before a useful observation, with the place `{answer}`."""
    noisy: str = "Not found."
    """The note before a noisy one."""
    noise_start: Share = 0.0
    """Share of noisy observations at the first step."""
    noise_end: Share = 0.5
    """Share of noisy observations at the last step."""
    noise_base: Annotated[float, msgspec.Meta(gt=1)] = 4.0
    """How late the noise grows; 4 is ZeroSearch's."""

    def __post_init__(self) -> None:
        if "{answer}" not in self.useful:
            raise ConfigError(
                "simulator.told.useful does not tell the answer", expected="a note with {answer}"
            )


@dataclass(frozen=True, slots=True)
class RecordedSettings:
    """Where recorded searches are, and when one is near."""

    sets: tuple[str, ...] = (GRADED.as_posix(),)
    """Trajectories with real searches: folders with train.parquet, or tables."""
    journals: tuple[str, ...] = ()
    """Journals, such as `.journal/sample-coa.sqlite`. They hold no queries, so they answer only the
    very queries that were made."""
    compares: Compares = Compares.OBSERVATIONS
    """queries: with recorded queries; observations: also with what those searches showed."""
    min_share: Share = 0.6
    """Share of a query's words that a recorded search must hold to be near."""
    held_out: bool = False
    """Whether what was recorded for the question itself is left out, to measure."""
    fallback: SimulatorKind | None = None
    """Who writes where nothing is near; null: there are no results."""


@dataclass(frozen=True, slots=True)
class MixSettings:
    """How many steps of rl1 search in earnest."""

    simulated: Count = 1
    """Simulated steps for each `real` ones: 5 to 1, say."""
    real: Count = 0
    """Steps with the real search."""
    schedule: Schedule = Schedule.SPREAD
    """spread: evenly among the others; simulated_first: after them."""

    def __post_init__(self) -> None:
        if not self.simulated + self.real:
            raise ConfigError("simulator.mix has no steps", expected="simulated: 5, real: 1")


@dataclass(frozen=True, slots=True)
class SimulatorParams:
    """What stands in for the search in rl1."""

    kind: SimulatorKind = SimulatorKind.POLICY
    """policy, the policy itself; model, another model, frozen; told, such a model that is told the
    answer; recorded, searches that were made before."""
    model: str = (TRAINED / "sft3").as_posix()
    """model, told: a folder, or a name on the Hub."""
    batch_size: int = 128
    """model, told: observations that go through the model together."""
    told: ToldSettings = field(default_factory=ToldSettings)
    recorded: RecordedSettings = field(default_factory=RecordedSettings)
    mix: MixSettings = field(default_factory=MixSettings)
