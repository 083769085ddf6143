"""One row of a set as blocks of text that a person can read: who wrote what, step by step, and the other columns."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import polars as pl

from coa.trajectory import Author
from data_cards.cards.safe_markdown import Markdown, cut, fence, inline, wrapped
from data_cards.catalogue import SetName, local_path
from data_cards.facts import collect

_MAX_STEPS = 60
_MAX_STEP_CHARS = 2_000
_MAX_VALUE_CHARS = 300
_MAX_VALUES = 20
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


def middle_row(frame: pl.LazyFrame) -> str | None:
    """Id of the train row of median length, the smaller id where lengths are equal; None where there is no row."""
    rows = (
        frame.filter(pl.col("split") == "train")
        .select("num_chars", "row_id")
        .sort("num_chars", "row_id")
    )
    ids = collect(rows)["row_id"]
    return str(ids[len(ids) // 2]) if len(ids) else None


def show_row(name: SetName, row_id: str) -> Example:
    """The row of a set's train split with this id."""
    ids = {SetName.COT_A: pl.col("pair_id"), SetName.RL: pl.col("question_id")}
    id_column = ids.get(name, pl.col("trajectory").struct.field("trajectory_id"))
    row = collect(pl.scan_parquet(local_path(name, "train")).filter(id_column == row_id)).row(
        0, named=True
    )
    show = {SetName.COT_A: _pair, SetName.RL: _question}.get(name, _trajectory)
    return Example(inline(row_id), tuple(show(row)))


def _trajectory(row: dict[str, Any]) -> list[Block]:
    trajectory = dict(row["trajectory"])
    prompt = {"author": str(Author.SCAFFOLD), "kind": "prompt", "text": trajectory.pop("prompt")}
    steps = [prompt, *trajectory.pop("steps")]
    others = {**row, "trajectory": trajectory}
    return [Block("", _transcript(steps)), Block("The other columns of the row:", _columns(others))]


def _pair(row: dict[str, Any]) -> list[Block]:
    prompt = {"author": str(Author.SCAFFOLD), "kind": "prompt", "text": row.pop("prompt")}
    shared = _transcript([prompt, *row.pop("prefix")])
    chosen, rejected = (_transcript(row.pop(side)) for side in ("chosen", "rejected"))
    return [
        Block("What both sides share:", shared),
        Block("Chosen:", chosen),
        Block("Rejected:", rejected),
        Block("The other columns of the row:", _columns(row)),
    ]


def _question(row: dict[str, Any]) -> list[Block]:
    return [Block("", _columns(row))]


def _transcript(steps: Iterable[Mapping[str, str]]) -> Markdown:
    """Steps under each other: author and kind at the margin, texts indented, so that no text can pass for a margin."""
    steps = list(steps)
    shown = [
        f"{step['author']}: {step['kind']}\n{_step_text(step['text'])}"
        for step in steps[:_MAX_STEPS]
    ]
    if len(steps) > _MAX_STEPS:
        shown.append(f"... {len(steps) - _MAX_STEPS:,} more steps")
    return fence("\n\n".join(shown))


def _step_text(text: str) -> str:
    return wrapped(cut(text.strip(), _MAX_STEP_CHARS) or "(white space)", "    ", _WIDTH)


def _columns(row: Mapping[str, Any]) -> Markdown:
    """Columns as JSON; long texts and lists are cut."""
    return fence(json.dumps(_shortened(row), indent=2, ensure_ascii=False), "json")


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return cut(value, _MAX_VALUE_CHARS)
    if isinstance(value, Mapping):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        more = [f"... {len(value) - _MAX_VALUES:,} more"] if len(value) > _MAX_VALUES else []
        return [_shortened(inner) for inner in value[:_MAX_VALUES]] + more
    return value
