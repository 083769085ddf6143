"""Count analysed rows and forked points for the error report.

Rows stream through; only the counts, one key for each rollout and the worth of each point stay in
memory.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import polars as pl

from coa.records.causes import Analysis, Cause
from coa.records.grading import Verdict
from coa.records.pairs import Arm
from coa.records.trajectory import FORCED_STOPS, Mode, StopReason
from coa.rollout.points import Point, PointOutcome
from coa.store import tables
from curate.reports.examples import shorten

CONFIDENCE = 0.95
"""Of the intervals of means."""
_NUM_RESAMPLES = 2_000
_RESAMPLES_AT_ONCE = 100
"""Bounds the memory of the bootstrap: so many copies of the worths are held at a time."""
_NAME_CHARS = 60
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
        known = {num_hops for row_mode, num_hops, _ in self.by_hops if row_mode is mode}
        groups: dict[str, dict[Cause, int]] = {}
        for num_hops in sorted(known, key=_hops_rank):
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


def _hops_rank(num_hops: int | None) -> tuple[bool, int]:
    """Put numbers of hops in their order, and those that are not known last."""
    return num_hops is None, num_hops or 0


class MeanWorth(NamedTuple):
    """The mean worth of acting over a group of points."""

    name: str
    num_points: int
    mean: float
    low: float
    high: float
    """Of a bootstrap interval over the points; for a lone point both bounds are its worth."""


class Origin(NamedTuple):
    """The points of one origin, and how many of them gave a pair."""

    name: str
    num_points: int
    num_paired: int


@dataclass(slots=True)
class PointTallies:
    """The counts of the forked points of a run.

    Points with a measured worth have continuations of both arms. At the others one arm alone was
    continued, and the parent is the only sample of its own: they count in `quadrants`.
    """

    outcomes: Counter[tuple[str, PointOutcome]] = field(default_factory=Counter)
    """Points by the way in which they were chosen, and by outcome."""
    causes: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Points by the cause that is blamed there, and by whether they gave a pair."""
    worths_by_cause: dict[str, list[float]] = field(default_factory=dict)
    """Measured worths of acting, by the cause that is blamed at the point. A point counts where
    both arms have a continuation that ended soundly."""
    worths_by_hops: dict[int | None, list[float]] = field(default_factory=dict)
    """By the number of facts that the question joins; None where it is not known."""
    worths_by_tool: dict[str, list[float]] = field(default_factory=dict)
    prices: set[float] = field(default_factory=set)
    """What a search took from the worth, in shares of a right answer."""
    quadrants: Counter[ArmOutcomes] = field(default_factory=Counter)
    """How thinking and acting ended, for each continuation beside its parent."""

    def add(self, point: Point, num_hops: int | None) -> None:
        """Count a point of a parent whose question joins so many facts; None: not known."""
        cause = shorten(point.cause, _NAME_CHARS)
        self.outcomes[shorten(point.chosen_by, _NAME_CHARS), point.outcome] += 1
        self.causes[cause, point.outcome is PointOutcome.PAIRED] += 1
        if point.worth is None:
            # One arm alone was continued.
            num_wrong = point.num_continuations - point.num_correct
            self.quadrants[_outcomes(point, is_right=True)] += point.num_correct
            self.quadrants[_outcomes(point, is_right=False)] += num_wrong
            return
        if not point.worth.act.num or not point.worth.think.num:
            return  # Of one arm nothing is known, so the difference is no estimate.
        self.prices.add(point.worth.price)
        worth = point.worth.value
        self.worths_by_cause.setdefault(cause, []).append(worth)
        self.worths_by_hops.setdefault(num_hops, []).append(worth)
        self.worths_by_tool.setdefault(shorten(point.tool, _NAME_CHARS), []).append(worth)

    @property
    def num_points(self) -> int:
        """Count all points."""
        return self.outcomes.total()

    @property
    def num_measured(self) -> int:
        """Count the points at which the worth of acting was measured."""
        return sum(len(worths) for worths in self.worths_by_tool.values())

    @property
    def ways(self) -> list[str]:
        """List the ways in which points were chosen, sorted."""
        return sorted({way for way, _ in self.outcomes})

    def num_chosen(self, way: str) -> int:
        """Count the points that were chosen in a way."""
        return sum(self.outcomes[way, outcome] for outcome in PointOutcome)

    def origins(self) -> list[Origin]:
        """List the blamed causes with their points and pairs, the most frequent first."""
        found: list[Origin] = []
        for cause in {cause for cause, _ in self.causes}:
            num_paired = self.causes[cause, True]
            num_points = num_paired + self.causes[cause, False]
            found.append(Origin(cause, num_points, num_paired))
        return sorted(found, key=lambda origin: (-origin.num_points, origin.name))


def most_frequent(worths: Mapping[str, Sequence[float]]) -> list[MeanWorth]:
    """Estimate the mean worth of acting in each group, those with the most points first."""
    found = [mean_worth(name, values) for name, values in worths.items()]
    return sorted(found, key=lambda group: (-group.num_points, group.name))


def in_order_of_hops(worths: Mapping[int | None, Sequence[float]]) -> list[MeanWorth]:
    """Estimate the mean worth of acting for each number of hops; those not known come last."""
    ordered = sorted(worths, key=_hops_rank)
    return [mean_worth(hops_name(num_hops), worths[num_hops]) for num_hops in ordered]


def _outcomes(point: Point, *, is_right: bool) -> ArmOutcomes:
    """Say how both arms ended where a continuation is right or not, and the parent as it is."""
    if point.arm is Arm.ACT:
        return ArmOutcomes(thinking=point.parent_is_correct, acting=is_right)
    return ArmOutcomes(thinking=is_right, acting=point.parent_is_correct)


def mean_worth(name: str, worths: Sequence[float]) -> MeanWorth:
    """Estimate the mean worth of a group of points, with its percentile bootstrap interval.

    Points of one trajectory count as independent.
    """
    mean = fmean(worths)
    if len(worths) == 1:
        return MeanWorth(name, 1, mean, mean, mean)
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (worths,),
        np.mean,
        n_resamples=_NUM_RESAMPLES,
        batch=_RESAMPLES_AT_ONCE,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=0,
    )
    interval = found.confidence_interval
    return MeanWorth(name, len(worths), mean, float(interval.low), float(interval.high))


def read_points(points: Path, analysed: Path) -> PointTallies:
    """Count the points of a file."""
    tallies = PointTallies()
    columns = tables.required_columns(Point)
    parents = tables.scan(points, columns).select(trajectory_id="parent_id")
    rows = pl.scan_parquet(analysed).select("trajectory_id", "num_hops")
    num_hops = dict(rows.join(parents, on="trajectory_id", how="semi").collect().iter_rows())
    for point in tables.read_table(points, Point):
        tallies.add(point, num_hops.get(point.parent_id))
    return tallies
