"""Show one row of a set as blocks of text: who wrote what, step by step, and the other columns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from coa.trajectory import Author
from data_cards.cards.safe_markdown import Markdown, cut, fence, inline, wrapped
from data_cards.catalogue import SetName

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


def show_row(name: SetName, row_id: str, row: Mapping[str, Any]) -> Example:
    """Show a row of a set."""
    if name is SetName.COT_A:
        blocks = _pair(dict(row))
    elif name is SetName.RL:
        blocks = [Block("", _columns(row))]
    else:
        blocks = _trajectory(row)
    return Example(inline(row_id), tuple(blocks))


def _trajectory(row: Mapping[str, Any]) -> list[Block]:
    trajectory = dict(row["trajectory"])
    steps = [_prompt_step(trajectory.pop("prompt")), *trajectory.pop("steps")]
    others = {**row, "trajectory": trajectory}
    return [Block("", _transcript(steps)), Block("The other columns of the row:", _columns(others))]


def _pair(row: dict[str, Any]) -> list[Block]:
    shared = [_prompt_step(row.pop("prompt")), *row.pop("prefix")]
    chosen = row.pop("chosen")
    rejected = row.pop("rejected")
    return [
        Block("What both sides share:", _transcript(shared)),
        Block("Chosen:", _transcript(chosen)),
        Block("Rejected:", _transcript(rejected)),
        Block("The other columns of the row:", _columns(row)),
    ]


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


def _columns(row: Mapping[str, Any]) -> Markdown:
    """Write columns as JSON; long texts and lists are cut."""
    return fence(json.dumps(_shortened(row), indent=2, ensure_ascii=False), "json")


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return cut(value, _MAX_VALUE_CHARS)
    if isinstance(value, Mapping):
        return {key: _shortened(inner) for key, inner in value.items()}
    if isinstance(value, list):
        shown = [_shortened(inner) for inner in value[:_MAX_VALUES]]
        if len(value) > _MAX_VALUES:
            shown.append(f"... {len(value) - _MAX_VALUES:,} more")
        return shown
    return value
