"""Say what the stage behind a set reports: what its calls came to, what its server was seen to do.

The figures are those in metrics/ that the stage wrote.
"""

import json
import re
from collections.abc import Mapping

import msgspec

from coa.errors import InputError
from coa.store.metrics import FOLDER
from data_cards.cards.safe_markdown import Cell, Markdown, cut, inline, table, words
from data_cards.catalogue import SetName

_STAGES = {SetName.COT: "sample_cot", SetName.COA: "sample_coa", SetName.COT_A: "branch"}
"""The stage that paid for a set; questions cost nothing."""
_SENTENCE = re.compile(r"[A-Za-z0-9 ,:()_-]+")
"""Signs that mean nothing in the middle of a Markdown cell."""
_MAX_CHARS = 120


class Paid(msgspec.Struct, frozen=True):
    """What the calls behind a set came to, dropped rows included."""

    context_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    reasoning_tokens: int = 0
    search_requests: int = 0
    dollars: float | None = None


class Figures(msgspec.Struct, frozen=True):
    """What is reported of the calls behind a set."""

    costs: Paid | None = None
    """None where they are not known."""
    probe: dict[str, str] = {}
    """What the server was seen to do, by what a run relies on."""
    waived: tuple[str, ...] = ()
    """Its faults that the settings accept."""


def read_figures(name: SetName) -> Figures:
    """Read the figures of the stage behind a set; empty where it left none.

    Raises:
        InputError: The figures cannot be read.
    """
    path = FOLDER / f"{_STAGES.get(name, '')}.json"
    if not path.exists():
        return Figures()
    try:
        return msgspec.convert(json.loads(path.read_bytes()), Figures)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", got=error, fix="dvc repro") from error


def probe_table(probe: Mapping[str, str]) -> Markdown:
    """List what a server was seen to do; empty where that is not known."""
    if not probe:
        return Markdown("")
    rows: list[list[Cell]] = []
    for name, seen in probe.items():
        # A line of the probe may quote the server.
        is_plain = len(seen) <= _MAX_CHARS and _SENTENCE.fullmatch(seen)
        rows.append([words(name), Markdown(seen) if is_plain else inline(cut(seen, _MAX_CHARS))])
    return table(("what a run relies on", "what the server was seen to do"), rows)
