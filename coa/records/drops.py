"""Define the record of a trajectory that is not imitated, with its reason, for `coa filter`."""

from dataclasses import dataclass
from enum import StrEnum

from coa.records.graded import GradedTrajectory


class DropReason(StrEnum):
    """The reason why a trajectory is not imitated: the first rule that applies."""

    FAILED = "failed"
    """A tool or the policy's server failed."""
    NO_ANSWER = "no_answer"
    """The policy ended, or ran out of tokens, without an answer."""
    FORMAT = "format"
    """Broken, forged or unclosed tags, a forbidden action, or an answer outside the box."""
    FORCED = "forced"
    """A budget was used up and the scaffold forced the answer."""
    UNJUDGED = "unjudged"
    """The judge decides what is right, and could not be asked or gave no verdict."""
    WRONG = "wrong"
    """The answer is not right, by what `filter.right_by` names."""
    REPEATED_SEARCH = "repeated_search"
    """The same query twice."""
    COPIED_OBSERVATION = "copied_observation"
    """A thought copies a long run of words from an observation."""
    LENGTH = "length"
    """More policy tokens than allowed."""
    LOOP = "loop"
    """The same run of words again and again."""
    OWN_RULE = "own_rule"
    """A rule of the user's, which `filter.rules` names."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A dropped row with its reason."""

    reason: DropReason
    detail: str
    """What exactly the rule saw."""
    row: GradedTrajectory
