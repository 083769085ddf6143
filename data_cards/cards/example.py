"""Show a row of a set as blocks of text: who wrote what, step by step."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import polars as pl

from coa.errors import InputError
from coa.records.trajectory import Author
from data_cards.cards.safe_markdown import Markdown, cut, fence, inline, wrapped
from data_cards.catalogue import SetName, local_path
from data_cards.facts import collect, id_column

_MAX_STEPS = 60
_MAX_STEP_CHARS = 2_000
_WIDTH = 88
"""Columns that a card's block shows without scrolling."""


class Block(NamedTuple):
    """A part of the row under a caption."""

    caption: str
    body: Markdown


class Example(NamedTuple):
    """One row, ready to be shown."""

    row_id: Markdown
    blocks: tuple[Block, ...]


def show_row(name: SetName, frame: pl.LazyFrame) -> Example:
    """Show the train row of median length; among rows of equal length the smaller id comes first.

    Raises:
        InputError: the set is empty.
    """
    path = local_path(name, "train")
    train = frame.filter(pl.col("split") == "train").select("num_chars", "row_id")
    ids = collect(train.sort("num_chars", "row_id"))["row_id"]
    if ids.is_empty():
        raise InputError(
            f"the set '{name}' is empty",
            where=path,
            expected="at least one train row",
            fix=f"raise assemble.num_{name}, or set it to 0, then dvc repro",
        )
    row_id = str(ids[len(ids) // 2])
    row = collect(pl.scan_parquet(path).filter(id_column(name) == row_id)).row(0, named=True)
    if name is SetName.COT_A:
        blocks = (
            Block(
                "What both sides share:",
                _transcript([_prompt_step(row["prompt"]), *row["prefix"]]),
            ),
            Block("Chosen:", _transcript(row["chosen"])),
            Block("Rejected:", _transcript(row["rejected"])),
        )
        return Example(inline(row_id), blocks)
    if name is SetName.RL:
        accepted = " | ".join(row["gold_answers"])
        text = f"question: {row['question']}\naccepted: {accepted}"
        body = fence(wrapped(cut(text, _MAX_STEP_CHARS), "", _WIDTH))
    else:
        trajectory = row["trajectory"]
        body = _transcript([_prompt_step(trajectory["prompt"]), *trajectory["steps"]])
    return Example(inline(row_id), (Block("", body),))


def _prompt_step(prompt: str) -> dict[str, str]:
    return {"author": str(Author.SCAFFOLD), "kind": "prompt", "text": prompt}


def _transcript(steps: Sequence[Mapping[str, str]]) -> Markdown:
    """Write steps under each other: author and kind at the margin, texts indented.

    The indent keeps a text from passing for a margin.
    """
    shown = []
    for step in steps[:_MAX_STEPS]:
        text = cut(step["text"].strip(), _MAX_STEP_CHARS) or "(white space)"
        shown.append(f"{step['author']}: {step['kind']}\n{wrapped(text, '    ', _WIDTH)}")
    if len(steps) > _MAX_STEPS:
        shown.append(f"... {len(steps) - _MAX_STEPS:,} more steps")
    return fence("\n\n".join(shown))
