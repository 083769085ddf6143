"""A set's facts to the tables of its card."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from coa.trajectory import Author
from data_cards.cards.masks import Part
from data_cards.cards.safe_markdown import Cell, Markdown, inline, share, table, words
from data_cards.cards.yields import Count, Funnel, counts
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName
from data_cards.facts import LENGTH, collect

_MAX_VALUES = 12
"""Values of a column that a table shows; the rest is one line."""
_NONE = Markdown("not stated")
_NO_TOOL = Markdown("no tool offered")


class Distribution(NamedTuple):
    """How the rows are spread over the values of a column."""

    caption: str
    rows: Markdown


def distributions(name: SetName, frame: pl.LazyFrame) -> list[Distribution]:
    """Hops and question types, and the number of actions where there are some."""
    found = [
        Distribution("By number of facts to be joined (hops)", _spread(frame, "num_hops", "hops")),
        Distribution("By question type", _spread(frame, "question_type", "question type")),
    ]
    if name is SetName.COA:
        found.append(
            Distribution("By number of searches", _spread(frame, "num_actions", "searches"))
        )
    return found


def _spread(frame: pl.LazyFrame, column: str, heading: str) -> Markdown:
    """A table of rows by value and split; numbers in their order, names by frequency."""
    is_number = frame.collect_schema()[column].is_integer()
    by_split = [(pl.col("split") == split).sum().alias(split) for split in SPLITS]
    grouped = frame.group_by(value=pl.col(column)).agg(*by_split, rows=pl.len())
    by_number, by_frequency = (
        grouped.sort("value", nulls_last=True),
        grouped.sort(-pl.col("rows").cast(int), "value"),
    )
    values = list(collect(by_number if is_number else by_frequency).iter_rows())
    total = sum(row[-1] for row in values)
    cells = [
        (_value(value), *numbers, share(numbers[-1], total))
        for value, *numbers in values[:_MAX_VALUES]
    ]
    if rest := values[_MAX_VALUES:]:
        sums = [sum(numbers) for numbers in zip(*(row[1:] for row in rest), strict=True)]
        cells.append((Markdown(f"{len(rest):,} others"), *sums, share(sums[-1], total)))
    return table((heading, *SPLITS, "all", "share"), cells)


def _value(value: object) -> Markdown:
    if value is None or value == "":
        return _NONE
    return Markdown(str(value)) if isinstance(value, int) else words(str(value))


def lengths(frame: pl.LazyFrame) -> Markdown:
    """Smallest, middle and largest of every length of both splits; a hundredth is the resolution of the mean."""
    columns = [column for column in frame.collect_schema() if column.startswith(LENGTH)]
    rows: list[Sequence[Cell]] = []
    for column in columns:
        length = pl.col(column)
        picked = frame.select(
            length.min().alias("min"),
            length.quantile(0.5, "nearest").alias("median"),
            length.mean().alias("mean"),
            length.quantile(0.9, "nearest").alias("p90"),
            length.max().alias("max"),
        )
        low, median, mean, high, top = collect(picked).row(0)
        rows.append(
            (
                Markdown(column.removeprefix(LENGTH)),
                int(low),
                int(median),
                Markdown(f"{mean:,.1f}"),
                int(high),
                int(top),
            )
        )
    return table(("", "least", "median", "mean", "90th percentile", "most"), rows)


def kinds(frame: pl.LazyFrame) -> Markdown:
    """Pairs of each kind and split, with the mean value of acting."""
    by_split = [(pl.col("split") == split).sum().alias(split) for split in SPLITS]
    value = pl.col("value_of_acting").mean().alias("value")
    continuations = (pl.col("num_act") + pl.col("num_think")).mean().alias("continuations")
    rows = collect(
        frame.group_by("kind").agg(*by_split, value, continuations).sort("kind")
    ).iter_rows()
    return table(
        ("kind", *SPLITS, "mean value of acting", "continuations a point"),
        [
            (inline(kind), *sizes, Markdown(f"{mean:+.2f}"), Markdown(f"{n:.1f}"))
            for kind, *sizes, mean, n in rows
        ],
    )


def characters(parts: Mapping[Part, int]) -> Markdown:
    """Characters of each part, who wrote them and what learns them."""
    total = sum(parts.values())
    return table(
        ("part", "written by", "characters", "share", "trained in"),
        [
            (
                Markdown(part.what),
                Markdown(str(part.author)),
                count,
                share(count, total),
                Markdown(part.trained),
            )
            for part, count in parts.items()
        ],
    )


def trained_share(parts: Mapping[Part, int]) -> Markdown:
    """Share of the characters that the policy wrote and some stage learns."""
    own = sum(
        count
        for part, count in parts.items()
        if part.author is Author.POLICY and part.trained != "never"
    )
    return share(own, sum(parts.values()))


def count_table(heading: str, found: Sequence[Count], show: Callable[[str], Markdown]) -> Markdown:
    """Values with their rows and shares, the most frequent first."""
    total = sum(count.rows for count in found)
    return table(
        (heading, "rows", "share"),
        [(show(c.value), c.rows, share(c.rows, total)) for c in _top(found)],
    )


def _top(found: Sequence[Count]) -> list[Count]:
    rest = found[_MAX_VALUES:]
    return [
        *found[:_MAX_VALUES],
        *([Count(f"{len(rest)} others", sum(c.rows for c in rest))] if rest else []),
    ]


def funnel_table(funnel: Funnel, num_taken: int) -> Markdown:
    """The funnel with every loss and its share of the first row; `num_taken` rows are in the set."""
    rows: list[Sequence[Cell]] = [
        (Markdown(f"**{funnel.unit}**"), funnel.first, share(funnel.first, funnel.first))
    ]
    for loss in funnel.losses:
        rows.append(
            (Markdown(f"left out: {_loss(loss.value)}"), loss.rows, share(loss.rows, funnel.first))
        )
    rows.append(
        (Markdown("**good enough for this set**"), funnel.pool, share(funnel.pool, funnel.first))
    )
    rows.append((Markdown("**in this set**"), num_taken, share(num_taken, funnel.first)))
    return table(("", "rows", "share"), rows)


def _loss(value: str) -> str:
    stage, separator, reason = value.rpartition(": ")
    return f"{stage}{separator}{words(reason)}" if separator else words(value)


def num_prompted(frame: pl.LazyFrame, prompt_hash: str, head: str) -> int:
    """Rows that were sampled with a prompt: by its hash where rows have it, by its beginning where not."""
    has_hash = "prompt_hash" in frame.collect_schema()
    matches = (
        pl.col("prompt_hash") == prompt_hash if has_hash else pl.col("prompt").str.starts_with(head)
    )
    return int(collect(frame.select(matches.sum())).item())


def sampling(name: SetName, frame: pl.LazyFrame) -> Markdown:
    """Every way in which rows were sampled and searched, with the rows of each; empty for questions."""
    rows: list[Sequence[Cell]] = []
    if name is not SetName.RL:
        rows += _facts(
            "search",
            frame,
            "search_fingerprint",
            lambda value: inline(value) if value else _NO_TOOL,
        )
    if name in HAS_TRAJECTORIES:
        settings = pl.format("temperature {}, top-p {}, seed {}", "temperature", "top_p", "seed")
        verdict = pl.when("exact_match").then(pl.lit("yes")).otherwise(pl.lit("no"))
        frame = frame.with_columns(settings=settings, verdict=verdict)
        rows += _facts("prompt hash", frame, "prompt_hash", inline)
        rows += _facts("sampling", frame, "settings", Markdown)
        rows += _facts("exact match with a gold answer", frame, "verdict", Markdown)
    return table(("", "value", "rows"), rows) if rows else Markdown("")


def _facts(
    what: str, frame: pl.LazyFrame, column: str, show: Callable[[str], Markdown]
) -> list[Sequence[Cell]]:
    return [
        (Markdown(what), show(count.value), count.rows) for count in _top(counts(frame, column))
    ]
