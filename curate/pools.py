"""Collect the rows from which a set may be chosen, with what decides how they are spread.

What curate.screen excluded and what reviewers left out is not among them.
"""

from pathlib import Path
from typing import NamedTuple

import polars as pl

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind
from coa.records.trajectory import Mode
from coa.store import tables
from curate.strata import Candidate
from curate.verdicts import Revision, other_kind


class Pool(NamedTuple):
    """The rows from which a set is chosen."""

    candidates: list[Candidate]
    screened: dict[str, int]
    """Numbers of rows that curate.screen took out, by reason."""
    num_reviewed_out: int = 0
    """Number of rows that reviewers took out."""


def screened(rows: pl.LazyFrame, excluded: Path, what: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """Take out the rows that curate.screen excluded.

    Args:
        rows: A table whose first column is the id of the row.
        excluded: The file that curate.screen wrote.
        what: The kind of the rows, as that file names it.

    Returns:
        The other rows, in their order, and the number of rows taken out for each reason.
    """
    columns = tables.open_parquet(excluded).schema_arrow.names
    tables.require_columns(excluded, columns, ["row_id", "what", "reason"])
    taken = pl.scan_parquet(excluded).filter(pl.col("what") == what).select("row_id", "reason")
    own = rows.collect_schema().names()[0]
    reasons = (
        taken.join(rows, left_on="row_id", right_on=own, how="semi")
        .group_by("reason")
        .len()
        .sort("reason")
    )
    left = rows.join(taken, left_on=own, right_on="row_id", how="anti", maintain_order="left")
    return left.collect(), dict(reasons.collect().iter_rows())


def trajectory_pool(path: Path, mode: Mode, excluded: Path, revision: Revision) -> Pool:
    """Collect the trajectories of one mode, those that reviewers let in included.

    Their strata are the number of hops, the number of actions and the question type.
    """
    field = pl.col("trajectory").struct.field
    rows = pl.scan_parquet(path).select(
        field("trajectory_id"),
        field("question_id"),
        field("mode"),
        "num_hops",
        field("num_actions"),
        "question_type",
    )
    left, reasons = screened(rows.filter(pl.col("mode") == mode), excluded, "trajectory")
    candidates: list[Candidate] = []
    for row_id, question_id, _, *stratum in left.iter_rows():
        candidates.append(
            Candidate(row_id=row_id, question_id=question_id, group=(), stratum=tuple(stratum))
        )
    for row in let_in(mode, revision):
        trajectory = row.trajectory
        candidates.append(
            Candidate(
                row_id=trajectory.trajectory_id,
                question_id=trajectory.question_id,
                group=(),
                stratum=(row.num_hops, trajectory.num_actions, row.question_type),
            )
        )
    return _without_left_out(candidates, reasons, revision)


def let_in(mode: Mode, revision: Revision) -> list[GradedTrajectory]:
    """List the trajectories of a mode that reviewers let in."""
    return [row for row in revision.let_in.values() if row.trajectory.mode is mode]


def _without_left_out(
    candidates: list[Candidate], reasons: dict[str, int], revision: Revision
) -> Pool:
    """Make a pool of the candidates that reviewers did not leave out."""
    left = [candidate for candidate in candidates if candidate.row_id not in revision.left_out]
    return Pool(left, reasons, num_reviewed_out=len(candidates) - len(left))


def pair_pool(path: Path, graded: Path, excluded: Path, revision: Revision) -> Pool:
    """Collect the pairs.

    The two kinds of pair are groups of equal size, as far as each reaches. The strata are the
    number of hops and the type of the question.
    """
    field = pl.col("trajectory").struct.field
    questions = pl.scan_parquet(graded).select(
        trajectory_id=field("trajectory_id"), hops="num_hops", type="question_type"
    )
    rows = pl.scan_parquet(path).select("pair_id", "question_id", "trajectory_id", "kind")
    joined = rows.join(questions, on="trajectory_id", how="left").select(
        "pair_id", "question_id", "kind", "hops", "type"
    )
    left, reasons = screened(joined, excluded, "pair")
    candidates: list[Candidate] = []
    for pair_id, question_id, kind, *stratum in left.iter_rows():
        if pair_id in revision.flipped:
            kind = other_kind(PairKind(kind))
        candidates.append(
            Candidate(
                row_id=pair_id, question_id=question_id, group=(kind,), stratum=tuple(stratum)
            )
        )
    return _without_left_out(candidates, reasons, revision)


def question_pool(path: Path, graded: Path, excluded: Path) -> Pool:
    """Collect the train questions that no trajectory was sampled for.

    The strata are the number of hops and the question type.
    """
    sampled = (
        pl.scan_parquet(graded)
        .select(question_id=pl.col("trajectory").struct.field("question_id"))
        .unique()
    )
    rows = (
        pl.scan_parquet(path)
        .filter(pl.col("split") == "train")
        .join(sampled, on="question_id", how="anti")
    )
    left, reasons = screened(
        rows.select("question_id", "num_hops", "question_type"), excluded, "question"
    )
    candidates: list[Candidate] = []
    for question_id, num_hops, question_type in left.sort("question_id").iter_rows():
        candidates.append(
            Candidate(
                row_id=question_id,
                question_id=question_id,
                group=(),
                stratum=(num_hops, question_type),
            )
        )
    return Pool(candidates, reasons)


def count_drops(path: Path, mode: Mode) -> dict[str, int]:
    """Count the trajectories of a mode that curate.filter dropped, by reason."""
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, ["reason", "row"])
    mode_of_row = pl.col("row").struct.field("trajectory").struct.field("mode")
    counted = (
        pl.scan_parquet(path).filter(mode_of_row == mode).group_by("reason").len().sort("reason")
    )
    return dict(counted.collect().iter_rows())
