"""Set how good the scripted teacher is, and record what it decided.

Its errors bear the names of the causes that the error analysis finds (`coa/records/causes.py`), so
the analysis can be checked against what was planted.
"""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """How good the teacher is; all but the seed and the search limit are probabilities."""

    seed: int = 0
    """Decides which facts it remembers."""
    remembers_known: float = 0.92
    """Probability that it remembers a fact about a known entity of an invented world."""
    remembers_other: float = 0.04
    """Probability that it remembers any other fact; of a real question, all of its facts."""
    searches_remembered: float = 0.25
    """Probability that it searches for a fact that it remembers, where the tool is offered."""
    searches_again: float = 0.60
    """Probability that it searches again after a search that did not find the fact."""
    max_searches: int = 3
    """Most searches for one fact; after them it gives up and guesses."""
    never_searched: float = 0.08
    """Probability that it does not search for a fact that it does not remember."""
    bad_query: float = 0.20
    """Probability that a fact's first query is poor: a part of the name, or beside the point."""
    evidence_ignored: float = 0.05
    """Probability that it takes another value than the one that the results state."""
    distractor_followed: float = 0.10
    """Probability that it takes a value from results that do not state the right one."""
    false_recall: float = 0.0
    """Probability that it states a guess as if it remembered it."""
    reasoning_slip: float = 0.01
    """Probability that it concludes something else than what it found."""
    repeated_search: float = 0.10
    """Probability that it repeats its query after results without the value."""
    needless_search: float = 0.0
    """Probability that it searches once more, in other words, for a value that was shown."""
    copied_observation: float = 0.015
    """Probability that it copies a run of words from results that hold the value."""
    format: float = 0.03
    """Probability that it ends without boxing the answer, or without closing the thinking."""
    trusts_memory: float = 0.0
    """Probability that it states what it remembers where the results say otherwise."""
    calculates: float = 0.85
    """Probability that it calls the calculator where it has to calculate and the tool is
    offered."""
    miscalculates: float = 0.3
    """Probability that it is wrong by 1 or 10 where it calculates in its head."""


class TeacherDecision(StrEnum):
    """A decision of the teacher; each is one event."""

    RECALLED = "recalled"
    GUESSED = "guessed"
    FALSE_RECALL = "false_recall"
    """A guess that is stated as if it were remembered."""
    SEARCHED = "searched"
    BAD_QUERY = "bad_query"
    """Noted in addition to `SEARCHED`."""
    REPEATED_SEARCH = "repeated_search"
    """Noted in addition to `SEARCHED`."""
    NEEDLESS_SEARCH = "needless_search"
    """Noted in addition to `SEARCHED`."""
    READ = "read"
    """It read the right value."""
    EVIDENCE_IGNORED = "evidence_ignored"
    DISTRACTOR_FOLLOWED = "distractor_followed"
    NOT_FOUND = "not_found"
    COPIED_OBSERVATION = "copied_observation"
    CALCULATED = "calculated"
    """It called the calculator."""
    MISCALCULATED = "miscalculated"
    """It calculated in its head, and was wrong."""
    GAVE_UP = "gave_up"
    """Noted in addition to `RECALLED`, `GUESSED` or `FALSE_RECALL`."""
    REASONING_SLIP = "reasoning_slip"
    FORMAT = "format"


@dataclass(frozen=True, slots=True)
class TeacherEvent:
    """A record of one decision, for tests of the error analysis only."""

    question_id: str
    hop: int
    """Index of the needed fact that the decision is about."""
    what: TeacherDecision
    seed: int
    """The seed of the request; it differs for every rollout and turn."""
