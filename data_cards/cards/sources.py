"""Find who wrote the rows of a set, and where the parts of its text come from."""

from collections.abc import Sequence
from typing import NamedTuple

import polars as pl

from coa.policy.scripted import is_scripted
from data_cards.cards.licences import CORPUS, Source
from data_cards.catalogue import SetName
from data_cards.facts import collect, facts

IMPORTED = "imported trajectories"
"""What a source is called whose rows others made; the passages that they quote have another."""


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


class Writers(NamedTuple):
    """Who wrote the rows of a set, and where its parts come from; questions have no writer."""

    models: tuple[Count, ...]
    """Teachers and how many rows each wrote; of pairs also those of `forkers`."""
    forkers: tuple[Count, ...]
    """Of pairs: models that continued another model's trajectories, and in how many rows."""
    imported: tuple[Imported, ...]
    """The rows that others made, the most frequent first."""
    sources: tuple[Source, ...]
    """Of questions, search results and the text of language models."""


def writers(name: SetName, frame: pl.LazyFrame) -> Writers:
    """Find who wrote the rows of a set, from its facts (`data_cards.facts`)."""
    sources = []
    for value, _ in counts(frame, "source").iter_rows():
        sources.append(Source("questions and answers", value))
    if name is SetName.RL:
        return Writers((), (), (), tuple(sources))
    own = frame.filter(~pl.col("is_imported"))
    if any(counts(own, "search_fingerprint")["search_fingerprint"]):
        sources.append(Source("search results", CORPUS))
    of_others = frame.filter("is_imported")
    for value, _ in counts(of_others, "search_fingerprint").iter_rows():
        if value:
            sources.append(Source("imported search results", value))
    names = own.select("model")
    forkers: tuple[Count, ...] = ()
    if name is SetName.COT_A:
        names = pl.concat([names, own.select(model="fork_model").drop_nulls()])
        forked = counts(frame.drop_nulls("fork_model"), "fork_model")
        forkers = tuple(Count(*row) for row in forked.iter_rows())
    models = tuple(Count(*row) for row in counts(names, "model").iter_rows())
    forking_names = [forker.value for forker in forkers]
    for model in models:
        if not is_scripted(model.value):
            what = "the forks' text" if model.value in forking_names else "the teacher's text"
            sources.append(Source(what, model.value))
    makers = of_others.group_by("model", "origin", "license").agg(rows=pl.len())
    ordered = makers.sort(-pl.col("rows").cast(int), "model", "origin", "license")
    imported = tuple(Imported(*row) for row in collect(ordered).iter_rows())
    for one in imported:
        sources.append(Source(IMPORTED, one.origin or one.model, one.licence))
    return Writers(models, forkers, imported, tuple(dict.fromkeys(sources)))


def models_and_sources(names: Sequence[SetName]) -> tuple[list[str], list[Source]]:
    """Name the models that wrote the rows of some sets, and where the parts of these come from."""
    models: dict[str, None] = {}
    sources: dict[Source, None] = {}
    for name in names:
        found = writers(name, facts(name))
        models.update(dict.fromkeys(model.value for model in found.models))
        sources.update(dict.fromkeys(found.sources))
    return list(models), list(sources)


def counts(frame: pl.LazyFrame, column: str) -> pl.DataFrame:
    """Count `rows` by the value of a column, the most frequent first; null counts as empty."""
    value = pl.col(column).cast(pl.String).fill_null("")
    grouped = frame.group_by(value.alias(column)).agg(rows=pl.len())
    return collect(grouped.sort(["rows", column], descending=[True, False]))
