"""Choose a few trajectories for each cause, and shorten them for the error report.

Control characters are made visible.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from coa.ranking import seeded_rank
from coa.records.causes import CONTRIBUTING_ONLY, Analysis, Cause
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Author

_PER_CAUSE = 3
# With these limits the page stays below two megabytes.
_STEP_CHARS = 700
"""The greatest number of characters of a step."""
_TEXT_CHARS = 6_000
"""The greatest number of characters of all steps of an example, save the one to blame."""
_FOLDED_CHARS = 20_000
"""The greatest number of further characters of an example, which the page shows when asked to."""
_FIELD_CHARS = 400
"""The greatest number of characters of a question or an answer."""
_MAX_STEPS = 60
"""The greatest number of steps of an example; of longer ones the first steps are shown, and the one
to blame."""
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
    folded: str = ""
    """The rest of a long text, which the page unfolds."""
    num_cut: int = 0
    """Characters that not even the folded text holds."""


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
            if cause in self._best:
                examples[cause] = _examples(self._best[cause], found)
        return examples


def _examples(best: Iterable[Chosen], found: Mapping[str, GradedTrajectory]) -> list[Example]:
    examples: list[Example] = []
    for chosen in best:
        row = found.get(chosen.trajectory_id)
        if row is not None:
            examples.append(_example(chosen, row))
    return examples


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
    """Show the first steps of a row, and the one to blame; say how many are left out between."""
    steps = row.trajectory.steps
    chars_left = _TEXT_CHARS
    folded_left = _FOLDED_CHARS
    num_passed = 0
    for i, step in enumerate(steps):
        is_blamed = i == blamed
        if (chars_left and i < _MAX_STEPS) or is_blamed:
            size = _STEP_CHARS if is_blamed else min(chars_left, _STEP_CHARS)
            text = step.text.strip("\n").translate(_VISIBLE)
            folded = text[size : size + folded_left]
            folded_left -= len(folded)
            yield Piece(
                number=i,
                author=step.author,
                kind=step.kind,
                text=text[:size],
                is_blamed=is_blamed,
                num_left_out=i - num_passed,
                folded=folded,
                num_cut=max(len(text) - size - len(folded), 0),
            )
            num_passed = i + 1
        chars_left -= min(chars_left, len(step.text), _STEP_CHARS)
    num_left_out = len(steps) - num_passed
    if num_left_out:
        yield Piece(
            number=len(steps),
            author=Author.SCAFFOLD,
            kind="end",
            text="",
            is_blamed=False,
            num_left_out=num_left_out,
        )


def shorten(text: str, size: int) -> str:
    """Shorten a text to `size` characters, and say how many are left out.

    Control characters are made visible.
    """
    shown = text[:size].translate(_VISIBLE)
    if len(text) <= size:
        return shown
    return f"{shown} … [{len(text) - size:,} characters left out]"
