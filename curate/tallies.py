"""Analysed rows to the counts that the error report draws; rows stream, what is kept are counts and a key a rollout."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from coa.causes import Analysis, Cause
from coa.grading import Verdict
from coa.pairs import Arm
from coa.trajectory import FORCED_STOPS, Mode, StopReason

_ANSWERED = FORCED_STOPS | {StopReason.ANSWERED}
_MALFORMED = frozenset({Cause.FORGED_OBSERVATION, Cause.FORMAT})


class FunnelStep(StrEnum):
    """The steps of the funnel: what is left of the rollouts."""

    SAMPLED = "sampled"
    ANSWERED = "answered"
    """The rollout came to an answer, forced ones included."""
    WELL_FORMED = "well-formed"
    """The answer stands in its box, and the tags are in order."""
    CORRECT = "correct"
    KEPT = "kept"
    """It passed every filter."""


class ArmOutcomes(NamedTuple):
    """Whether thinking and acting were right on the same question, or from the same point."""

    thinking: bool
    acting: bool


@dataclass(slots=True)
class Tallies:
    """What a run adds up to."""

    funnel: Counter[tuple[Mode, FunnelStep]] = field(default_factory=Counter)
    causes: Counter[tuple[Mode, Cause]] = field(default_factory=Counter)
    by_hops: Counter[tuple[Mode, int | None, Cause]] = field(default_factory=Counter)
    num_by_actions: Counter[int] = field(default_factory=Counter)
    """CoA rollouts by number of actions."""
    correct_by_actions: Counter[int] = field(default_factory=Counter)
    quadrants: Counter[ArmOutcomes] = field(default_factory=Counter)
    """Pairs of a CoT and a CoA rollout of the same question and index."""
    _waiting: dict[tuple[str, int], tuple[Mode, bool]] = field(default_factory=dict)
    """Rollouts whose partner of the other mode has not come yet."""

    def add(self, row: Analysis) -> None:
        """Count one row."""
        is_correct = row.verdict is Verdict.CORRECT
        self.funnel.update((row.mode, left) for left in _left(row))
        if row.cause:
            self.causes[row.mode, row.cause] += 1
            self.by_hops[row.mode, row.num_hops, row.cause] += 1
        if row.mode is Mode.COA:
            self.num_by_actions[row.num_actions] += 1
            self.correct_by_actions[row.num_actions] += is_correct
        self._pair(row, is_correct=is_correct)

    def _pair(self, row: Analysis, *, is_correct: bool) -> None:
        key = row.question_id, row.index
        mode, other = self._waiting.get(key, (row.mode, False))
        if mode is row.mode:
            self._waiting[key] = row.mode, is_correct
            return
        del self._waiting[key]
        self.quadrants[
            ArmOutcomes(is_correct, other)
            if row.mode is Mode.COT
            else ArmOutcomes(other, is_correct)
        ] += 1

    def add_dropped(self, dropped: Mapping[Mode, int]) -> None:
        """Count what the filter dropped: the rest was kept."""
        for mode in self.modes:
            self.funnel[mode, FunnelStep.KEPT] = self.funnel[
                mode, FunnelStep.SAMPLED
            ] - dropped.get(mode, 0)

    @property
    def modes(self) -> list[Mode]:
        """The modes that were sampled."""
        return [mode for mode in Mode if self.funnel[mode, FunnelStep.SAMPLED]]

    @property
    def num_rows(self) -> int:
        """All rows."""
        return sum(self.funnel[mode, FunnelStep.SAMPLED] for mode in Mode)

    def causes_of(self, mode: Mode) -> dict[Cause, int]:
        """The primary causes of one mode, the most frequent first."""
        found = {cause: self.causes[mode, cause] for cause in Cause if self.causes[mode, cause]}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def causes_by_hops(self, mode: Mode) -> dict[str, dict[Cause, int]]:
        """The primary causes of one mode by the number of facts that the question joins."""
        hops = {number for of_mode, number, _ in self.by_hops if of_mode is mode}
        names = {
            number: _hops(number)
            for number in sorted(hops, key=lambda number: (number is None, number or 0))
        }
        return {
            name: {c: n for c in Cause if (n := self.by_hops[mode, number, c])}
            for number, name in names.items()
        }


def _left(row: Analysis) -> Iterator[FunnelStep]:
    yield FunnelStep.SAMPLED
    if row.stop_reason not in _ANSWERED:
        return
    yield FunnelStep.ANSWERED
    found = {row.cause, *(finding.cause for finding in row.contributing)}
    if row.verdict is Verdict.NO_ANSWER or not found.isdisjoint(_MALFORMED):
        return
    yield FunnelStep.WELL_FORMED
    if row.verdict is Verdict.CORRECT:
        yield FunnelStep.CORRECT


def _hops(number: int | None) -> str:
    return "hops not known" if number is None else f"{number} hop{'s' * (number != 1)}"


def fork_quadrants(points: Iterable[tuple[Arm, bool, int, int]]) -> Counter[ArmOutcomes]:
    """Parents against their continuations: (arm tried, parent is right, continuations, right ones) of each point."""
    counts: Counter[ArmOutcomes] = Counter()
    for arm, is_right, total, right in points:
        for is_other_right, number in ((True, right), (False, total - right)):
            sides = (
                ArmOutcomes(is_right, is_other_right)
                if arm is Arm.ACT
                else ArmOutcomes(is_other_right, is_right)
            )
            counts[sides] += number
    return counts
