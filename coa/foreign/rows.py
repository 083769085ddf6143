"""Read one row of a foreign file, in the format that it shows or that is asked for.

`FORMATS` lists every format.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from coa.foreign import chats, logs
from coa.foreign.autocoa import has_own_tags, read_autocoa
from coa.foreign.react import is_numbered_react, is_react, read_numbered_react, read_react_text
from coa.foreign.record import ForeignRow, Format
from coa.foreign.tag_families import R1_SEARCHER, TAG_FAMILIES, TagFamily
from coa.foreign.tagged_text import read_tagged_text, tell_family
from coa.foreign.text_rows import find_text, read_text_row
from coa.records.trajectory import Step
from coa.records.unreadable import UnreadableError, UnreadableReason

Row = Mapping[str, Any]
"""A row: its values by column."""


class FormatReader(NamedTuple):
    """How one format is recognised and read."""

    format: Format
    recognises: Callable[[Row], bool]
    """Whether a row has the format, by its columns and their content."""
    read: Callable[[Row], ForeignRow]
    """Reads a row of the format; raises an `UnreadableError` where it cannot."""
    is_in: Callable[[str], bool] | None = None
    """Formats of one text: whether a text has it. They may be asked to read any row with a text."""


def _text_format(
    form: Format,
    is_in: Callable[[str], bool],
    read_text: Callable[[str], tuple[Step, ...]],
) -> FormatReader:
    """Make the reader of a format whose rows hold a trajectory as one text."""

    def recognises(row: Row) -> bool:
        found = find_text(row)
        return found is not None and is_in(found.body)

    read = partial(read_text_row, form=form, read=read_text)
    return FormatReader(form, recognises, read, is_in)


def _tag_format(family: TagFamily) -> FormatReader:
    """Make the reader of a tag family."""

    def is_in(text: str) -> bool:
        return tell_family(text) is family

    return _text_format(family.format, is_in, partial(read_tagged_text, family=family))


COLUMN_FORMATS = (
    FormatReader(
        Format.R1_SEARCHER,
        lambda row: isinstance(row.get("gen_text_store"), str),
        partial(
            read_text_row,
            form=Format.R1_SEARCHER,
            read=partial(read_tagged_text, family=R1_SEARCHER),
        ),
    ),
    FormatReader(Format.REACT, chats.is_react_chat, chats.read_react_chat_row),
    FormatReader(Format.ATIF, logs.is_atif, logs.read_atif_row),
    FormatReader(Format.VERIFIERS, logs.is_trace, logs.read_trace_row),
    FormatReader(Format.INSPECT, logs.is_sample, logs.read_sample_row),
    FormatReader(Format.MESSAGES, chats.is_messages, chats.read_messages_row),
    FormatReader(Format.SHAREGPT, chats.is_sharegpt, chats.read_sharegpt_row),
)
"""The formats with columns of their own."""
TEXT_FORMATS = (
    _text_format(Format.REACT, is_react, read_react_text),
    _text_format(Format.REFLEXION, is_numbered_react, read_numbered_react),
    _text_format(Format.AUTOCOA, has_own_tags, read_autocoa),
    *(_tag_format(family) for family in TAG_FAMILIES),
)
"""The formats of rows with one text, which its tags or labels show."""
FORMATS = (*COLUMN_FORMATS, *TEXT_FORMATS)
"""All formats. A format with columns of its own goes before one of a text."""


def read_foreign_row(row: Row, expected: Format = Format.AUTO) -> ForeignRow:
    """Read a row of any known format, or of the expected one.

    Raises:
        UnreadableError: the row has other columns, no question, or a text that its format does not
            allow, or that several formats may read.
    """
    for reader in FORMATS:
        if reader.format is expected and (reader.is_in or reader.recognises(row)):
            return reader.read(row)
    found = tell_format(row)
    if found is None or expected is not Format.AUTO:
        columns = ", ".join(sorted(row))[:200]
        detail = f"{found.format if found else 'no known format'}; columns {columns}"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    return found.read(row)


def tell_format(row: Row) -> FormatReader | None:
    """Recognise a row's format; None for an unknown one.

    Raises:
        UnreadableError: several formats may read the row.
    """
    for reader in COLUMN_FORMATS:
        if reader.recognises(row):
            return reader
    text = find_text(row)
    if text is None:
        return None
    found = [reader for reader in TEXT_FORMATS if reader.is_in and reader.is_in(text.body)]
    if len(found) > 1:
        detail = "the text may be one of " + " or ".join(reader.format for reader in found)
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    return found[0] if found else None
