"""Write the outcomes of forks, and count them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.trajectory import StopReason
from coa.rollout.points import Point, PointOutcome
from coa.store import tables
from coa.store.metrics import rate, stop_reason_counts


@dataclass(slots=True)
class Totals:
    """The counts of a run."""

    counts: Counter[str] = field(default_factory=Counter)
    """Points by outcome, and pairs by kind."""
    stop_reasons: Counter[StopReason] = field(default_factory=Counter)
    """Continuations by stop reason."""
    num_pairs: int = 0
    num_worths: int = 0
    """Points where the worth of acting was estimated."""
    sum_worths: float = 0.0
    costs: Mapping[str, float | None] = field(default_factory=dict)
    """What the continuations cost, whenever it was paid."""
    server: Mapping[str, object] = field(default_factory=dict)
    """What the teacher's server was seen to do, as metrics."""

    def metrics(self) -> dict[str, object]:
        """Return the counts for the metrics of the stage."""
        found: dict[str, object] = {}
        for name in (*PairKind, *PointOutcome):
            found[str(name)] = self.counts[name]
        return found

    def worth_metrics(self) -> dict[str, object]:
        """Return what both arms took, and what acting is worth on average, for the metrics."""
        num_continuations = self.stop_reasons.total()
        return {
            "continuations": num_continuations,
            "continuations_per_pair": rate(num_continuations, self.num_pairs),
            "mean_worth": round(self.sum_worths / max(self.num_worths, 1), 4),
        }

    def endings(self) -> dict[str, object]:
        """Return how the continuations ended, and what they cost, for the metrics."""
        stop_reasons = stop_reason_counts(self.stop_reasons)
        return {"stop_reasons": stop_reasons, "costs": self.costs, **self.server}


class ResultWriter:
    """A writer of pairs, continuations and points that counts them."""

    def __init__(
        self, pairs: tables.TableWriter, forks: tables.TableWriter, points: tables.TableWriter
    ) -> None:
        self.totals = Totals()
        self.pairs = pairs
        self.points = points
        self._forks = forks

    def write_fork(self, row: GradedTrajectory) -> None:
        """Write a continuation."""
        self._forks.write(row)
        self.totals.stop_reasons[row.trajectory.stop_reason] += 1

    def write_point(self, point: Point, pair: PreferencePair | None) -> None:
        """Write the outcome of a point."""
        self.points.write(point)
        self.totals.counts[point.outcome] += 1
        if point.worth is not None:
            self.totals.num_worths += 1
            self.totals.sum_worths += point.worth.value
        if pair is not None:
            self.totals.num_pairs += 1
            self.pairs.write(pair)
            self.totals.counts[pair.kind] += 1
