"""Tell by an expression over a file of graded rows whether each of them is right."""

from pathlib import Path

import polars as pl

from coa.own_parts import names_own_part
from coa.records.graded import RightBy, is_right_by_own
from coa.store import tables


def right_column(path: Path, by: RightBy = RightBy.EXACT_MATCH) -> pl.Expr:
    """Return `coa.records.graded.is_right` as an expression; null where nobody can tell."""
    judged = pl.lit(None, dtype=pl.Boolean)
    if "judgement" in tables.open_parquet(path).schema_arrow.names:
        judged = pl.col("judgement").struct.field("is_right")
    if by is RightBy.JUDGE:
        return judged
    if names_own_part(by):
        exact_match = pl.col("grade").struct.field("exact_match")
        answered = pl.struct(pl.col("grade").struct.field("prediction"), "gold_answers")
        own = answered.map_elements(
            lambda row: is_right_by_own(by, row["prediction"], row["gold_answers"]),
            return_dtype=pl.Boolean,
        )
        return pl.when(exact_match.is_null()).then(judged).otherwise(own)
    name = "cover_exact_match" if by is RightBy.COVER_MATCH else "exact_match"
    return pl.coalesce(pl.col("grade").struct.field(name), judged)
