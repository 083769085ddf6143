"""Say what the teacher's server was seen to do, and which of its faults were accepted by name."""

import json
import re
from typing import Any

import msgspec

from coa.errors import InputError
from coa.metrics import FOLDER
from data_cards.cards.paid import STAGES
from data_cards.cards.safe_markdown import Cell, Markdown, cut, inline, table, words
from data_cards.catalogue import SetName

_SENTENCE = re.compile(r"[A-Za-z0-9 ,:()_-]+")
"""Signs that mean nothing in the middle of a Markdown cell."""
_MAX_CHARS = 120


class Probed(msgspec.Struct, frozen=True):
    """What is known of the server behind a set."""

    probe: dict[str, str] = {}
    """What it was seen to do, by the thing that a run relies on (`coa/policy/probe.py`)."""
    waived: tuple[str, ...] = ()
    """Its faults that the settings accept."""


def read_probed(name: SetName) -> Probed:
    """Read the figures of the stage behind a set; empty where no server was asked.

    Raises:
        InputError: The figures cannot be read.
    """
    path = FOLDER / f"{STAGES.get(name, '')}.json"
    if not path.exists():
        return Probed()
    try:
        figures: dict[str, Any] = json.loads(path.read_bytes())
        return msgspec.convert(figures, Probed)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", got=error, fix="dvc repro") from error


def probe_table(probed: Probed) -> Markdown:
    """List what the server was seen to do; empty where that is not known."""
    rows: list[tuple[Cell, Cell]] = []
    for name, seen in probed.probe.items():
        rows.append((words(name), _sentence(seen)))
    if not rows:
        return Markdown("")
    return table(("what a run relies on", "what the server was seen to do"), rows)


def waived_names(probed: Probed) -> Markdown:
    """Name the faults that were accepted."""
    return Markdown(", ".join(inline(name) for name in probed.waived))


def _sentence(text: str) -> Markdown:
    """Show a line of the probe, which may quote the server."""
    if len(text) <= _MAX_CHARS and _SENTENCE.fullmatch(text):
        return Markdown(text)
    return inline(cut(text, _MAX_CHARS))
