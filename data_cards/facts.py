"""Read both files of a set as one flat, lazy table with a row of facts for each of its rows.

Every set has the columns `split`, `row_id`, `question_id`, `num_chars`, `question_type`,
`num_hops` and `source`. Sets of trajectories and pairs have `model`, `search_fingerprint`,
`is_imported`, `origin` and `license`, too. The other columns differ from set to set. The names of
lengths begin with `length:`.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from coa.records.trajectory import Author
from coa.store import tables
from coa.store.files import QUESTIONS
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
_OLD_TOOL = "search"
"""The tool in files from before pairs said which one."""
_QUESTION_COLUMNS = ("question_id", "question", "question_type", "num_hops", "source")


def collect(frame: pl.LazyFrame) -> pl.DataFrame:
    """Compute the rows of a lazy table, reading a part at a time."""
    return frame.collect(engine="streaming")


def id_column(name: SetName) -> pl.Expr:
    """Give the column of a set's file that holds the ids of its rows."""
    if name is SetName.COT_A:
        return pl.col("pair_id")
    if name is SetName.RL:
        return pl.col("question_id")
    return pl.col("trajectory").struct.field("trajectory_id")


def facts(name: SetName) -> pl.LazyFrame:
    """Read the facts of both splits of a set."""
    if name is SetName.COT_A:
        read = _pair_facts
    elif name is SetName.RL:
        read = _question_facts
    else:
        read = _trajectory_facts
    splits = [read(local_path(name, split)).with_columns(split=pl.lit(split)) for split in SPLITS]
    frame = pl.concat(splits)
    if name is SetName.RL:
        return frame
    columns = ("question_id", "question_type", "num_hops", "source")
    questions = tables.scan(QUESTIONS, columns).select(columns)
    return frame.join(questions, on="question_id", how="left")


def num_questions_in_both_splits(names: Sequence[SetName]) -> int:
    """Count the questions of the train split of one set that the validation split of any has."""
    if not names:
        return 0
    validation = _question_ids(names, "validation")
    in_both = _question_ids(names, "train").join(validation, on="question_id", how="semi")
    return int(collect(in_both.select(pl.len())).item())


def _question_ids(names: Sequence[SetName], split: str) -> pl.LazyFrame:
    """Read the ids of all questions that are in a split of any of these sets."""
    ids = []
    for name in names:
        rows = facts(name).filter(pl.col("split") == split)
        ids.append(rows.select("question_id"))
    return pl.concat(ids).unique()


def _trajectory_facts(path: Path) -> pl.LazyFrame:
    frame = tables.scan(path, ("trajectory", "grade"))
    flat = frame.select(
        pl.col("trajectory").struct.unnest(), pl.col("grade").struct.field("exact_match")
    )
    flat = flat.with_columns(pl.col("sampling").struct.unnest())
    for column in ("origin", "license"):
        if column not in flat.collect_schema():  # An older file: nothing in it was imported.
            flat = flat.with_columns(pl.lit("").alias(column))
    return flat.select(
        "question_id",
        "model",
        "origin",
        "license",
        "temperature",
        "top_p",
        "seed",
        "search_fingerprint",
        "prompt_hash",
        "num_actions",
        "exact_match",
        row_id="trajectory_id",
        is_imported=(pl.col("temperature") < 0) & (pl.col("seed") < 0),
        num_chars=_chars("steps"),
        **{
            f"{LENGTH}policy, words": _policy_words("steps"),
            f"{LENGTH}policy, tokens": pl.col("num_policy_tokens"),
            f"{LENGTH}search results, tokens": pl.col("num_environment_tokens"),
        },
    )


def _pair_facts(path: Path) -> pl.LazyFrame:
    act = pl.col("num_act_correct") / pl.col("num_act")
    think = pl.col("num_think_correct") / pl.col("num_think")
    frame = tables.scan(path, _PAIR_COLUMNS)
    found = frame.collect_schema()
    forker = pl.col("fork_model") if "fork_model" in found else pl.lit("")
    is_another = (forker != "") & (forker != pl.col("model"))
    return frame.select(
        "question_id",
        "model",
        pl.when(is_another).then(forker).alias("fork_model"),
        "search_fingerprint",
        "prompt",
        "kind",
        "num_act",
        "num_think",
        row_id="pair_id",
        # Imported trajectories are not forked (curate.branch).
        is_imported=pl.lit(value=False),
        origin=pl.lit(""),
        license=pl.lit(""),
        value_of_acting=act - think,
        tool=pl.col("tool") if "tool" in found else pl.lit(_OLD_TOOL),
        num_chars=_chars("prefix") + _chars("chosen") + _chars("rejected"),
        **{
            f"{LENGTH}shared prefix, policy's words": _policy_words("prefix"),
            f"{LENGTH}chosen side, policy's words": _policy_words("chosen"),
            f"{LENGTH}rejected side, policy's words": _policy_words("rejected"),
        },
    )


def _question_facts(path: Path) -> pl.LazyFrame:
    return tables.scan(path, _QUESTION_COLUMNS).select(
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
