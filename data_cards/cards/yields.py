"""Count what became of the rows of a run.

The funnel of a set, what its rollouts cost, why rollouts failed, and what the screen found. The
files of `curate.screen` and `curate.analyse` are read where they exist. All others must exist.
"""

from collections.abc import Iterable
from typing import NamedTuple

import polars as pl

from coa.files import (
    ANALYSED,
    DROPPED,
    EVALUATION_SETS,
    EXCLUDED,
    FORKS,
    GRADED,
    KEPT,
    PAIRS,
    POINTS,
    QUESTIONS,
)
from coa.points import PointOutcome
from coa.policy.chat.families import ForkWay
from data_cards.catalogue import SetName
from data_cards.facts import collect, scan


class Count(NamedTuple):
    """The number of rows that share a value."""

    value: str
    rows: int


class Imported(NamedTuple):
    """How many rows others made, with one model, origin and licence."""

    model: str
    origin: str
    """Who published them; empty where nobody says it."""
    licence: str
    """Empty where nobody says it."""
    rows: int


class Funnel(NamedTuple):
    """The fate of the rows that could have entered a set."""

    unit: str
    """What a row is, in the plural."""
    first: int
    """Rows before anything was left out."""
    losses: tuple[Count, ...]
    """Rows that went no further, by reason, in the order of the stages."""
    pool: int
    """Rows that were good enough for the set; it takes as many of them as it was asked for."""


class Cost(NamedTuple):
    """The amount of something that the rollouts of a set took in all."""

    what: str
    total: int


class EvaluationSetOverlap(NamedTuple):
    """The number of rows that the screen left out because they touch an evaluation set."""

    name: str
    num_questions: int
    """Questions of the evaluation set that were compared."""
    left_out: int


def funnel(name: SetName) -> Funnel:
    """Count how many rows could have entered a set and what became of them.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    if name is SetName.COT_A:
        start = _pair_funnel()
    elif name is SetName.RL:
        start = _question_funnel()
    else:
        start = _trajectory_funnel(name)
    screened = [Count(f"screen: {loss.value}", loss.rows) for loss in excluded(name)]
    losses = (*start.losses, *screened)
    pool = start.first - total_rows(losses)
    return Funnel(unit=start.unit, first=start.first, losses=losses, pool=pool)


class _FunnelStart(NamedTuple):
    """A funnel up to the screen."""

    unit: str
    first: int
    losses: list[Count]


def _trajectory_funnel(mode: SetName) -> _FunnelStart:
    mode_of_kept = pl.col("trajectory").struct.field("mode")
    kept = scan(KEPT, ["trajectory"]).filter(mode_of_kept == str(mode))
    mode_of_dropped = pl.col("row").struct.field("trajectory").struct.field("mode")
    dropped = scan(DROPPED, ["reason", "row"]).filter(mode_of_dropped == str(mode))
    losses = counts(dropped, "reason")
    first = _num_rows(kept) + total_rows(losses)
    return _FunnelStart("trajectories", first, losses)


def _pair_funnel() -> _FunnelStart:
    points = scan(POINTS, ["outcome"])
    outcomes = counts(points, "outcome")
    losses = [count for count in outcomes if count.value != PointOutcome.PAIRED]
    return _FunnelStart("points", _num_rows(points), losses)


class ChosenPoints(NamedTuple):
    """The points that were chosen in one way, and those of them that gave a pair."""

    way: str
    points: int
    paired: int


def chosen_points() -> list[ChosenPoints]:
    """Count the points by the way in which they were chosen; empty for an older file.

    Raises:
        InputError: the file of the points is missing or broken.
    """
    points = scan(POINTS, ["outcome"])
    if "chosen_by" not in points.collect_schema():
        return []
    is_paired = pl.col("outcome") == str(PointOutcome.PAIRED)
    grouped = points.group_by("chosen_by").agg(points=pl.len(), paired=is_paired.sum())
    return [ChosenPoints(*row) for row in collect(grouped.sort("chosen_by")).iter_rows()]


def has_turn_forks() -> bool:
    """Return whether a chat policy forked some points, turn by turn.

    Raises:
        InputError: the file of the points is missing or broken.
    """
    points = scan(POINTS, ["outcome"])
    if "way" not in points.collect_schema():  # an older file
        return False
    return bool(_num_rows(points.filter(pl.col("way") != ForkWay.TEXT)))


def _question_funnel() -> _FunnelStart:
    questions = scan(QUESTIONS, ["question_id", "split"]).filter(pl.col("split") == "train")
    question_id = pl.col("trajectory").struct.field("question_id")
    sampled = scan(GRADED, ["trajectory"]).select(question_id).unique()
    left = questions.join(sampled, on="question_id", how="anti")
    first = _num_rows(questions)
    losses = [Count("sampled_for_trajectories", first - _num_rows(left))]
    return _FunnelStart("train questions", first, losses)


def excluded(name: SetName) -> list[Count]:
    """Count the rows that the screen left out of a set, by reason; none where it has not run.

    Raises:
        InputError: the screen's file is broken or lacks a column.
    """
    if not EXCLUDED.exists():
        return []
    what = pl.col("what")
    if name is SetName.COT_A:
        belongs = what == "pair"
    elif name is SetName.RL:
        belongs = what == "question"
    else:
        # A trajectory's id is {question}/{mode}/{index}.
        mode = pl.col("row_id").str.split("/").list.get(-2, null_on_oob=True)
        belongs = (what == "trajectory") & (mode == str(name))
    return counts(scan(EXCLUDED, ["row_id", "what", "reason"]).filter(belongs), "reason")


def evaluation_overlaps(name: SetName) -> list[EvaluationSetOverlap] | None:
    """Read how many rows touch each evaluation set; None where nothing was screened.

    Those rows were left out: none of them is in the set.

    Raises:
        InputError: the screen's file is broken or lacks a column.
    """
    if not EVALUATION_SETS.exists():
        return None
    if name is SetName.COT_A:
        left_out = "num_pairs"
    elif name is SetName.RL:
        left_out = "num_train_questions"
    else:
        left_out = "num_trajectories"
    columns = ["name", "num_questions", left_out]
    found = collect(scan(EVALUATION_SETS, columns).select(columns))
    return [EvaluationSetOverlap(*row) for row in found.iter_rows()]


def costs(name: SetName, *, has_forkers: bool = False) -> list[Cost]:
    """Add up what the teacher, or another model that wrote forks, and the search did for a set.

    Counted is what a fresh run pays: calls and tokens of every rollout that could have entered the
    set, the dropped ones included and the imported ones not. Retries, cached prefixes and prices
    depend on the provider and are not known here.

    Returns:
        Nothing for questions, which cost nothing, where the rollouts are not here, and where all
        were imported.

    Raises:
        InputError: a file is broken or lacks a column.
    """
    path = FORKS if name is SetName.COT_A else GRADED
    if name is SetName.RL or not path.exists():
        return []
    rows = scan(path, ["trajectory"])
    fields = rows.collect_schema()["trajectory"].fields  # type: ignore[attr-defined]
    known = {field.name for field in fields}
    if "num_calls" not in known:
        return []
    rollout = pl.col("trajectory").struct
    if "sampling" in known:
        sampling = rollout.field("sampling").struct
        rows = rows.filter((sampling.field("temperature") >= 0) | (sampling.field("seed") >= 0))
    if name is not SetName.COT_A:
        rows = rows.filter(rollout.field("mode") == str(name))
    prompt_tokens = rollout.field("num_prompt_tokens")
    read_tokens = prompt_tokens + rollout.field("num_environment_tokens")
    is_observation = pl.element().struct.field("kind") == "observation"
    num_searches = rollout.field("steps").list.eval(is_observation).list.sum()
    writer = "model that wrote the forks" if has_forkers else "teacher"
    totals = {
        "rollouts": pl.len(),
        f"calls of the {writer}": rollout.field("num_calls").sum(),
        "tokens that it wrote": rollout.field("num_policy_tokens").sum(),
        "tokens of prompts and search results, each counted once": read_tokens.sum(),
    }
    if name is not SetName.COT_A:
        # A fork's steps include those of its prefix, which its parent paid for.
        totals["searches"] = num_searches.sum()
    found = collect(rows.select(**totals)).row(0, named=True)
    if not found["rollouts"]:
        return []
    return [Cost(what, int(total or 0)) for what, total in found.items()]


def causes(mode: SetName) -> list[Count] | None:
    """Count why trajectories of a mode failed; None where nothing was analysed.

    Raises:
        InputError: the analysis is broken or lacks a column.
    """
    if not ANALYSED.exists():
        return None
    has_failed = (pl.col("mode") == str(mode)) & pl.col("cause").is_not_null()
    return counts(scan(ANALYSED, ["mode", "cause"]).filter(has_failed), "cause")


def imported(frame: pl.LazyFrame) -> list[Imported]:
    """Count the imported rows of a set by who made them, the most frequent first."""
    rows = frame.filter("is_imported")
    grouped = rows.group_by("model", "origin", "license").agg(rows=pl.len())
    ordered = grouped.sort(-pl.col("rows").cast(int), "model", "origin", "license")
    return [Imported(*row) for row in collect(ordered).iter_rows()]


def pair_kinds() -> list[Count]:
    """Count all pairs of the run by kind."""
    return counts(scan(PAIRS, ["kind"]), "kind")


def counts(frame: pl.LazyFrame, column: str) -> list[Count]:
    """Count rows by the value of a column, the most frequent first; null counts as empty."""
    value = pl.col(column).cast(pl.String).fill_null("")
    grouped = frame.group_by(value=value).len()
    rows = collect(grouped.sort(["len", "value"], descending=[True, False]))
    return [Count(*row) for row in rows.iter_rows()]


def total_rows(found: Iterable[Count]) -> int:
    """Add up the rows of all values."""
    return sum(count.rows for count in found)


def _num_rows(frame: pl.LazyFrame) -> int:
    return int(collect(frame.select(pl.len())).item())
