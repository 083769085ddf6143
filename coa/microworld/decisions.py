"""Set how good the scripted teacher is, and record what it decided."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """Settings of the teacher; all but the seed and the search limit are probabilities."""

    seed: int = 0
    """Decides which facts it remembers."""
    remembers_known: float = 0.92
    """Probability that it remembers a fact about a known entity."""
    remembers_other: float = 0.04
    """Probability that it remembers any other fact."""
    searches_remembered: float = 0.25
    """Probability that it searches for a fact that it remembers, where the tool is offered."""
    searches_other: float = 0.92
    """Probability that it searches for any other fact, where the tool is offered."""
    searches_again: float = 0.60
    """Probability that it searches again after a search that did not find the fact."""
    poor_query: float = 0.20
    """Probability that a fact's first query is poor: only the entity, half the name, or another
    relation."""
    misreads: float = 0.05
    """Probability that it misreads an observation that holds the value."""
    misreads_absent: float = 0.10
    """Probability that it takes some other value from an observation that does not hold the right
    one."""
    max_searches: int = 3
    """Most searches for one fact; after them it gives up and guesses."""
    repeats: float = 0.10
    """Probability that it repeats its query after an observation without the value."""
    copies: float = 0.015
    """Probability that it copies the passage into the thought, for an observation that holds the
    value."""
    unboxed: float = 0.015
    """Probability that it ends without boxing the answer."""
    unclosed: float = 0.015
    """Probability that it ends without closing the thinking."""
    # As in `WorldSettings`, what was added later is not in the text that names the teacher.
    trusts_memory: float = field(default=0.0, repr=False)
    """Probability that it states what it remembers where an observation says otherwise."""
    calculates: float = field(default=0.85, repr=False)
    """Probability that it calls the calculator where it has to calculate and the tool is
    offered."""
    miscalculates: float = field(default=0.3, repr=False)
    """Probability that it is wrong by 1 or 10 where it calculates in its head."""


class TeacherDecision(StrEnum):
    """A decision of the teacher; each is one event."""

    RECALLED = "recalled"
    HALLUCINATED = "hallucinated"
    SEARCHED = "searched"
    POOR_QUERY = "poor_query"
    """Noted in addition to `SEARCHED`."""
    REPEATED = "repeated"
    """Noted in addition to `SEARCHED`."""
    RIGHT_READ = "right_read"
    MISREAD = "misread"
    NOT_FOUND = "not_found"
    COPIED = "copied"
    CALCULATED = "calculated"
    """It called the calculator."""
    MISCALCULATED = "miscalculated"
    """It calculated in its head, and was wrong."""
    GAVE_UP = "gave_up"
    """Noted in addition to `RECALLED` or `HALLUCINATED`."""
    UNBOXED = "unboxed"
    UNCLOSED = "unclosed"


FORMAT_SLIPS = frozenset({TeacherDecision.UNBOXED, TeacherDecision.UNCLOSED})
"""The decisions that break the format."""


@dataclass(frozen=True, slots=True)
class TeacherEvent:
    """A record of one decision, for tests of the error analysis only."""

    question_id: str
    hop: int
    """Index of the plan's fact that the decision is about."""
    what: TeacherDecision
    seed: int
    """The seed of the request; it differs for every rollout and turn."""
