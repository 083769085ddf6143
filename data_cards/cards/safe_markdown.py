"""Turn texts that may be hostile into Markdown that they cannot break out of.

Texts come from models and from the web. None of them becomes a heading, a link, an element or a
cell of its own: a block is in a fence longer than any run of backticks in it, a name in a line
is a code span if it is harmless and spelled in character references otherwise. `Markdown` marks
what is safe, so that the type checker finds what is not.
"""

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NewType

import polars as pl

Markdown = NewType("Markdown", str)
"""Text that may be put into a card as it is."""

DASH = Markdown("–")  # noqa: RUF001
"""What a cell without a value shows."""
_HARMLESS_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/@+-]*[A-Za-z0-9])?")
_MAX_NAME_CHARS = 80
_BACKTICKS = re.compile(r"`+")
_NUMBER = re.compile(r"[<+−-]?[\d.,]+%?|–")  # noqa: RUF001
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories of characters that show nothing or move their neighbours.

They are controls, marks of direction and separators.
"""


def visible(text: str) -> str:
    r"""Write every character that cannot be seen as `\u202e`; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    shown = []
    for character in text.replace("\r\n", "\n"):
        if character in "\n\t" or unicodedata.category(character) not in _UNSEEN:
            shown.append(character)
        else:
            code = ord(character)
            shown.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(shown)


def cut(text: str, limit: int) -> str:
    """Keep the first `limit` characters of a text and say how many were left out, if any."""
    left_out = len(text) - limit
    if left_out <= 0:
        return text
    return f"{text[:limit]} [... {left_out:,} more characters]"


def fence(text: str, language: str = "text") -> Markdown:
    """Put a text into a block of code; no run of backticks inside it is as long as the fence."""
    text = visible(text)
    longest_run = max(_BACKTICKS.findall(text), key=len, default="")
    ticks = "`" * max(3, 1 + len(longest_run))
    return Markdown(f"{ticks}{language}\n{text}\n{ticks}")


def inline(text: str) -> Markdown:
    """Show a name in the middle of a line or in a cell: on one line, of bounded length."""
    beginning = visible(text[: 2 * _MAX_NAME_CHARS])
    name = cut(" ".join(beginning.split()), _MAX_NAME_CHARS)
    if _HARMLESS_NAME.fullmatch(name):
        return Markdown(f"`{name}`")
    return Markdown("".join(_reference(character) for character in name))


def _reference(character: str) -> str:
    """Spell an ASCII character that may mean something in Markdown as a character reference."""
    if not character.isascii() or character.isalnum() or character == " ":
        return character
    return f"&#{ord(character)};"


def stated(text: str, missing: str = "not stated") -> Markdown:
    """Show a name as `inline`, and say of an empty one that it is missing."""
    return inline(text) if text else Markdown(missing)


def words(identifier: str) -> Markdown:
    """Show an identifier such as `no_answer` as plain words; show anything else as `inline`."""
    is_plain = re.fullmatch(r"[a-z]+(?:_[a-z]+)*", identifier)
    if not is_plain or len(identifier) > _MAX_NAME_CHARS:
        return inline(identifier)
    return Markdown(identifier.replace("_", " "))


def wrapped(text: str, indent: str, width: int) -> str:
    """Indent every line of a text and break it at `width` columns; empty lines stay empty."""
    lines: list[str] = []
    for line in visible(text).split("\n"):
        pieces = textwrap.wrap(
            line, width - len(indent), expand_tabs=True, replace_whitespace=False
        )
        lines += [indent + piece for piece in pieces] or [""]
    return "\n".join(lines)


def share(part: float, whole: float) -> Markdown:
    """Give a part of a whole in per cent; a dash where there is no whole."""
    if 0 < part < 0.0005 * whole:
        return Markdown("<0.1%")
    return Markdown(f"{part / whole:.1%}") if whole else DASH


Cell = Markdown | int


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markdown:
    """Write a table whose columns line up in the source, columns of numbers to the right."""
    lines = []
    for row in rows:
        lines.append([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row])
    columns = []
    for index, heading in enumerate(headings):
        cells = [line[index] for line in lines]
        width = max(len(text) for text in (heading, "---", *cells))
        if cells and all(_NUMBER.fullmatch(cell) for cell in cells if cell):
            rule = "-" * (width - 1) + ":"
            columns.append([cell.rjust(width) for cell in (heading, rule, *cells)])
        else:
            columns.append([cell.ljust(width) for cell in (heading, "-" * width, *cells)])
    shown = [f"| {' | '.join(line)} |" for line in zip(*columns, strict=True)]
    return Markdown("\n".join(shown))


def frame_table(
    frame: pl.DataFrame, shows: Mapping[str, Callable[[Any], Cell]] = MappingProxyType({})
) -> Markdown:
    """Write a frame as a table under the names of its columns; empty for a frame without rows.

    Whole numbers are shown as they are, what is missing as a dash, and all else by `inline`.

    Args:
        frame: The rows.
        shows: How the values of a column are shown instead, by its name.
    """
    if frame.is_empty():
        return Markdown("")
    rows: list[list[Cell]] = []
    for line in frame.iter_rows(named=True):
        cells: list[Cell] = []
        for name, value in line.items():
            if value is None:
                cells.append(DASH)
            elif name in shows:
                cells.append(shows[name](value))
            else:
                cells.append(value if isinstance(value, int) else inline(str(value)))
        rows.append(cells)
    return table(frame.columns, rows)
