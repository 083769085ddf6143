"""Measure what a judge said of the outcomes of questions; what it did not judge is not right."""

from collections.abc import Callable
from typing import Protocol

from coa.records.verdicts import RIGHT, JudgeVerdict


class JudgedOutcome(Protocol):
    """The part of `evaluation.outcomes.Outcome` that these measures read."""

    @property
    def exact_match(self) -> bool | None:
        """Return whether the answer is an accepted one; None for an open-ended question."""

    @property
    def judged(self) -> JudgeVerdict | None:
        """Return what came of asking the judge."""

    @property
    def rubric_score(self) -> float | None:
        """Return the weight of the criteria that are met."""


def _is_right(row: JudgedOutcome) -> float | None:
    return None if row.judged is None else RIGHT[row.judged] is True


def _is_untold(row: JudgedOutcome) -> float | None:
    return None if row.judged is None else RIGHT[row.judged] is None


def _rubric_score(row: JudgedOutcome) -> float | None:
    """Return the score of an open-ended question; 0 where the judge did not tell."""
    return None if row.judged is None or row.exact_match is not None else row.rubric_score or 0.0


def _is_open_ended(row: JudgedOutcome) -> float:
    return row.exact_match is None


JUDGED_MEASURES: dict[str, Callable[[JudgedOutcome], float | None]] = {
    "judged_right": _is_right,
    "judge_failed": _is_untold,
    "rubric_score": _rubric_score,
    "open_ended": _is_open_ended,
}
"""Measures of results with a judge, without which no open-ended question is asked."""
