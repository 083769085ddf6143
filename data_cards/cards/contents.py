"""Write the tables of what is in a set: values, lengths, kinds of pairs, how rows were sampled."""

from collections.abc import Callable
from typing import Any

import polars as pl

from data_cards.cards.safe_markdown import (
    Cell,
    Markdown,
    frame_table,
    inline,
    share,
    stated,
    table,
    words,
)
from data_cards.cards.sources import counts
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName
from data_cards.facts import LENGTH, collect

_MAX_VALUES = 12
"""Values of a column that a table shows; the rest is one line."""


def contents(name: SetName, frame: pl.LazyFrame) -> dict[str, Any]:
    """Make what the template says of the rows of a set, from its facts."""
    spreads = {
        "By number of facts to be joined (hops)": spread_table(frame, "num_hops", "hops"),
        "By question type": spread_table(frame, "question_type", "question type"),
    }
    if name is SetName.COA:
        spreads["By number of searches"] = spread_table(frame, "num_actions", "searches")
    found: dict[str, Any] = {
        "spreads": spreads,
        "lengths": length_table(frame),
        "sampling": sampling_table(name, frame),
        "kinds": "",
    }
    if name is SetName.COT_A:
        tools = collect(frame.select(pl.col("tool").unique()))["tool"]
        found["kinds"] = kind_table(frame)
        found["has_other_tools"] = any(tool != "search" for tool in tools)
    return found


def spread_table(frame: pl.LazyFrame, column: str, heading: str) -> Markdown:
    """Count rows by value and split: numbers in their order, names by frequency."""
    grouped = frame.group_by(pl.col(column).alias(heading)).agg(*_rows_by_split(), all=pl.len())
    if frame.collect_schema()[column].is_integer():
        ordered = grouped.sort(heading, nulls_last=True)
    else:
        ordered = grouped.sort(-pl.col("all").cast(int), heading)

    def show(value: int | str | None) -> Markdown:
        if value is None or value == "":
            return stated("")
        return Markdown(str(value)) if isinstance(value, int) else words(value)

    return count_table(collect(ordered), show)


def _rows_by_split() -> list[pl.Expr]:
    return [(pl.col("split") == split).sum().alias(split) for split in SPLITS]


def count_table(grouped: pl.DataFrame, show: Callable[[Any], Markdown]) -> Markdown:
    """List values with counts of rows and their share of all.

    Args:
        grouped: A column of values, then columns of counts, of which the last counts all rows.
        show: Shows a value.
    """
    total = int(grouped[:, -1].sum())
    rows = [[*line, share(line[-1], total)] for line in _first_lines(grouped, show)]
    return table((*grouped.columns, "share"), rows)


def _first_lines(grouped: pl.DataFrame, show: Callable[[Any], Markdown]) -> list[list[Any]]:
    """Show the first values with their counts, and the sum of the rest on a line of its own."""
    lines = [[show(value), *line] for value, *line in grouped[:_MAX_VALUES].iter_rows()]
    rest = grouped[_MAX_VALUES:]
    if len(rest):
        lines.append([Markdown(f"{len(rest):,} others"), *rest[:, 1:].sum().row(0)])
    return lines


def length_table(frame: pl.LazyFrame) -> Markdown:
    """List every length over the rows of both splits; the mean is given to a tenth."""
    rows: list[list[Cell]] = []
    for column in frame.collect_schema():
        if not column.startswith(LENGTH):
            continue
        length = pl.col(column)
        measured = frame.select(
            least=length.min().cast(int),
            median=length.quantile(0.5, "nearest").cast(int),
            mean=length.mean(),
            ninth=length.quantile(0.9, "nearest").cast(int),
            most=length.max().cast(int),
        )
        least, median, mean, ninth, most = collect(measured).row(0)
        what = Markdown(column.removeprefix(LENGTH))
        rows.append([what, least, median, Markdown(f"{mean:,.1f}"), ninth, most])
    return table(("", "least", "median", "mean", "90th percentile", "most"), rows)


def kind_table(frame: pl.LazyFrame) -> Markdown:
    """Count the pairs of each kind and split, with the mean value of acting."""
    grouped = frame.group_by("kind").agg(
        *_rows_by_split(),
        pl.col("value_of_acting").mean().alias("mean value of acting"),
        (pl.col("num_act") + pl.col("num_think")).mean().alias("continuations a point"),
    )
    shows: dict[str, Callable[[float], Markdown]] = {
        "mean value of acting": lambda number: Markdown(f"{number:+.2f}"),
        "continuations a point": lambda number: Markdown(f"{number:.1f}"),
    }
    return frame_table(collect(grouped.sort("kind")), shows)


def sampling_table(name: SetName, frame: pl.LazyFrame) -> Markdown:
    """List every way in which rows were sampled and searched; empty for questions."""
    if name is SetName.RL:
        return Markdown("")
    columns: list[tuple[str, pl.Expr, Callable[[str], Markdown]]] = [
        ("search", pl.col("search_fingerprint"), lambda it: stated(it, "no tool offered"))
    ]
    if name in HAS_TRAJECTORIES:
        sent = []
        for setting in ("temperature", "top_p"):
            value = pl.col(setting).cast(pl.String)
            sent.append(pl.when(pl.col(setting) < 0).then(pl.lit("not sent")).otherwise(value))
        sampled = pl.format("temperature {}, top-p {}, seed {}", *sent, "seed")
        imported = pl.lit("not recorded: imported")
        sampling = pl.when("is_imported").then(imported).otherwise(sampled)
        answer = pl.when("exact_match").then(pl.lit("yes")).otherwise(pl.lit("no"))
        judged = pl.lit("no accepted answer: judged by a rubric")
        is_match = pl.when(pl.col("exact_match").is_null()).then(judged).otherwise(answer)
        columns += [
            ("prompt hash", pl.col("prompt_hash"), inline),
            ("sampling", sampling, Markdown),
            ("exact match with a gold answer", is_match, Markdown),
        ]
    rows: list[list[Cell]] = []
    for what, values, show in columns:
        found = counts(frame.select(values.alias("value")), "value")
        rows += [[Markdown(what), *line] for line in _first_lines(found, show)]
    return table(("", "value", "rows"), rows)
