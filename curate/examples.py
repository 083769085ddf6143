"""A few trajectories for each cause, as the error report shows them: shortened, their control characters visible."""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from coa.causes import CONTRIBUTING_ONLY, Analysis, Cause
from coa.graded import GradedTrajectory
from coa.ranking import seeded_rank
from coa.trajectory import Author

_PER_CAUSE = 3
_STEP_CHARS, _TEXT_CHARS, _FIELD_CHARS = 700, 6_000, 400
"""Of a step, of a whole example, of a question or an answer: the page stays below two megabytes."""
_MAX_STEPS = 60
"""Of an example; of longer ones the first steps are shown and the one to blame."""
_VISIBLE = {code: "\ufffd" for code in range(32) if chr(code) not in "\n\t"}


class Piece(NamedTuple):
    """One step as the page shows it."""

    number: int
    author: Author
    kind: str
    text: str
    is_blamed: bool
    num_left_out: int = 0
    """Steps before it that are not shown."""


@dataclass(frozen=True, slots=True)
class Example:
    """One trajectory as the page shows it."""

    trajectory_id: str
    question: str
    gold: str
    prediction: str
    evidence: str
    contributing: str
    pieces: tuple[Piece, ...]


class Chosen(NamedTuple):
    """A trajectory to be shown, and what is said of it."""

    rank: str
    trajectory_id: str
    step: int | None
    evidence: str
    contributing: tuple[str, ...]


@dataclass(slots=True)
class Choice:
    """Chooses a few rows for each cause by their ids alone, as the rows come."""

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
        best = [
            *self._best.get(cause, []),
            Chosen(place, row.trajectory_id, step, evidence, beside),
        ]
        self._best[cause] = heapq.nsmallest(_PER_CAUSE, best, key=lambda chosen: chosen.rank)

    def with_texts(self, rows: Iterable[GradedTrajectory]) -> dict[Cause, list[Example]]:
        """The chosen trajectories with their texts; `rows` may hold others."""
        wanted = {chosen.trajectory_id for best in self._best.values() for chosen in best}
        found = {
            row.trajectory.trajectory_id: row
            for row in rows
            if row.trajectory.trajectory_id in wanted
        }
        return {
            cause: _examples(self._best[cause], found) for cause in Cause if cause in self._best
        }


def _examples(best: Iterable[Chosen], found: Mapping[str, GradedTrajectory]) -> list[Example]:
    return [
        _example(chosen, found[chosen.trajectory_id])
        for chosen in best
        if chosen.trajectory_id in found
    ]


def _example(chosen: Chosen, row: GradedTrajectory) -> Example:
    return Example(
        trajectory_id=shorten(chosen.trajectory_id, _FIELD_CHARS),
        question=shorten(row.trajectory.question, _FIELD_CHARS),
        gold=shorten(" / ".join(row.gold_answers), _FIELD_CHARS),
        prediction=shorten(row.grade.prediction or "none", _FIELD_CHARS),
        evidence=shorten(chosen.evidence, 2 * _FIELD_CHARS),
        contributing=", ".join(cause.replace("_", " ") for cause in chosen.contributing),
        pieces=tuple(_pieces(row, chosen.step)),
    )


def _pieces(row: GradedTrajectory, blamed: int | None) -> Iterator[Piece]:
    left, shown = _TEXT_CHARS, 0
    for i, step in enumerate(row.trajectory.steps):
        is_blamed = i == blamed
        if (left and i < _MAX_STEPS) or is_blamed:
            text = shorten(step.text, _STEP_CHARS if is_blamed else min(left, _STEP_CHARS))
            yield Piece(i, step.author, step.kind, text.strip("\n"), is_blamed, i - shown)
            shown = i + 1
        left -= min(left, len(step.text), _STEP_CHARS)
    if rest := len(row.trajectory.steps) - shown:
        yield Piece(len(row.trajectory.steps), Author.SCAFFOLD, "end", "", False, rest)


def shorten(text: str, size: int) -> str:
    """At most so many characters of a text, control characters made visible; it says how many are left out."""
    shown = text[:size].translate(_VISIBLE)
    return shown if len(text) <= size else f"{shown} … [{len(text) - size:,} characters left out]"
