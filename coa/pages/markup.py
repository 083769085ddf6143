"""Write texts that may be hostile as HTML in which nothing runs, vanishes or changes the page.

Argilla renders a field as Markdown and then as HTML, without escaping what records hold. So each
field is one line that begins with a tag, which Markdown leaves alone, and every character of a text
that means something to either language is written as a reference. The reviewer's page then holds
the text, character by character; characters that cannot be seen are in a frame that names them.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from coa.records.trajectory import Author, Step, StepKind

OPENING = '<div class="coa">'
"""The beginning of every field; annotate/embedded/words.py knows by it that the tags are ours."""
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
_SIZE = "font-size:13px;line-height:1.45"
_TEXT = f"white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;{_SIZE}"
# References replace the signs that HTML or Markdown would read. A line break is one of them,
# because a blank line would end the block.
_REFERENCES = {ord(sign): f"&#{ord(sign)};" for sign in "&<>\"'\\`*_{}[]()#+!|~$^=:@\n\t"}
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)


def escaped(text: str, frame: str = _FRAME) -> str:
    """Write `text` as HTML that shows exactly it, on one line.

    `frame` is HTML with `{name}` and `{shown}` for a character that cannot be seen.
    """
    pieces = []
    position = 0
    for found in _UNSEEN.finditer(text):
        pieces.append(_plain(text[position : found.start()]))
        pieces.append(_framed(found[0], frame))
        position = found.end()
    pieces.append(_plain(text[position:]))
    return "".join(pieces)


def _plain(text: str) -> str:
    return text.translate(_REFERENCES)


def _framed(sign: str, frame: str) -> str:
    """Frame a character that cannot be seen; one that HTML cannot hold becomes its picture."""
    code = ord(sign)
    is_surrogate = 0xD800 <= code <= 0xDFFF
    if code < 0x20:
        shown = chr(0x2400 + code)
    elif code == 0x7F:
        shown = "\u2421"
    elif code < 0xA0 or is_surrogate:
        shown = "\ufffd"
    else:
        shown = f"&#{code};"
    name = unicodedata.name(sign, f"U+{code:04X}")
    return frame.format(name=name, shown=shown)


def field(inner: str) -> str:
    """Wrap HTML as a whole field."""
    return f"{OPENING}{inner}</div>"


def text_field(text: str) -> str:
    """Write a field that shows one text."""
    return field(f'<div style="{_TEXT}">{escaped(text)}</div>')


def lines_field(named: Iterable[tuple[str, str]], notes: Sequence[str] = ()) -> str:
    """Write a field that shows texts below each other, each behind its name, with notes below."""
    lines = []
    for name, text in named:
        shown = f'<div style="{_TEXT};display:inline">{escaped(text)}</div>'
        lines.append(f'<div style="{_SIZE};margin:1px 0"><b>{escaped(name)}</b> {shown}</div>')
    return field("".join(lines) + _notes(notes))


def _notes(notes: Sequence[str]) -> str:
    lines = [f'<div style="{_TEXT};margin:6px 0">{escaped(note)}</div>' for note in notes]
    return "".join(lines)


def steps_field(steps: Sequence[Step]) -> str:
    """Write a field with a trajectory's steps, numbered from 1."""
    return field(_boxes(steps, 1))


def _folded_steps(steps: Sequence[Step]) -> str:
    """Write steps behind one line that opens them."""
    if not steps:
        return ""
    plural = "" if len(steps) == 1 else "s"
    return _details(f"{len(steps)} shared step{plural}", _boxes(steps, 1))


def sides_field(
    left: Sequence[Step],
    right: Sequence[Step],
    first: int,
    notes: Sequence[str] = (),
    before: Sequence[Step] = (),
) -> str:
    """Write two continuations side by side, with notes below.

    Steps are numbered from `first`, where the sides part. The steps `before` it, which both sides
    share, are folded above them.
    """
    cells = _side("A", left, first) + _side("B", right, first)
    style = "width:100%;table-layout:fixed;border-collapse:collapse"
    table = f'<table style="{style}"><tr>{cells}</tr></table>'
    return field(_folded_steps(before) + table + _notes(notes))


def _side(name: str, steps: Sequence[Step], first: int) -> str:
    style = "width:50%;vertical-align:top;border:1px solid #d1d5db;padding:6px"
    return f'<td style="{style}"><b>{name}</b>{_boxes(steps, first, marks_first=True)}</td>'


def _boxes(steps: Sequence[Step], first: int, *, marks_first: bool = False) -> str:
    """Write a box for each step that shows a text; with `marks_first` the first one is marked.

    A step of blanks alone has no box, but keeps its number.
    """
    boxes: list[str] = []
    for number, step in enumerate(steps, first):
        if step.text.strip():
            boxes.append(_box(step, number, is_marked=marks_first and not boxes))
    return "".join(boxes)


def _box(step: Step, number: int, *, is_marked: bool) -> str:
    colour = _COLOURS[step.kind]
    background = ";background:#fffbeb" if is_marked else ""
    title = f"{number}. {step.kind}{_AUTHORS[step.author]}"
    if is_marked:
        title += " — the sides part here"
    body = f'<div style="{_TEXT}">{escaped(step.text)}</div>'
    if len(step.text) > _FOLD_CHARS:
        one_line = " ".join(step.text[: 2 * _HEAD_CHARS].split())
        head = escaped(one_line[:_HEAD_CHARS])
        body = _details(f"{len(step.text):,} characters: {head}…", body)
    return (
        f'<div style="border-left:4px solid {colour};padding:2px 8px;margin:6px 0{background}">'
        f'<div style="color:{colour};font-weight:600;font-size:12px">{title}</div>{body}</div>'
    )


def _details(summary: str, inner: str) -> str:
    style = "cursor:pointer;font-size:12px"
    return f'<details><summary style="{style}">{summary}</summary>{inner}</details>'
