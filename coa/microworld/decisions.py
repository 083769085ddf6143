"""How good the scripted teacher is, and the record of what it decided."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """How good the teacher is; all but the first and the search limit are probabilities."""

    seed: int = 0
    """Which facts it remembers."""
    remembers_known: float = 0.92
    """A fact about a known entity is remembered."""
    remembers_other: float = 0.04
    """Any other fact is remembered."""
    searches_remembered: float = 0.25
    """It searches where the tool is offered and the fact is remembered."""
    searches_other: float = 0.92
    """It searches where the tool is offered and the fact is not remembered."""
    searches_again: float = 0.60
    """It searches again after a search that did not find the fact."""
    poor_query: float = 0.20
    """A fact's first query is poor: only the entity, half the name, or another relation."""
    misreads: float = 0.05
    """It misreads an observation that holds the value."""
    misreads_absent: float = 0.10
    """It takes some other value from an observation that does not hold the right one."""
    max_searches: int = 3
    """Searches for one fact; after that it gives up and guesses."""
    repeats: float = 0.10
    """After an observation without the value it asks the same again."""
    copies: float = 0.015
    """Of the observations that hold the value: copies the passage into the thought."""
    unboxed: float = 0.015
    """It ends without boxing the answer."""
    unclosed: float = 0.015
    """It ends without closing the thinking."""


class TeacherDecision(StrEnum):
    """What the teacher did; one event each."""

    RECALLED = "recalled"
    HALLUCINATED = "hallucinated"
    SEARCHED = "searched"
    POOR_QUERY = "poor_query"
    """Beside `SEARCHED`."""
    REPEATED = "repeated"
    """Beside `SEARCHED`."""
    RIGHT_READ = "right_read"
    MISREAD = "misread"
    NOT_FOUND = "not_found"
    COPIED = "copied"
    GAVE_UP = "gave_up"
    """Beside `RECALLED` or `HALLUCINATED`."""
    UNBOXED = "unboxed"
    UNCLOSED = "unclosed"


FORMAT_SLIPS = frozenset({TeacherDecision.UNBOXED, TeacherDecision.UNCLOSED})
"""The decisions that break the format."""


@dataclass(frozen=True, slots=True)
class TeacherEvent:
    """The truth about one decision, for tests of the error analysis only."""

    question_id: str
    hop: int
    """Index of the plan's fact that it is about."""
    what: TeacherDecision
    seed: int
    """Of the request; it tells rollouts and turns apart."""
