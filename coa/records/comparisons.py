"""Define the record of two trajectories of one question of which one ended right and one wrong."""

from dataclasses import dataclass
from enum import StrEnum

from coa.records.trajectory import Step


class Parting(StrEnum):
    """How two trajectories of one question part."""

    ONE_ACTS = "one_acts"
    """One calls a tool where the other thinks on or answers: the paper's kind of pair."""
    BOTH_ACT = "both_act"
    """Both call a tool, but another one or with another argument."""
    BOTH_THINK = "both_think"
    """Neither calls a tool there."""
    ACTS_LATER = "acts_later"
    """One calls a tool, and the other one does later: it did not reason on to its end."""
    SCAFFOLD = "scaffold"
    """The scaffold's text comes next on a side, such as a trigger that was never closed: the policy
    did not choose between acting and thinking."""
    NOTHING_SHARED = "nothing_shared"
    """They share nothing that a policy wrote."""


@dataclass(frozen=True, slots=True)
class Source:
    """Who wrote a trajectory."""

    model: str
    origin: str
    """Who published it; empty for this project's own."""
    license: str
    """The licence of an imported trajectory; empty for this project's own, and where unknown."""
    is_imported: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two ways to go on from one prefix, of which exactly one ends in a right answer.

    Unlike the sides of a `PreferencePair`, these need not differ in whether a tool is called, may
    share nothing, and may come from different sources. They never enter the CoT+A set.
    """

    comparison_id: str
    """`{chosen_id}/{point}/{rejected_id}`."""
    question_id: str
    parting: Parting
    point: int
    """Where the sides part: a character offset into the steps of both trajectories."""
    question: str
    prompt: str
    """The prompt of the side that acts first, or else of the chosen one."""
    prefix: tuple[Step, ...]
    """The steps that both sides share after the prompt."""
    chosen: tuple[Step, ...]
    """From the point to the right answer."""
    rejected: tuple[Step, ...]
    """From the point to the wrong answer."""
    chosen_id: str
    """Trajectory id of the chosen side."""
    rejected_id: str
    chosen_source: Source
    rejected_source: Source
