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
"""What stands in a cell without a value."""
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
    text = text.replace("\r\n", "\n")
    return "".join(_visible_character(character) for character in text)


def _visible_character(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


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
    lines = [[_cell(cell) for cell in row] for row in rows]
    widths = []
    is_right = []
    rule = []
    for index, heading in enumerate(headings):
        column = [line[index] for line in lines]
        width = max(len(text) for text in (heading, "---", *column))
        holds_numbers = _holds_numbers(column)
        widths.append(width)
        is_right.append(holds_numbers)
        rule.append("-" * (width - 1) + ":" if holds_numbers else "-" * width)
    shown = [_line(line, widths, is_right) for line in (headings, rule, *lines)]
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


def _cell(cell: Cell) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _holds_numbers(column: Sequence[str]) -> bool:
    """Say whether every cell of a column is a number or empty; a column without rows is not."""
    return bool(column) and all(_NUMBER.fullmatch(cell) for cell in column if cell)


def _line(cells: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = []
    for cell, width, right in zip(cells, widths, is_right, strict=True):
        padded.append(cell.rjust(width) if right else cell.ljust(width))
    return f"| {' | '.join(padded)} |"
