"""Texts that may be hostile to Markdown that they cannot break out of.

Texts come from models and from the web. None of them becomes a heading, a link, an element or a cell of its own: a
block stands in a fence longer than any run of backticks in it, a name in a line is a code span if it is harmless and
spelled in character references otherwise. `Markdown` marks what is safe: the type checker finds what is not.
"""

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NewType

Markdown = NewType("Markdown", str)
"""Text that may stand in a card as it is."""

_HARMLESS_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:/@+-]*[A-Za-z0-9])?")
_MAX_NAME_CHARS = 80
_BACKTICKS = re.compile(r"`+")
_NUMBER = re.compile(r"[<+−-]?[\d.,]+%?|–")  # noqa: RUF001
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that show nothing or move what stands beside them: controls, marks of direction, separators."""


def visible(text: str) -> str:
    r"""`text` with every character that cannot be seen written as `\u202e`; line breaks and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    text = text.replace("\r\n", "\n")
    return "".join(
        _escaped(c) if unicodedata.category(c) in _UNSEEN and c not in "\n\t" else c for c in text
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def cut(text: str, limit: int) -> str:
    """The first `limit` characters of `text`, and how many were left out, if any."""
    left_out = len(text) - limit
    return text if left_out <= 0 else f"{text[:limit]} [... {left_out:,} more characters]"


def fence(text: str, language: str = "text") -> Markdown:
    """A block of code around `text`; no run of backticks inside it is as long as the fence."""
    text = visible(text)
    ticks = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(text)), default=0))
    return Markdown(f"{ticks}{language}\n{text}\n{ticks}")


def inline(text: str) -> Markdown:
    """A name for the middle of a line or for a cell of a table, on one line and of bounded length."""
    name = cut(" ".join(visible(text[: 2 * _MAX_NAME_CHARS]).split()), _MAX_NAME_CHARS)
    if _HARMLESS_NAME.fullmatch(name):
        return Markdown(f"`{name}`")
    return Markdown(
        "".join(f"&#{ord(c)};" if c.isascii() and not c.isalnum() and c != " " else c for c in name)
    )


def words(identifier: str) -> Markdown:
    """An identifier such as `no_answer` as plain words; anything else as `inline` shows it."""
    is_plain = (
        re.fullmatch(r"[a-z]+(?:_[a-z]+)*", identifier) and len(identifier) <= _MAX_NAME_CHARS
    )
    return Markdown(identifier.replace("_", " ")) if is_plain else inline(identifier)


def wrapped(text: str, indent: str, width: int) -> str:
    """`text` with every line indented and broken at `width` columns; empty lines stay empty."""
    lines: list[str] = []
    for line in visible(text).split("\n"):
        pieces = textwrap.wrap(
            line, width - len(indent), expand_tabs=True, replace_whitespace=False
        )
        lines += [indent + piece for piece in pieces] or [""]
    return "\n".join(lines)


def share(part: float, whole: float) -> Markdown:
    """A part of a whole in per cent; a dash where there is no whole."""
    if 0 < part < 0.0005 * whole:
        return Markdown("<0.1%")
    return Markdown(f"{part / whole:.1%}" if whole else "–")  # noqa: RUF001


Cell = Markdown | int


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Markdown:
    """A table whose columns line up in the source too; columns of numbers are set to the right."""
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True)) if cells else [()] * len(headings)
    widths = [
        max(map(len, (heading, "---", *column)))
        for heading, column in zip(headings, columns, strict=True)
    ]
    is_right = [
        bool(column) and all(_NUMBER.fullmatch(cell) for cell in column if cell)
        for column in columns
    ]
    rule = [
        ("-" * (width - 1) + ":") if right else "-" * width
        for width, right in zip(widths, is_right, strict=True)
    ]
    lines = [_line(headings, widths, is_right), _line(rule, widths, is_right)]
    return Markdown("\n".join([*lines, *(_line(row, widths, is_right) for row in cells)]))


def _line(cells: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, is_right, strict=True)
    ]
    return f"| {' | '.join(padded)} |"
