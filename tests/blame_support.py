"""Write graded trajectories with their analyses, and choose by them what to fork."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coa.records import protocol
from coa.records.causes import Analysis
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Step
from coa.rollout.forks import BranchParams, PointChoice
from coa.store import tables
from curate.analyse import analyse
from curate.diagnosis.rules import Context
from curate.forks.blamed_points import read_blamed
from curate.forks.choice import Fork, forks_of
from curate.forks.point_scores import PointScores, doubt_in_words
from tests.causes_support import BRIDGE, CORPUS

BLAME = BranchParams(points=PointChoice.BLAME)


def named(row: GradedTrajectory, name: str) -> GradedTrajectory:
    """Give a row its own trajectory id."""
    return replace(row, trajectory=replace(row.trajectory, trajectory_id=name))


def analysed(row: GradedTrajectory) -> Analysis:
    """Apply the rules to a row."""
    return analyse(row, BRIDGE, Context(CORPUS))


def write(
    folder: Path, rows: Sequence[GradedTrajectory], analyses: Sequence[Analysis] | None = None
) -> tuple[Path, Path]:
    """Write rows and their analyses, and return both paths."""
    graded = folder / "grade.parquet"
    path = folder / "analyse.parquet"
    tables.write_table(graded, GradedTrajectory, rows)
    tables.write_table(path, Analysis, analyses or [analysed(row) for row in rows])
    return graded, path


def forks_by_blame(
    folder: Path,
    row: GradedTrajectory,
    params: BranchParams = BLAME,
    analysis: Analysis | None = None,
) -> list[Fork]:
    """Choose the points of one row by what its analysis blames."""
    _, path = write(folder, [row], [analysis] if analysis else None)
    blamed = read_blamed(path, {row.trajectory.trajectory_id})
    return forks_of(row, params, scores=PointScores(blamed, doubt_in_words))


def text_before(steps: Sequence[Step], point: int) -> str:
    """Return the last sentence before a point."""
    return protocol.render(steps)[:point].rsplit(". ", 1)[-1]
