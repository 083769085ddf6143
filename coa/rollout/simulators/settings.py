"""Describe the section `simulator` of params.yaml: what takes the place of the search in rl1."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import msgspec

from coa.store.files import GRADED, TRAINED

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class SimulatorKind(StrEnum):
    """Who writes the observations."""

    POLICY = "policy"
    """The policy itself, as it is at that step (AutoCoA)."""
    MODEL = "model"
    """Another model that stays as it is, such as the one after SFT 3."""
    RECORDED = "recorded"
    """Searches that were made before, as far as one is near."""


class Compares(StrEnum):
    """Which part of a recorded search a new query is compared with."""

    QUERIES = "queries"
    """Its query."""
    OBSERVATIONS = "observations"
    """Its query and its observation."""


@dataclass(frozen=True, slots=True)
class RecordedSettings:
    """Where recorded searches are, and when one is near."""

    sets: tuple[str, ...] = (GRADED.as_posix(),)
    """Trajectories with real searches: folders with train.parquet, or tables."""
    compares: Compares = Compares.OBSERVATIONS
    """queries: with recorded queries; observations: also with what those searches showed."""
    min_share: Share = 0.6
    """Share of a query's words that a recorded search must hold to be near."""
    held_out: bool = False
    """Whether what was recorded for the question itself is left out, to measure."""
    fallback: SimulatorKind | None = None
    """Who writes where nothing is near; null: there are no results."""


@dataclass(frozen=True, slots=True)
class SimulatorParams:
    """What takes the place of the search in rl1."""

    kind: SimulatorKind = SimulatorKind.POLICY
    """policy, the policy itself; model, another model, frozen; recorded, searches that were
    made before."""
    model: str = (TRAINED / "sft3").as_posix()
    """model: a folder, or a name on the Hub."""
    batch_size: int = 128
    """model: observations that go through the model together."""
    recorded: RecordedSettings = field(default_factory=RecordedSettings)
