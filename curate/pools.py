"""Collect the rows from which a set may be chosen, with what decides how they are spread.

What curate.screen excluded and what reviewers left out is not among them.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from coa.records.exclusions import RowKind
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


def let_in(mode: Mode, revision: Revision) -> list[GradedTrajectory]:
    """List the trajectories of a mode that reviewers let in."""
    return [row for row in revision.let_in.values() if row.trajectory.mode is mode]


def trajectory_pool(path: Path, mode: Mode, excluded: Path, revision: Revision) -> Pool:
    """Collect the trajectories of one mode, those that reviewers let in included.

    Their strata are the number of hops, the number of actions and the question type.
    """
    field = pl.col("trajectory").struct.field
    rows = (
        pl.scan_parquet(path)
        .filter(field("mode") == mode)
        .select(
            field("trajectory_id"),
            field("question_id"),
            "num_hops",
            field("num_actions"),
            "question_type",
        )
    )
    more: list[Candidate] = []
    for row in let_in(mode, revision):
        trajectory = row.trajectory
        stratum = (row.num_hops, trajectory.num_actions, row.question_type)
        more.append(Candidate(trajectory.trajectory_id, trajectory.question_id, (), stratum))
    return _pool(rows, excluded, RowKind.TRAJECTORY, revision.left_out, more)


def pair_pool(path: Path, graded: Path, excluded: Path, revision: Revision) -> Pool:
    """Collect the pairs.

    The two kinds of pair are groups of equal size, as far as each reaches. The strata are the
    number of hops and the type of the question.
    """
    field = pl.col("trajectory").struct.field
    questions = pl.scan_parquet(graded).select(
        "num_hops", "question_type", trajectory_id=field("trajectory_id")
    )
    pairs = pl.scan_parquet(path).select("pair_id", "question_id", "trajectory_id", "kind")
    rows = pairs.join(questions, on="trajectory_id", how="left").select(
        "pair_id", "question_id", "num_hops", "question_type", "kind"
    )
    pool = _pool(rows, excluded, RowKind.PAIR, revision.left_out)
    candidates: list[Candidate] = []
    for candidate in pool.candidates:
        *stratum, kind = candidate.stratum
        if candidate.row_id in revision.flipped:
            kind = other_kind(PairKind(str(kind)))
        candidates.append(candidate._replace(group=(kind,), stratum=tuple(stratum)))
    return pool._replace(candidates=candidates)


def question_pool(path: Path, graded: Path, excluded: Path) -> Pool:
    """Collect the train questions that no trajectory was sampled for.

    The strata are the number of hops and the question type.
    """
    question_id = pl.col("trajectory").struct.field("question_id")
    sampled = pl.scan_parquet(graded).select(question_id=question_id).unique()
    train = pl.scan_parquet(path).filter(pl.col("split") == "train")
    rows = train.join(sampled, on="question_id", how="anti").sort("question_id")
    columns = rows.select(
        "question_id", pl.col("question_id").alias("own"), "num_hops", "question_type"
    )
    return _pool(columns, excluded, RowKind.QUESTION, frozenset())


def _pool(
    rows: pl.LazyFrame,
    excluded: Path,
    what: RowKind,
    left_out: Collection[str],
    more: Sequence[Candidate] = (),
) -> Pool:
    """Make a pool of rows and of `more` candidates, without what the screen and reviewers took.

    The columns of `rows` are the id of the row, that of its question, and its stratum.
    """
    own = rows.collect_schema().names()[0]
    found = tables.scan(excluded, ["row_id", "what", "reason"])
    taken = found.filter(pl.col("what") == what).select("row_id", "reason")
    taken_here = taken.join(rows, left_on="row_id", right_on=own, how="semi")
    reasons = taken_here.group_by("reason").len().sort("reason").collect()
    left = rows.join(taken, left_on=own, right_on="row_id", how="anti", maintain_order="left")
    candidates: list[Candidate] = []
    for row_id, question_id, *stratum in left.collect().iter_rows():
        candidates.append(Candidate(row_id, question_id, group=(), stratum=tuple(stratum)))
    candidates += more
    kept = [candidate for candidate in candidates if candidate.row_id not in left_out]
    return Pool(kept, dict(reasons.iter_rows()), len(candidates) - len(kept))


def count_drops(path: Path, mode: Mode) -> dict[str, int]:
    """Count the trajectories of a mode that curate.filter dropped, by reason."""
    mode_of_row = pl.col("row").struct.field("trajectory").struct.field("mode")
    rows = tables.scan(path, ["reason", "row"]).filter(mode_of_row == mode)
    return dict(rows.group_by("reason").len().sort("reason").collect().iter_rows())
