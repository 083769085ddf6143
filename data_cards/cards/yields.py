"""Say what became of the rows of a run: the funnel of a set, its costs, failures, and the screen.

The files of `curate.screen` and `curate.analyse` are read where they exist. All others must exist.
"""

from typing import Any, NamedTuple

import polars as pl

from coa.policy.chat.families import ForkWay
from coa.rollout.points import PointOutcome
from coa.store.files import (
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
from data_cards.cards.contents import count_table
from data_cards.cards.figures import probe_table, read_figures
from data_cards.cards.safe_markdown import Cell, Markdown, frame_table, inline, share, table, words
from data_cards.cards.sources import counts
from data_cards.catalogue import HAS_TRAJECTORIES, SetName
from data_cards.facts import collect, scan


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


def yields(name: SetName, num_rows: int, *, has_forkers: bool) -> dict[str, Any]:
    """Make what the template says of the yield of a set.

    Args:
        name: The set.
        num_rows: Its rows.
        has_forkers: Whether other models than the teacher wrote forks of its pairs.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    lost = funnel(name)
    figures = read_figures(name)
    overlaps = evaluation_overlaps(name)
    found: dict[str, Any] = {
        "funnel": funnel_table(lost, num_rows),
        "num_pool": lost.pool,
        "costs": cost_table(name, lost.pool, has_forkers=has_forkers),
        "paid": figures.costs if figures.costs and figures.costs.written_tokens else None,
        "has_forkers": has_forkers,
        "probe": probe_table(figures.probe),
        "waived": ", ".join(inline(name) for name in figures.waived),
        "is_screened": EXCLUDED.exists(),
        "lists_evaluation_sets": overlaps is not None,
        "is_compared": overlaps is not None and any(overlaps["questions compared"]),
        "contamination": "" if overlaps is None else frame_table(overlaps),
        "causes": None,
    }
    if name is SetName.COT_A:
        kinds = counts(scan(PAIRS, ["kind"]), "kind").iter_rows()
        named = [f"{rows:,} are of the kind {inline(kind)}" for kind, rows in kinds]
        found["run_kinds"] = ", ".join(named)
        found |= _points()
    elif name in HAS_TRAJECTORIES and ANALYSED.exists():
        has_failed = (pl.col("mode") == str(name)) & pl.col("cause").is_not_null()
        causes = counts(scan(ANALYSED, ["mode", "cause"]).filter(has_failed), "cause")
        found["causes"] = count_table(causes, words)
        found["num_failed"] = causes["rows"].sum()
    return found


def funnel(name: SetName) -> Funnel:
    """Count how many rows could have entered a set and what became of them.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    if name is SetName.COT_A:
        unit = "points"
        outcomes = counts(scan(POINTS, ["outcome"]), "outcome")
        first = int(outcomes["rows"].sum())
        lost = outcomes.filter(pl.col("outcome") != str(PointOutcome.PAIRED))
    elif name is SetName.RL:
        unit = "train questions"
        questions = scan(QUESTIONS, ["question_id", "split"]).filter(pl.col("split") == "train")
        question_id = pl.col("trajectory").struct.field("question_id")
        sampled = scan(GRADED, ["trajectory"]).select(question_id).unique()
        first = _num_rows(questions)
        left = _num_rows(questions.join(sampled, on="question_id", how="anti"))
        lost = pl.DataFrame({"reason": ["sampled_for_trajectories"], "rows": [first - left]})
    else:
        unit = "trajectories"
        mode_of_kept = pl.col("trajectory").struct.field("mode")
        kept = scan(KEPT, ["trajectory"]).filter(mode_of_kept == str(name))
        mode_of_dropped = pl.col("row").struct.field("trajectory").struct.field("mode")
        dropped = scan(DROPPED, ["reason", "row"]).filter(mode_of_dropped == str(name))
        lost = counts(dropped, "reason")
        first = _num_rows(kept) + int(lost["rows"].sum())
    losses = [(words(reason), rows) for reason, rows in lost.iter_rows()]
    for reason, rows in _excluded(name).iter_rows():
        losses.append((Markdown(f"screen: {words(reason)}"), rows))
    pool = first - sum(rows for _, rows in losses)
    return Funnel(unit, first, tuple(losses), pool)


def _num_rows(frame: pl.LazyFrame) -> int:
    return int(collect(frame.select(pl.len())).item())


def _excluded(name: SetName) -> pl.DataFrame:
    """Count the rows that the screen left out of a set, by reason; none where it has not run."""
    if not EXCLUDED.exists():
        return pl.DataFrame()
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


def funnel_table(found: Funnel, num_taken: int) -> Markdown:
    """List every loss of a funnel with its share of the first row.

    Args:
        found: What became of the rows.
        num_taken: Rows that are in the set.
    """
    lines = [(Markdown(f"**{found.unit}**"), found.first)]
    lines += [(Markdown(f"left out: {reason}"), rows) for reason, rows in found.losses]
    lines.append((Markdown("**good enough for this set**"), found.pool))
    lines.append((Markdown("**in this set**"), num_taken))
    rows: list[list[Cell]] = [[what, num, share(num, found.first)] for what, num in lines]
    return table(("", "rows", "share"), rows)


def _points() -> dict[str, Any]:
    """Say how the points of all pairs of the run were chosen and forked; older files do not."""
    points = scan(POINTS, ["outcome"])
    known = points.collect_schema()
    found: dict[str, Any] = {"ways": "", "has_turn_forks": False}
    if "way" in known:
        found["has_turn_forks"] = _num_rows(points.filter(pl.col("way") != ForkWay.TEXT)) > 0
    if "chosen_by" in known:
        is_paired = pl.col("outcome") == str(PointOutcome.PAIRED)
        grouped = points.group_by("chosen_by").agg(points=pl.len(), paired=is_paired.sum())
        rows: list[list[Cell]] = []
        for way, num_points, num_paired in collect(grouped.sort("chosen_by")).iter_rows():
            rows.append([words(way), num_points, num_paired, share(num_paired, num_points)])
        if rows:
            found["ways"] = table(("points chosen by", "points", "gave a pair", "share"), rows)
    return found


def evaluation_overlaps(name: SetName) -> pl.DataFrame | None:
    """Read how many rows touch each evaluation set; None where nothing was screened.

    Those rows were left out: none of them is in the set.

    Raises:
        InputError: the screen's file is broken or lacks a column.
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
    found = scan(EVALUATION_SETS, ["name", "num_questions", column]).select(
        pl.col("name").alias("evaluation set"),
        pl.col("num_questions").alias("questions compared"),
        pl.col(column).alias(f"{unit} that touch it, left out"),
    )
    return collect(found)


def cost_table(name: SetName, num_kept: int, *, has_forkers: bool = False) -> Markdown:
    """List what the teacher, or another model that wrote forks, and the search did for a set.

    Counted is what a fresh run pays: calls and tokens of every rollout that could have entered the
    set, the dropped ones included and the imported ones not. Retries, cached prefixes and prices
    depend on the provider and are not known here. Empty for questions, which cost nothing, where
    the rollouts are not here, where all were imported, and where no row was kept.

    Args:
        name: The set.
        num_kept: Rows that are good enough for it.
        has_forkers: Whether other models than the teacher wrote forks.

    Raises:
        InputError: a file is broken or lacks a column.
    """
    path = FORKS if name is SetName.COT_A else GRADED
    if name is SetName.RL or not num_kept or not path.exists():
        return Markdown("")
    rows = scan(path, ["trajectory"]).select(pl.col("trajectory").struct.unnest())
    known = rows.collect_schema()
    if "num_calls" not in known:
        return Markdown("")
    if "sampling" in known:
        sampling = pl.col("sampling").struct
        rows = rows.filter((sampling.field("temperature") >= 0) | (sampling.field("seed") >= 0))
    writer = "model that wrote the forks" if has_forkers else "teacher"
    read_tokens = pl.col("num_prompt_tokens") + pl.col("num_environment_tokens")
    totals = {
        "rollouts": pl.len(),
        f"calls of the {writer}": pl.col("num_calls").sum(),
        "tokens that it wrote": pl.col("num_policy_tokens").sum(),
        "tokens of prompts and search results, each counted once": read_tokens.sum(),
    }
    if name is not SetName.COT_A:
        # A fork's steps include those of its prefix, which its parent paid for.
        rows = rows.filter(pl.col("mode") == str(name))
        is_observation = pl.element().struct.field("kind") == "observation"
        totals["searches"] = pl.col("steps").list.eval(is_observation).list.sum().sum()
    found = collect(rows.select(**totals)).row(0, named=True)
    if not found["rollouts"]:
        return Markdown("")
    lines: list[list[Cell]] = []
    for what, total in found.items():
        per_row = Markdown(f"{int(total or 0) / num_kept:,.1f}")
        lines.append([Markdown(what), int(total or 0), per_row])
    return table(("", "in all", "for each row good enough"), lines)
