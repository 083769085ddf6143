"""Read one row of a foreign file, in the format that its columns show or that is asked for.

`FORMATS` lists every format.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from coa.foreign import fireact, r1_searcher
from coa.foreign.record import ForeignRow, Format
from coa.foreign.unreadable import UnreadableError, UnreadableReason

Row = Mapping[str, Any]
"""A row: its values by column."""


class FormatReader(NamedTuple):
    """How one format is recognised and read."""

    format: Format
    recognises: Callable[[Row], bool]
    """Whether a row has the format, by its columns and their content."""
    read: Callable[[Row], ForeignRow]
    """Reads a row of the format; raises an `UnreadableError` where it cannot."""


FORMATS = (
    FormatReader(
        Format.R1_SEARCHER,
        lambda row: isinstance(row.get("gen_text_store"), str),
        r1_searcher.read_r1_searcher_row,
    ),
    FormatReader(
        Format.FIREACT_CHAT,
        lambda row: isinstance(row.get("traj"), list),
        fireact.read_chat_run,
    ),
    FormatReader(
        Format.FIREACT_TEXT,
        lambda row: isinstance(row.get("traj"), str),
        fireact.read_text_run,
    ),
    FormatReader(
        Format.FIREACT_TRAINING,
        lambda row: isinstance(row.get("output"), str) and "instruction" in row,
        fireact.read_training,
    ),
    FormatReader(
        Format.FIREACT_TRAINING_CHAT,
        lambda row: isinstance(row.get("messages"), list),
        fireact.read_training_chat,
    ),
)
"""All formats; the first that recognises a row reads it."""


def read_foreign_row(row: Row, expected: Format = Format.AUTO) -> ForeignRow:
    """Read a row of any known format, or of the expected one.

    Raises:
        UnreadableError: the row has other columns, no question, or a text that its format does not
            allow.
    """
    found = tell_format(row)
    if found is None or expected not in (Format.AUTO, found.format):
        columns = ", ".join(sorted(row))[:200]
        detail = f"{found.format if found else 'no known format'}; columns {columns}"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    return found.read(row)


def tell_format(row: Row) -> FormatReader | None:
    """Recognise a row's format by its columns; None for an unknown one."""
    for reader in FORMATS:
        if reader.recognises(row):
            return reader
    return None
