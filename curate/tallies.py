"""Count analysed rows for the charts of the error report.

Rows stream through; only the counts and one key for each rollout stay in memory.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from coa.causes import Analysis, Cause
from coa.grading import Verdict
from coa.trajectory import FORCED_STOPS, Mode, StopReason

_ANSWERED = FORCED_STOPS | {StopReason.ANSWERED}
_MALFORMED = frozenset({Cause.FORGED_OBSERVATION, Cause.FORMAT})


class FunnelStep(StrEnum):
    """A step of the funnel, at each of which fewer rollouts are left."""

    SAMPLED = "sampled"
    ANSWERED = "answered"
    """The rollout came to an answer, forced ones included."""
    WELL_FORMED = "well-formed"
    """The answer is in its box, and the tags are in order."""
    CORRECT = "correct"
    KEPT = "kept"
    """It passed every filter."""


class ArmOutcomes(NamedTuple):
    """The outcomes of thinking and of acting on the same question or from the same point."""

    thinking: bool
    acting: bool


@dataclass(slots=True)
class Tallies:
    """The counts of a run."""

    funnel: Counter[tuple[Mode, FunnelStep]] = field(default_factory=Counter)
    causes: Counter[tuple[Mode, Cause]] = field(default_factory=Counter)
    by_hops: Counter[tuple[Mode, int | None, Cause]] = field(default_factory=Counter)
    num_by_actions: Counter[int] = field(default_factory=Counter)
    """CoA rollouts by number of actions."""
    correct_by_actions: Counter[int] = field(default_factory=Counter)
    quadrants: Counter[ArmOutcomes] = field(default_factory=Counter)
    """Pairs of a CoT and a CoA rollout of the same question and index."""
    _waiting: dict[tuple[str, int], tuple[Mode, bool]] = field(default_factory=dict)
    """Mode and correctness of rollouts whose partner of the other mode has not come yet, by
    question and index."""

    def add(self, row: Analysis) -> None:
        """Count one row."""
        is_correct = row.verdict is Verdict.CORRECT
        for step in _passed_steps(row):
            self.funnel[row.mode, step] += 1
        if row.cause:
            self.causes[row.mode, row.cause] += 1
            self.by_hops[row.mode, row.num_hops, row.cause] += 1
        if row.mode is Mode.COA:
            self.num_by_actions[row.num_actions] += 1
            self.correct_by_actions[row.num_actions] += is_correct
        self._pair(row, is_correct=is_correct)

    def _pair(self, row: Analysis, *, is_correct: bool) -> None:
        """Count a row with its partner of the other mode, or keep it until that one comes."""
        key = row.question_id, row.index
        waiting_mode, is_waiting_correct = self._waiting.get(key, (row.mode, False))
        if waiting_mode is row.mode:
            self._waiting[key] = row.mode, is_correct
            return
        del self._waiting[key]
        if row.mode is Mode.COT:
            outcomes = ArmOutcomes(thinking=is_correct, acting=is_waiting_correct)
        else:
            outcomes = ArmOutcomes(thinking=is_waiting_correct, acting=is_correct)
        self.quadrants[outcomes] += 1

    def add_dropped(self, dropped: Mapping[Mode, int]) -> None:
        """Count as kept what the filter did not drop."""
        for mode in self.modes:
            num_sampled = self.funnel[mode, FunnelStep.SAMPLED]
            self.funnel[mode, FunnelStep.KEPT] = num_sampled - dropped.get(mode, 0)

    @property
    def modes(self) -> list[Mode]:
        """List the modes that were sampled."""
        return [mode for mode in Mode if self.funnel[mode, FunnelStep.SAMPLED]]

    @property
    def num_rows(self) -> int:
        """Count all rows."""
        return sum(self.funnel[mode, FunnelStep.SAMPLED] for mode in Mode)

    def causes_of(self, mode: Mode) -> dict[Cause, int]:
        """Count the primary causes of one mode, the most frequent first."""

        def rank(cause: Cause) -> tuple[int, Cause]:
            return -self.causes[mode, cause], cause

        counts: dict[Cause, int] = {}
        for cause in sorted(Cause, key=rank):
            if self.causes[mode, cause]:
                counts[cause] = self.causes[mode, cause]
        return counts

    def causes_by_hops(self, mode: Mode) -> dict[str, dict[Cause, int]]:
        """Count the primary causes of one mode by the number of facts that the question joins.

        Questions whose number is not known come last.
        """
        known: set[int] = set()
        has_unknown = False
        for row_mode, num_hops, _ in self.by_hops:
            if row_mode is not mode:
                continue
            if num_hops is None:
                has_unknown = True
            else:
                known.add(num_hops)
        ordered: list[int | None] = [*sorted(known)]
        if has_unknown:
            ordered.append(None)
        groups: dict[str, dict[Cause, int]] = {}
        for num_hops in ordered:
            counts: dict[Cause, int] = {}
            for cause in Cause:
                count = self.by_hops[mode, num_hops, cause]
                if count:
                    counts[cause] = count
            groups[hops_name(num_hops)] = counts
        return groups


def _passed_steps(row: Analysis) -> list[FunnelStep]:
    """List the steps of the funnel that a row passes."""
    steps = [FunnelStep.SAMPLED]
    if row.stop_reason not in _ANSWERED:
        return steps
    steps.append(FunnelStep.ANSWERED)
    causes = {finding.cause for finding in row.contributing}
    is_malformed = row.cause in _MALFORMED or not causes.isdisjoint(_MALFORMED)
    if row.verdict is Verdict.NO_ANSWER or is_malformed:
        return steps
    steps.append(FunnelStep.WELL_FORMED)
    if row.verdict is Verdict.CORRECT:
        steps.append(FunnelStep.CORRECT)
    return steps


def hops_name(num_hops: int | None) -> str:
    """Write a number of hops for people; None: it is not known."""
    if num_hops is None:
        return "hops not known"
    return "1 hop" if num_hops == 1 else f"{num_hops} hops"
