"""Measure how the rows of a set are spread: over values, lengths, kinds of pairs and settings."""

from typing import NamedTuple

import polars as pl

from data_cards.cards.yields import Count, counts
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName
from data_cards.facts import LENGTH, collect


class ValueCount(NamedTuple):
    """The number of rows of each split that share a value."""

    value: int | str | None
    by_split: tuple[int, ...]
    rows: int
    """Rows of all splits."""


class LengthSpread(NamedTuple):
    """The lengths of something over the rows of both splits."""

    what: str
    least: int
    median: int
    mean: float
    p90: int
    """The 90th percentile."""
    most: int


class PairKindCount(NamedTuple):
    """The number of pairs of each split that are of a kind."""

    kind: str
    by_split: tuple[int, ...]
    value_of_acting: float
    """The mean."""
    continuations: float
    """The mean per point."""


class WorthSpread(NamedTuple):
    """The worth of calling a tool at the points of pairs of one kind; both splits."""

    kind: str
    tool: str
    rows: int
    measured: int
    """Pairs whose worth was measured."""
    least: float | None
    median: float | None
    mean: float | None
    """Null where none was measured, as its neighbours are."""
    most: float | None


class WorthTerms(NamedTuple):
    """The settings of a measurement, with the pairs that were measured by them."""

    price: float
    """What one search takes, in shares of a right answer."""
    confidence: float
    """Of the intervals; 0 where none was asked for."""
    rows: int


class SamplingCounts(NamedTuple):
    """Every way in which rows were sampled and searched, with the rows of each."""

    searches: tuple[Count, ...] = ()
    """By the search's fingerprint; empty where no tool was offered."""
    prompt_hashes: tuple[Count, ...] = ()
    settings: tuple[Count, ...] = ()
    exact_matches: tuple[Count, ...] = ()
    """Whether the answer is an exact match with a gold answer: yes or no."""


def spread(frame: pl.LazyFrame, column: str) -> tuple[ValueCount, ...]:
    """Count rows by value and split: numbers in their order, names by frequency."""
    grouped = frame.group_by(value=pl.col(column)).agg(*_rows_by_split(), rows=pl.len())
    if frame.collect_schema()[column].is_integer():
        ordered = grouped.sort("value", nulls_last=True)
    else:
        ordered = grouped.sort(-pl.col("rows").cast(int), "value")
    found = []
    for value, *by_split, rows in collect(ordered).iter_rows():
        found.append(ValueCount(value, tuple(by_split), rows))
    return tuple(found)


def _rows_by_split() -> list[pl.Expr]:
    return [(pl.col("split") == split).sum().alias(split) for split in SPLITS]


def lengths(frame: pl.LazyFrame) -> tuple[LengthSpread, ...]:
    """Measure every length of both splits."""
    found = []
    for column in frame.collect_schema():
        if column.startswith(LENGTH):
            found.append(_length(frame, column))
    return tuple(found)


def _length(frame: pl.LazyFrame, column: str) -> LengthSpread:
    length = pl.col(column)
    measured = frame.select(
        least=length.min(),
        median=length.quantile(0.5, "nearest"),
        mean=length.mean(),
        p90=length.quantile(0.9, "nearest"),
        most=length.max(),
    )
    least, median, mean, p90, most = collect(measured).row(0)
    return LengthSpread(
        what=column.removeprefix(LENGTH),
        least=int(least),
        median=int(median),
        mean=mean,
        p90=int(p90),
        most=int(most),
    )


def pair_kinds(frame: pl.LazyFrame) -> tuple[PairKindCount, ...]:
    """Count the pairs of each kind and split, with the mean value of acting."""
    num_continuations = pl.col("num_act") + pl.col("num_think")
    grouped = frame.group_by("kind").agg(
        *_rows_by_split(),
        value=pl.col("value_of_acting").mean(),
        continuations=num_continuations.mean(),
    )
    found = []
    for kind, *by_split, value, continuations in collect(grouped.sort("kind")).iter_rows():
        found.append(PairKindCount(kind, tuple(by_split), value, continuations))
    return tuple(found)


def worths(frame: pl.LazyFrame) -> tuple[WorthSpread, ...]:
    """Measure how the worth of acting is spread, by kind of pair and tool."""
    worth = pl.col("worth_value")
    grouped = frame.group_by("kind", "tool").agg(
        rows=pl.len(),
        measured=worth.count(),
        least=worth.min(),
        median=worth.median(),
        mean=worth.mean(),
        most=worth.max(),
    )
    rows = collect(grouped.sort("kind", "tool")).iter_rows()
    return tuple(WorthSpread(*row) for row in rows)


def worth_terms(frame: pl.LazyFrame) -> tuple[WorthTerms, ...]:
    """List the prices and confidences with which the worth of pairs was measured."""
    measured = frame.filter(pl.col("worth_value").is_not_null())
    grouped = measured.group_by("worth_price", "worth_confidence").agg(rows=pl.len())
    rows = collect(grouped.sort("worth_price", "worth_confidence")).iter_rows()
    return tuple(WorthTerms(*row) for row in rows)


def sampling(name: SetName, frame: pl.LazyFrame) -> SamplingCounts:
    """Count rows by how they were sampled and searched; nothing for questions."""
    if name is SetName.RL:
        return SamplingCounts()
    searches = tuple(counts(frame, "search_fingerprint"))
    if name not in HAS_TRAJECTORIES:
        return SamplingCounts(searches)
    sent = [
        pl.when(pl.col(name) < 0).then(pl.lit("not sent")).otherwise(pl.col(name).cast(pl.String))
        for name in ("temperature", "top_p")
    ]
    stated = pl.format("temperature {}, top-p {}, seed {}", *sent, "seed")
    settings = pl.when("is_imported").then(pl.lit("not recorded: imported")).otherwise(stated)
    is_match = (
        pl.when(pl.col("exact_match").is_null())
        .then(pl.lit("no accepted answer: judged by a rubric"))
        .when("exact_match")
        .then(pl.lit("yes"))
        .otherwise(pl.lit("no"))
    )
    frame = frame.with_columns(settings=settings, is_match=is_match)
    return SamplingCounts(
        searches=searches,
        prompt_hashes=tuple(counts(frame, "prompt_hash")),
        settings=tuple(counts(frame, "settings")),
        exact_matches=tuple(counts(frame, "is_match")),
    )


def num_prompted(frame: pl.LazyFrame, prompt_hash: str, head: str) -> int:
    """Count the rows that were sampled with a prompt.

    A prompt is recognised by its hash where rows have it, and by its beginning where not.
    """
    if "prompt_hash" in frame.collect_schema():
        matches = pl.col("prompt_hash") == prompt_hash
    else:
        matches = pl.col("prompt").str.starts_with(head)
    return int(collect(frame.select(matches.sum())).item())


def middle_row(frame: pl.LazyFrame) -> str | None:
    """Find the id of the train row of median length; None where there is no row.

    Among rows of equal length the smaller id comes first.
    """
    train = frame.filter(pl.col("split") == "train")
    ids = collect(train.select("num_chars", "row_id").sort("num_chars", "row_id"))["row_id"]
    if not len(ids):
        return None
    return str(ids[len(ids) // 2])
