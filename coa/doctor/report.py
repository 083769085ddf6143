"""Sum up examined rows, and show them: a table, one row in colour, JSON."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coa.doctor.examine import MIXED
from coa.doctor.findings import AuthorCount, Examination, Fault, Finding, ShownPiece
from coa.records.trajectory import Author
from coa.terminal import printable

_STYLES = {
    str(Author.POLICY): "green",
    str(Author.ENVIRONMENT): "yellow",
    str(Author.SCAFFOLD): "magenta",
    MIXED: "red",
}
_WRONG = "bold white on red"
_SHOWN_CHARS = 6000
"""Characters of a row that are shown; the rest is counted."""
_CONTEXT_CHARS = 400
"""Characters that are shown before the first wrong token of a long row."""
_ID_CHARS = 60
_DETAIL_CHARS = 160
_MAX_REPORTED = 10_000
"""Rows with findings that the JSON lists; all of them are counted."""


@dataclass(slots=True)
class Summary:
    """What was found in all rows."""

    num_rows: int = 0
    num_clean: int = 0
    counts: dict[str, AuthorCount] = field(default_factory=dict)
    """Tokens by author, and how many of them are trained."""
    rows_by_fault: Counter[Fault] = field(default_factory=Counter)
    examples: dict[Fault, tuple[str, Finding]] = field(default_factory=dict)
    """The first row with each fault."""
    reported: list[tuple[str, tuple[Finding, ...]]] = field(default_factory=list)
    """The rows with findings."""
    wanted: str = ""
    """A part of the id of the row to show; empty: the first row with a finding, or the first."""
    shown: Examination | None = None
    """The row to show."""

    def add(self, row: Examination) -> None:
        """Count a row."""
        self.num_rows += 1
        self.num_clean += row.is_clean
        for author, count in row.counts.items():
            before = self.counts.get(author, AuthorCount(0, 0))
            tokens = before.tokens + count.tokens
            self.counts[author] = AuthorCount(tokens, before.trained + count.trained)
        self.rows_by_fault.update(dict.fromkeys((item.fault for item in row.findings), 1))
        for finding in row.findings:
            self.examples.setdefault(finding.fault, (row.row_id, finding))
        if row.findings and len(self.reported) < _MAX_REPORTED:
            self.reported.append((row.row_id, row.findings))
        if not row.pieces:
            return
        is_better = self.shown is None
        if self.shown and self.wanted:
            is_better = self.wanted in row.row_id and self.wanted not in self.shown.row_id
        elif self.shown:
            is_better = self.shown.is_clean and not row.is_clean
        if is_better:
            self.shown = row

    def add_of_tokenizer(self, finding: Finding) -> None:
        """Add what is wrong with the tokenizer and not with one row."""
        self.rows_by_fault[finding.fault] += 1
        self.examples.setdefault(finding.fault, ("the tokenizer", finding))

    @property
    def has_faults(self) -> bool:
        """Whether a row or the tokenizer has a fault."""
        return bool(self.rows_by_fault)


JSON_KEYS = ("rows", "clean", "rows_by_fault", "rows_with_findings")
"""Keys that identify a file of findings."""


def as_json(summary: Summary) -> str:
    """Write a summary and the rows with findings as JSON."""
    rows = []
    for row_id, findings in summary.reported:
        rows.append({"row": row_id, "findings": [asdict(finding) for finding in findings]})
    document = {
        "rows": summary.num_rows,
        "clean": summary.num_clean,
        "tokens": {author: count._asdict() for author, count in summary.counts.items()},
        "rows_by_fault": dict(summary.rows_by_fault.most_common()),
        "rows_with_findings": rows,
    }
    return json.dumps(document, indent=2) + "\n"


def as_tables(summary: Summary) -> RenderableType:
    """Return what to print: who wrote what and how much is trained, then the faults."""
    tokens = Table("author", "tokens", "trained", "share")
    for author, count in sorted(summary.counts.items()):
        share = f"{count.trained / count.tokens:.1%}"
        name = Text(author, style=_STYLES.get(author, ""))
        tokens.add_row(name, f"{count.tokens:,}", f"{count.trained:,}", share)
    faults = Table("fault", "rows", "first in", "token", "text or reason")
    for fault, num_rows in summary.rows_by_fault.most_common():
        row_id, finding = summary.examples[fault]
        token = "" if finding.token is None else f"{finding.token:,}"
        shown_id = _short(row_id, _ID_CHARS)
        detail = _short(finding.detail, _DETAIL_CHARS)
        faults.add_row(Text(fault, style="red"), f"{num_rows:,}", shown_id, token, detail)
    shown: list[RenderableType] = [tokens] if summary.counts else []
    if summary.has_faults:
        shown.append(faults)
    return Group(*shown)


def _short(text: str, num_chars: int) -> Text:
    """Return a text as one line that cannot act on the terminal."""
    line = " ".join(text.split())
    if len(line) > num_chars:
        line = line[: num_chars - 3] + "..."
    return Text(printable(line))


def in_colour(row: Examination) -> Text:
    """Return a row: colours tell the author, underlined text is trained, red ground is wrong."""
    shown = Text()
    shown.append(f"{printable(row.row_id)}\n", style="bold")
    for author in (*Author, MIXED):
        shown.append(f" {author} ", style=_STYLES[str(author)])
    shown.append(" trained ", style="underline")
    shown.append(" wrong ", style=_WRONG)
    shown.append("\n")
    for text, piece in _window(row.pieces):
        style = _WRONG if piece.is_wrong else _STYLES.get(piece.author, "dim")
        if piece.is_trained:
            style += " underline"
        shown.append(printable(text), style=style)
    return shown


def _window(pieces: tuple[ShownPiece, ...]) -> Iterator[tuple[str, ShownPiece]]:
    """Yield the part of a row that is shown: from its beginning, or from shortly before a fault."""
    length = 0
    first_wrong: int | None = None
    for piece in pieces:
        if first_wrong is None and (piece.is_wrong or piece.author == MIXED):
            first_wrong = length
        length += len(piece.text)
    start = 0
    if length > _SHOWN_CHARS:
        start = max(0, (first_wrong or 0) - _CONTEXT_CHARS)
    position = 0
    for piece in pieces:
        text = piece.text[max(0, start - position) : max(0, start + _SHOWN_CHARS - position)]
        position += len(piece.text)
        if text:
            yield text, piece
    if length > _SHOWN_CHARS:
        note = f"\n(of {length:,} characters, {_SHOWN_CHARS:,} at most are shown)"
        yield note, ShownPiece(note, "", is_trained=False, is_wrong=False)
