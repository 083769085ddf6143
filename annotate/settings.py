"""Define the section `annotate` of params.yaml.

It describes the server on this machine, what is pushed to it, and whose word counts.
"""

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from coa.store.adjudication import AdjudicationParams
from coa.store.reviews import ReviewKind


@dataclass(frozen=True, slots=True)
class ServeParams:
    """The server on this machine."""

    state: str = ".argilla"
    """The one folder that holds database, secret and accounts."""
    host: str = "127.0.0.1"
    """The address to listen on; others than this machine's own are warned about."""
    port: int = 6900
    """Its port."""
    owner: str = "owner"
    """Account that pushes and pulls; its key stays in the state folder."""
    annotators: tuple[str, ...] = ()
    """Accounts of the reviewers: made at the start, their passwords shown once."""


@dataclass(frozen=True, slots=True)
class PushParams:
    """Which items reviewers get."""

    kinds: tuple[ReviewKind, ...] = tuple(ReviewKind)
    """What is reviewed."""
    num_items: Annotated[int, msgspec.Meta(ge=1)] = 200
    """Items of each kind, at most."""
    audit_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """Share of them that is drawn at random from all; a review of the others is worth most."""
    causes: tuple[str, ...] = ()
    """Failed trajectories of these causes alone; empty for all causes."""
    reviewers_per_item: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Reviewers that see the same item; from two on agreement can be measured."""
    round: Annotated[int, msgspec.Meta(ge=1, le=2)] = 1
    """1, or 2: the items on which the reviewers in data/reviews.parquet disagree."""
    seed: int = 0
    """Draws the random share, and the order in which items are shown."""


@dataclass(frozen=True, slots=True)
class AnnotateParams:
    """Review by people in Argilla."""

    workspace: str = "review"
    """Argilla's workspace."""
    prefix: str = "coa"
    """How the names of the data sets in it begin."""
    serve: ServeParams = field(default_factory=ServeParams)
    """The server on this machine."""
    push: PushParams = field(default_factory=PushParams)
    """Which items reviewers get."""
    adjudication: AdjudicationParams = field(default_factory=AdjudicationParams)
    """Whose word counts."""
