"""Choose a few trajectories for each cause, for the error report: each with its step to blame."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from coa.records.causes import CONTRIBUTING_ONLY, Analysis, Cause
from coa.records.graded import GradedTrajectory
from coa.records.ranking import seeded_rank

_PER_CAUSE = 3
_STEP_CHARS = 700
"""The greatest number of characters of the step to blame."""
_FIELD_CHARS = 400
"""The greatest number of characters of a question or an answer."""
_VISIBLE = {code: "\ufffd" for code in range(32) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class Example:
    """One trajectory as the page shows it."""

    trajectory_id: str
    question: str
    gold: str
    prediction: str
    evidence: str
    contributing: str
    step: int | None
    """The index of the step to blame; None where no single step is."""
    kind: str
    author: str
    text: str
    """Of the step to blame."""


class Chosen(NamedTuple):
    """A trajectory to be shown, and what was found about it."""

    rank: str
    trajectory_id: str
    step: int | None
    evidence: str
    contributing: tuple[str, ...]


@dataclass(slots=True)
class Choice:
    """A choice of a few rows for each cause, made by their ids alone as the rows come."""

    _best: dict[Cause, list[Chosen]] = field(default_factory=dict)

    def add(self, row: Analysis) -> None:
        """Consider one row."""
        beside = tuple(finding.cause for finding in row.contributing)
        if row.cause:
            self._offer(row.cause, row, row.step, row.evidence, beside)
        for finding in row.contributing:
            if finding.cause in CONTRIBUTING_ONLY:
                self._offer(finding.cause, row, finding.step, finding.evidence, beside)

    def _offer(
        self, cause: Cause, row: Analysis, step: int | None, evidence: str, beside: tuple[str, ...]
    ) -> None:
        place = seeded_rank(row.trajectory_id, 0, f"example/{cause}")
        chosen = Chosen(place, row.trajectory_id, step, evidence, beside)
        best = [*self._best.get(cause, []), chosen]
        self._best[cause] = heapq.nsmallest(_PER_CAUSE, best, key=lambda chosen: chosen.rank)

    def with_texts(self, rows: Iterable[GradedTrajectory]) -> dict[Cause, list[Example]]:
        """Show the chosen trajectories with their texts; `rows` may hold others."""
        wanted: set[str] = set()
        for best in self._best.values():
            for chosen in best:
                wanted.add(chosen.trajectory_id)
        found: dict[str, GradedTrajectory] = {}
        for row in rows:
            if row.trajectory.trajectory_id in wanted:
                found[row.trajectory.trajectory_id] = row
        examples: dict[Cause, list[Example]] = {}
        for cause in Cause:
            for chosen in self._best.get(cause, ()):
                shown = examples.setdefault(cause, [])
                if chosen.trajectory_id in found:
                    shown.append(_example(chosen, found[chosen.trajectory_id]))
        return examples


def _example(chosen: Chosen, row: GradedTrajectory) -> Example:
    steps = row.trajectory.steps
    blamed = None if chosen.step is None else steps[chosen.step]
    return Example(
        trajectory_id=shorten(chosen.trajectory_id, _FIELD_CHARS),
        question=shorten(row.trajectory.question, _FIELD_CHARS),
        gold=shorten(" / ".join(row.gold_answers), _FIELD_CHARS),
        prediction=shorten(row.grade.prediction or "none", _FIELD_CHARS),
        evidence=shorten(chosen.evidence, 2 * _FIELD_CHARS),
        contributing=", ".join(cause.replace("_", " ") for cause in chosen.contributing),
        step=chosen.step,
        kind=blamed.kind if blamed else "",
        author=blamed.author if blamed else "",
        text=shorten(blamed.text.strip("\n"), _STEP_CHARS) if blamed else "",
    )


def shorten(text: str, size: int) -> str:
    """Shorten a text to `size` characters, and say how many are left out.

    Control characters are made visible.
    """
    shown = text[:size].translate(_VISIBLE)
    if len(text) <= size:
        return shown
    return f"{shown} … [{len(text) - size:,} characters left out]"
