"""Settle a fork by continuations that are there already, as `curate.branch` does."""

from collections.abc import Sequence
from typing import cast

from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm, PreferencePair
from coa.rollout.forks import BranchParams
from coa.rollout.points import Point
from coa.store.spool import Spool
from curate.forks.arms import Trial
from curate.forks.choice import Fork
from curate.forks.results import ResultWriter
from curate.forks.tasks import ForkRun


class _Kept:
    """Takes the place of the writer of results, and keeps what became of the point."""

    settled: tuple[Point, PreferencePair | None]

    def write_fork(self, row: GradedTrajectory) -> None:
        """Forget a continuation."""

    def write_point(self, point: Point, pair: PreferencePair | None) -> None:
        """Keep the point and its pair."""
        self.settled = point, pair


def settle_fork(
    fork: Fork, continuations: Sequence[GradedTrajectory], prompt: Prompt
) -> tuple[Point, PreferencePair | None]:
    """Tell what became of a fork of which the arm alone was continued that was not taken."""
    settings = BranchParams(num_continuations=len(continuations))
    run = ForkRun({Arm.ACT: prompt})
    found = _Kept()
    with Spool(Fork) as forks, Spool(GradedTrajectory) as kept:
        forks.put(0, fork)
        trial = Trial(forks, kept, settings, run, cast("ResultWriter", found))
        assert trial.begin_round(range(len(continuations))) == len(continuations)
        for row in continuations:
            trial.add(row)
    return found.settled
