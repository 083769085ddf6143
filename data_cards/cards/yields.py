"""Show the outcome of a run's rows: the funnel of a set, its costs, failures, and the screen.

The files of `coa screen` and `coa analyse` are read where they exist. All others must exist.
"""

import json
from typing import Any, NamedTuple

import msgspec
import polars as pl

from coa.errors import InputError
from coa.policy.chat.families import ForkWay
from coa.records.exclusions import RowKind
from coa.rollout.points import PointOutcome
from coa.store import tables
from coa.store.files import (
    ANALYSED,
    DROPPED,
    EVALUATION_SETS,
    EXCLUDED,
    GRADED,
    KEPT,
    POINTS,
    QUESTIONS,
)
from coa.store.metrics import FOLDER
from data_cards.cards.contents import count_table
from data_cards.cards.safe_markdown import Cell, Markdown, frame_table, share, table, words
from data_cards.cards.sources import counts
from data_cards.catalogue import HAS_TRAJECTORIES, SetName
from data_cards.facts import collect

_STAGES = {SetName.COT: "sample_cot", SetName.COA: "sample_coa", SetName.COT_A: "branch"}
"""The stage that paid for a set; questions cost nothing."""


class Paid(msgspec.Struct, frozen=True):
    """What the calls behind a set came to, dropped rows included."""

    context_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    reasoning_tokens: int = 0
    search_requests: int = 0
    dollars: float | None = None


def read_paid(name: SetName) -> Paid | None:
    """Read what the calls behind a set came to; None where that is not known, or they were free.

    Raises:
        InputError: the figures cannot be read.
    """
    path = FOLDER / f"{_STAGES.get(name, '')}.json"
    if not path.exists():
        return None
    try:
        figures: dict[str, Any] = json.loads(path.read_bytes())
        costs = msgspec.convert(figures.get("costs"), Paid | None)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", got=error, fix="dvc repro") from error
    return costs if costs and costs.written_tokens else None


class Funnel(NamedTuple):
    """The fate of the rows that could have entered a set."""

    unit: str
    """What a row is, in the plural."""
    first: int
    """Rows before anything was left out."""
    losses: tuple[tuple[Markdown, int], ...]
    """Rows that went no further, by reason, in the order of the stages."""
    pool: int
    """Rows that were good enough for the set; it takes as many of them as it was asked for."""


def yields(name: SetName, num_rows: int) -> dict[str, Any]:
    """Make what the template says of the yield of a set, which has so many rows."""
    lost = funnel(name)
    overlaps = evaluation_overlaps(name)
    found: dict[str, Any] = {
        "funnel": funnel_table(lost, num_rows),
        "num_pool": lost.pool,
        "paid": read_paid(name) if lost.pool else None,
        "is_screened": EXCLUDED.exists(),
        "lists_evaluation_sets": overlaps is not None,
        "is_compared": overlaps is not None and any(overlaps["questions compared"]),
        "contamination": "" if overlaps is None else frame_table(overlaps),
        "causes": None,
        "has_turn_forks": False,
    }
    if name is SetName.COT_A:
        points = tables.scan(POINTS, ["outcome"])
        if "way" in points.collect_schema():  # older files do not say
            by_turn = points.filter(pl.col("way") != ForkWay.TEXT)
            found["has_turn_forks"] = _num_rows(by_turn) > 0
    if name in HAS_TRAJECTORIES and ANALYSED.exists():
        has_failed = (pl.col("mode") == str(name)) & pl.col("cause").is_not_null()
        causes = counts(tables.scan(ANALYSED, ["mode", "cause"]).filter(has_failed), "cause")
        found["causes"] = count_table(causes, words)
        found["num_failed"] = causes["rows"].sum()
    return found


def funnel(name: SetName) -> Funnel:
    """Count how many rows could have entered a set, and their outcomes."""
    what = pl.col("what")
    if name is SetName.COT_A:
        unit = "points"
        belongs = what == RowKind.PAIR
        outcomes = counts(tables.scan(POINTS, ["outcome"]), "outcome")
        first = int(outcomes["rows"].sum())
        lost = outcomes.filter(pl.col("outcome") != str(PointOutcome.PAIRED))
    elif name is SetName.RL:
        unit = "train questions"
        belongs = what == RowKind.QUESTION
        questions = tables.scan(QUESTIONS, ["question_id", "split"]).filter(
            pl.col("split") == "train"
        )
        question_id = pl.col("trajectory").struct.field("question_id")
        sampled = tables.scan(GRADED, ["trajectory"]).select(question_id).unique()
        first = _num_rows(questions)
        left = _num_rows(questions.join(sampled, on="question_id", how="anti"))
        lost = pl.DataFrame({"reason": ["sampled_for_trajectories"], "rows": [first - left]})
    else:
        unit = "trajectories"
        # A trajectory's id is {question}/{mode}/{index}.
        mode = pl.col("row_id").str.split("/").list.get(-2, null_on_oob=True)
        belongs = (what == RowKind.TRAJECTORY) & (mode == str(name))
        mode_of_kept = pl.col("trajectory").struct.field("mode")
        kept = tables.scan(KEPT, ["trajectory"]).filter(mode_of_kept == str(name))
        mode_of_dropped = pl.col("row").struct.field("trajectory").struct.field("mode")
        dropped = tables.scan(DROPPED, ["reason", "row"]).filter(mode_of_dropped == str(name))
        lost = counts(dropped, "reason")
        first = _num_rows(kept) + int(lost["rows"].sum())
    losses = [(words(reason), rows) for reason, rows in lost.iter_rows()]
    if EXCLUDED.exists():
        screened = tables.scan(EXCLUDED, ["row_id", "what", "reason"]).filter(belongs)
        for reason, rows in counts(screened, "reason").iter_rows():
            losses.append((Markdown(f"screen: {words(reason)}"), rows))
    pool = first - sum(rows for _, rows in losses)
    return Funnel(unit, first, tuple(losses), pool)


def _num_rows(frame: pl.LazyFrame) -> int:
    return int(collect(frame.select(pl.len())).item())


def funnel_table(found: Funnel, num_taken: int) -> Markdown:
    """List every loss of a funnel with its share of the first row."""
    lines = [(Markdown(f"**{found.unit}**"), found.first)]
    lines += [(Markdown(f"left out: {reason}"), rows) for reason, rows in found.losses]
    lines.append((Markdown("**good enough for this set**"), found.pool))
    lines.append((Markdown("**in this set**"), num_taken))
    rows: list[list[Cell]] = [[what, num, share(num, found.first)] for what, num in lines]
    return table(("", "rows", "share"), rows)


def evaluation_overlaps(name: SetName) -> pl.DataFrame | None:
    """Read how many rows touch each evaluation set; None where nothing was screened.

    Those rows were left out: none of them is in the set.
    """
    if not EVALUATION_SETS.exists():
        return None
    column = "num_trajectories"
    unit = "trajectories of both modes"
    if name is SetName.COT_A:
        column = "num_pairs"
        unit = "pairs"
    elif name is SetName.RL:
        column = "num_train_questions"
        unit = "questions"
    found = tables.scan(EVALUATION_SETS, ["name", "num_questions", column]).select(
        pl.col("name").alias("evaluation set"),
        pl.col("num_questions").alias("questions compared"),
        pl.col(column).alias(f"{unit} that touch it, left out"),
    )
    return collect(found)
