"""Read samples of Inspect's evaluation logs; coa/foreign/files.py opens a log."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coa.foreign.chat_fields import role_name
from coa.foreign.chat_message import Role, refusal
from coa.foreign.chat_rows import chat_of, to_row
from coa.foreign.record import ForeignRow, Format, identifier, optional_text
from coa.foreign.unreadable import UnreadableReason


def is_sample(row: Mapping[str, Any]) -> bool:
    """Recognise a sample by its columns."""
    has_columns = all(name in row for name in ("id", "epoch", "input", "target"))
    return has_columns and isinstance(row.get("messages"), list)


def read_sample_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a sample.

    Raises:
        UnreadableError: It cannot be read.
    """
    items = row["messages"]
    for number, item in enumerate(items, 1):
        _check_source(item, number)
    chat = chat_of(Format.INSPECT, row, items)
    output = row.get("output")
    model = optional_text(output.get("model")) if isinstance(output, dict) else None
    return to_row(
        replace(
            chat,
            question=optional_text(row["input"]),
            question_id=identifier(row["id"]),
            model=model or "",
        )
    )


def _check_source(item: Any, number: int) -> None:
    """Refuse an assistant's message that the sample's input holds, for the policy did not write it.

    Raises:
        UnreadableError: It is one.
    """
    if not isinstance(item, dict) or role_name(item) != Role.ASSISTANT:
        return
    if item.get("source") == "input":
        detail = "an assistant's message that is part of the input"
        raise refusal(UnreadableReason.UNKNOWN_AUTHOR, number, detail=detail)
