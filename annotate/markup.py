"""Texts that may be hostile to HTML that Argilla shows as it is: nothing in them runs, vanishes or changes the page.

Argilla renders a field as Markdown and then as HTML, without escaping what records hold. So each field is one line that
begins with a tag, which Markdown leaves alone, and every character of a text that means something to either language
is written as a reference. What the reviewer's page holds is the text, character by character; characters that cannot
be seen stand in a frame that names them.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from coa.trajectory import Author, Step, StepKind

OPENING = '<div class="coa">'
"""How every field begins; annotate/embedded/words.py knows by it that tags are ours."""
_FOLD_CHARS = 1_200
"""A step longer than this is folded: an observation is read when it matters."""
_HEAD_CHARS = 160
_FRAME = '<span style="border:1px dotted #b91c1c" title="{name}">{shown}</span>'
_COLOURS = {
    StepKind.THOUGHT: "#4b5563",
    StepKind.ACTION: "#1d4ed8",
    StepKind.OBSERVATION: "#047857",
    StepKind.ANSWER: "#6d28d9",
    StepKind.MARKER: "#b45309",
}
_AUTHORS = {Author.POLICY: "", Author.ENVIRONMENT: ", search engine", Author.SCAFFOLD: ", inserted"}
_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;font-size:13px;line-height:1.45"
# References for what HTML or Markdown would read; a line break as a reference, for a blank line would end the block.
_REFERENCES = {ord(sign): f"&#{ord(sign)};" for sign in "&<>\"'\\`*_{}[]()#+!|~$^=:@\n\t"}
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def escaped(text: str) -> str:
    """`text` as HTML that shows exactly it, on one line."""
    pieces, position = [], 0
    for found in _UNSEEN.finditer(text):
        pieces += [_plain(text[position : found.start()]), _framed(found[0])]
        position = found.end()
    return "".join([*pieces, _plain(text[position:])])


def _plain(text: str) -> str:
    return text.translate(_REFERENCES)


def _framed(sign: str) -> str:
    """A character that cannot be seen, in a frame; one that HTML cannot hold becomes its picture."""
    code = ord(sign)
    picture = chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
    shown = picture if code < 0xA0 or 0xD800 <= code <= 0xDFFF else f"&#{code};"
    name = unicodedata.name(sign, f"U+{code:04X}")
    return _FRAME.format(name=name, shown=shown)


def field(inner: str) -> str:
    """A whole field."""
    return f"{OPENING}{inner}</div>"


def text_field(text: str) -> str:
    """A field that shows one text."""
    return field(f'<div style="{_TEXT}">{escaped(text)}</div>')


def list_field(texts: Iterable[str]) -> str:
    """A field that shows texts one below the other."""
    return field(
        "".join(f'<div style="{_TEXT};margin:2px 0">• {escaped(text)}</div>' for text in texts)
    )


def steps_field(steps: Sequence[Step]) -> str:
    """A trajectory's steps, numbered from 1."""
    return field(_boxes(steps, 1))


def folded_steps_field(steps: Sequence[Step]) -> str:
    """Steps behind one line that opens them."""
    title = f"{len(steps)} shared step{'' if len(steps) == 1 else 's'}"
    return field(_details(title, _boxes(steps, 1)) if steps else "none")


def sides_field(left: Sequence[Step], right: Sequence[Step], first: int) -> str:
    """Two continuations side by side; their steps are numbered from `first`, where they part."""
    cells = "".join(
        '<td style="width:50%;vertical-align:top;border:1px solid #d1d5db;padding:6px">'
        f"<b>{name}</b>{_boxes(side, first, marks_first=True)}</td>"
        for name, side in (("A", left), ("B", right))
    )
    return field(
        f'<table style="width:100%;table-layout:fixed;border-collapse:collapse"><tr>{cells}</tr></table>'
    )


def _boxes(steps: Sequence[Step], first: int, *, marks_first: bool = False) -> str:
    marked = (
        next((i for i, step in enumerate(steps) if step.text.strip()), -1) if marks_first else -1
    )
    return "".join(_box(step, first + i, is_marked=i == marked) for i, step in enumerate(steps))


def _box(step: Step, number: int, *, is_marked: bool) -> str:
    colour, background = _COLOURS[step.kind], ";background:#fffbeb" if is_marked else ""
    title = f"{number}. {step.kind}{_AUTHORS[step.author]}{' — the sides part here' if is_marked else ''}"
    body = f'<div style="{_TEXT}">{escaped(step.text)}</div>'
    if len(step.text) > _FOLD_CHARS:
        head = escaped(" ".join(step.text[: 2 * _HEAD_CHARS].split())[:_HEAD_CHARS])
        body = _details(f"{len(step.text):,} characters: {head}…", body)
    return (
        f'<div style="border-left:4px solid {colour};padding:2px 8px;margin:6px 0{background}">'
        f'<div style="color:{colour};font-weight:600;font-size:12px">{title}</div>{body}</div>'
    )


def _details(summary: str, inner: str) -> str:
    return f'<details><summary style="cursor:pointer;font-size:12px">{summary}</summary>{inner}</details>'
