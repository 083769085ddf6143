"""A set's two files to one flat, lazy table with a row of facts for each of its rows.

Columns of every set: `split`, `row_id`, `question_id`, `num_chars`, `question_type`, `num_hops`, `source`. Sets with a
teacher have `model` and `search_fingerprint` too; the rest is particular to the set. Lengths begin with `length:`.
"""

from collections.abc import Sequence
from functools import reduce
from operator import add
from pathlib import Path

import polars as pl

from coa import tables
from coa.files import QUESTIONS
from coa.trajectory import Author
from data_cards.catalogue import SPLITS, SetName, local_path

LENGTH = "length:"
_PAIR_COLUMNS = (
    "pair_id",
    "question_id",
    "kind",
    "prompt",
    "prefix",
    "chosen",
    "rejected",
    "num_act",
    "num_act_correct",
    "num_think",
    "num_think_correct",
    "model",
    "search_fingerprint",
)
_QUESTION_COLUMNS = ("question_id", "question", "question_type", "num_hops", "source")


def scan(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    """A parquet file as a lazy table.

    Raises:
        InputError: the file is missing or broken, or lacks one of `columns`.
    """
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, columns)
    return pl.scan_parquet(path)


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """The rows of a lazy table, read a part at a time."""
    return frame.collect(engine="streaming")


def facts(name: SetName) -> pl.LazyFrame:
    """The facts of both splits of a set.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    read = {SetName.COT_A: _pair_facts, SetName.RL: _question_facts}.get(name, _trajectory_facts)
    splits = [read(local_path(name, split)).with_columns(split=pl.lit(split)) for split in SPLITS]
    frame = pl.concat(splits)
    return frame if name is SetName.RL else frame.join(_questions(), on="question_id", how="left")


def num_questions_in_both_splits() -> int:
    """Questions that stand in the train split of one set and in the validation split of any."""
    train, validation = (
        pl.concat(
            [facts(name).filter(pl.col("split") == split).select("question_id") for name in SetName]
        ).unique()
        for split in SPLITS
    )
    return int(
        collect(train.join(validation, on="question_id", how="semi").select(pl.len())).item()
    )


def _questions() -> pl.LazyFrame:
    """What questions say of themselves; trajectories and pairs hold only a part of it."""
    return scan(QUESTIONS, _QUESTION_COLUMNS).select(
        "question_id", "question_type", "num_hops", "source"
    )


def _trajectory_facts(path: Path) -> pl.LazyFrame:
    frame = scan(path, ("trajectory", "grade"))
    flat = frame.select(
        pl.col("trajectory").struct.unnest(), pl.col("grade").struct.field("exact_match")
    )
    return flat.select(
        "question_id",
        "model",
        "search_fingerprint",
        "prompt_hash",
        "num_actions",
        "exact_match",
        pl.col("sampling").struct.unnest(),
        row_id="trajectory_id",
        num_chars=_chars("steps"),
        **{
            f"{LENGTH}policy, words": _policy_words("steps"),
            f"{LENGTH}policy, tokens": pl.col("num_policy_tokens"),
            f"{LENGTH}search results, tokens": pl.col("num_environment_tokens"),
        },
    )


def _pair_facts(path: Path) -> pl.LazyFrame:
    act, think = (pl.col(f"num_{arm}_correct") / pl.col(f"num_{arm}") for arm in ("act", "think"))
    parts = {"shared prefix": "prefix", "chosen side": "chosen", "rejected side": "rejected"}
    return scan(path, _PAIR_COLUMNS).select(
        "question_id",
        "model",
        "search_fingerprint",
        "prompt",
        "kind",
        "num_act",
        "num_think",
        row_id="pair_id",
        value_of_acting=act - think,
        num_chars=reduce(add, (_chars(column) for column in parts.values())),
        **{
            f"{LENGTH}{part}, policy's words": _policy_words(column)
            for part, column in parts.items()
        },
    )


def _question_facts(path: Path) -> pl.LazyFrame:
    return scan(path, _QUESTION_COLUMNS).select(
        "question_id",
        "question_type",
        "num_hops",
        "source",
        row_id="question_id",
        num_chars=pl.col("question").str.len_chars(),
        **{f"{LENGTH}question, words": _words(pl.col("question"))},
    )


def _words(text: pl.Expr) -> pl.Expr:
    return text.str.count_matches(r"\S+")


def _chars(steps: str) -> pl.Expr:
    return pl.col(steps).list.eval(pl.element().struct.field("text").str.len_chars()).list.sum()


def _policy_words(steps: str) -> pl.Expr:
    step = pl.element().struct
    is_own = step.field("author") == str(Author.POLICY)
    return pl.col(steps).list.eval(_words(step.field("text")).cast(pl.Int64) * is_own).list.sum()
