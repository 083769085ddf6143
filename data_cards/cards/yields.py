"""The files of a run to a set's funnel: how many rows there were at first, what became of them, how many are left.

The files of `curate.screen` and `curate.analyse` are read where they are there; all others must be.
"""

from collections.abc import Callable
from typing import NamedTuple

import polars as pl

from coa.files import ANALYSED, DROPPED, EXCLUDED, GRADED, KEPT, PAIRS, POINTS, QUESTIONS
from coa.points import PointOutcome
from data_cards.catalogue import SetName
from data_cards.facts import collect, scan


class Count(NamedTuple):
    """How many rows share a value."""

    value: str
    rows: int


class Funnel(NamedTuple):
    """What became of the rows that could have entered a set."""

    unit: str
    first: int
    """Rows before anything was left out."""
    losses: tuple[Count, ...]
    """Rows that went no further, by reason, in the order of the stages."""
    pool: int
    """Rows that were good enough for the set; it takes as many of them as it was asked for."""


def funnel(name: SetName) -> Funnel:
    """The funnel of a set.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    make = {SetName.COT_A: _pair_funnel, SetName.RL: _question_funnel}.get(name)
    unit, first, losses = make() if make else _trajectory_funnel(name)
    screened = [Count(f"screen: {loss.value}", loss.rows) for loss in excluded(name)]
    losses = [*losses, *screened]
    return Funnel(unit, first, tuple(losses), first - sum(loss.rows for loss in losses))


_Start = tuple[str, int, list[Count]]


def _trajectory_funnel(mode: SetName) -> _Start:
    kept = scan(KEPT, ["trajectory"]).filter(pl.col("trajectory").struct.field("mode") == str(mode))
    of_mode = pl.col("row").struct.field("trajectory").struct.field("mode") == str(mode)
    losses = counts(scan(DROPPED, ["reason", "row"]).filter(of_mode), "reason")
    return "trajectories", _num_rows(kept) + sum(loss.rows for loss in losses), losses


def _pair_funnel() -> _Start:
    points = scan(POINTS, ["outcome"])
    losses = [count for count in counts(points, "outcome") if count.value != PointOutcome.PAIRED]
    return "points", _num_rows(points), losses


def _question_funnel() -> _Start:
    questions = scan(QUESTIONS, ["question_id", "split"]).filter(pl.col("split") == "train")
    sampled = (
        scan(GRADED, ["trajectory"])
        .select(pl.col("trajectory").struct.field("question_id"))
        .unique()
    )
    left = questions.join(sampled, on="question_id", how="anti")
    first = _num_rows(questions)
    return "train questions", first, [Count("sampled_for_trajectories", first - _num_rows(left))]


_BELONGS: dict[SetName, Callable[[], pl.Expr]] = {
    SetName.COT_A: lambda: pl.col("what") == "pair",
    SetName.RL: lambda: pl.col("what") == "question",
}


def excluded(name: SetName) -> list[Count]:
    """Rows that the screen left out of a set, by reason; none where it has not run.

    Raises:
        InputError: the screen's file is broken or lacks a column.
    """
    if not EXCLUDED.exists():
        return []
    # A trajectory's id is {question}/{mode}/{index}.
    mode = pl.col("row_id").str.split("/").list.get(-2, null_on_oob=True)
    is_mine = _BELONGS.get(name, lambda: (pl.col("what") == "trajectory") & (mode == str(name)))
    return counts(scan(EXCLUDED, ["row_id", "what", "reason"]).filter(is_mine()), "reason")


def causes(mode: SetName) -> list[Count] | None:
    """Why trajectories of a mode failed; None where nothing was analysed.

    Raises:
        InputError: the analysis is broken or lacks a column.
    """
    if not ANALYSED.exists():
        return None
    failed = scan(ANALYSED, ["mode", "cause"]).filter(
        (pl.col("mode") == str(mode)) & pl.col("cause").is_not_null()
    )
    return counts(failed, "cause")


def pair_kinds() -> list[Count]:
    """All pairs of the run by kind."""
    return counts(scan(PAIRS, ["kind"]), "kind")


def counts(frame: pl.LazyFrame, column: str) -> list[Count]:
    """Rows by value of a column, the most frequent first; null counts as an empty value."""
    value = pl.col(column).cast(pl.String).fill_null("")
    rows = collect(
        frame.group_by(value=value).len().sort(["len", "value"], descending=[True, False])
    )
    return [Count(*row) for row in rows.iter_rows()]


def _num_rows(frame: pl.LazyFrame) -> int:
    return int(collect(frame.select(pl.len())).item())
