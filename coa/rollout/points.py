"""Define the record of a point at which a trajectory was forked, as `coa branch` writes it."""

from dataclasses import dataclass
from enum import StrEnum

from coa.policy.chat.families import ForkWay
from coa.records.pairs import Arm
from coa.records.worth import Worth


class PointOutcome(StrEnum):
    """The outcome of forking at a point."""

    PAIRED = "paired"
    """A continuation's outcome differs from its parent's: a pair."""
    SAME_OUTCOME = "same_outcome"
    """Every continuation on its arm ended as its parent did."""
    OFF_ARM = "off_arm"
    """Continuations ended properly, but none took its arm: the call that was opened for it was
    never closed, or the tool was offered and not called."""
    UNDECIDED = "undecided"
    """The worth of acting is too uncertain: its interval holds zero, and the budget is spent."""
    TOO_SMALL = "too_small"
    """Acting there is worth less than `branch.min_worth`, either way."""
    UNSOUND = "unsound"
    """No continuation ended properly: each failed, acted where that is forbidden, or gave no
    answer."""


@dataclass(frozen=True, slots=True)
class Point:
    """One point that was forked."""

    parent_id: str
    point: int
    arm: Arm
    """The arm that was tried; the parent took the other one."""
    outcome: PointOutcome
    parent_is_correct: bool
    num_continuations: int
    num_correct: int
    pair_id: str
    """Empty where there is no pair."""
    way: ForkWay = ForkWay.TEXT
    """How the trajectory was forked there (docs/teachers.md)."""
    tool: str = "search"
    """The tool in question."""
    chosen_by: str = "cue"
    """Why the point was chosen, as `branch.points` names the ways."""
    score: float = 0.0
    """The score that it was chosen by; 0 for ways without scores."""
    cause: str = ""
    """The cause that the analysis blames at this point; empty for none."""
    worth: Worth | None = None
    """What acting is worth there; None where continuations of one arm alone were made."""
