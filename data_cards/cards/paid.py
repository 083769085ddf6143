"""Read what the calls behind a set came to: tokens as the servers counted them, and dollars."""

import json
from pathlib import Path
from typing import Any

import msgspec

from coa.errors import InputError
from coa.metrics import FOLDER
from data_cards.catalogue import SetName


class Paid(msgspec.Struct, frozen=True):
    """What the calls behind a set came to, dropped rows included."""

    context_tokens: int
    cached_tokens: int
    written_tokens: int
    reasoning_tokens: int
    search_requests: int
    dollars: float | None


STAGES = {SetName.COT: "sample_cot", SetName.COA: "sample_coa", SetName.COT_A: "branch"}
"""The stage that paid for a set; questions cost nothing."""


def read_paid(name: SetName) -> Paid | None:
    """Read the costs in the figures of the stage behind a set; None where there are none.

    Raises:
        InputError: the figures cannot be read.
    """
    path = FOLDER / f"{STAGES.get(name, '')}.json"
    if not path.exists():
        return None
    costs = _costs(path)
    if costs is None or not costs.get("written_tokens"):
        return None
    return msgspec.convert(costs, Paid)


def _costs(path: Path) -> dict[str, Any] | None:
    try:
        figures = json.loads(path.read_bytes())
        costs: dict[str, Any] | None = figures.get("costs")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"cannot read {path}", got=error, fix="dvc repro") from error
    return costs
