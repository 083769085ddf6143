"""Write the reference of all columns from the dataclasses of the records.

    python -m scripts.columns_reference        # or `make docs`

They are the tables of docs/data_model.md, below the marker.
"""

import sys
import types
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import EnumType
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from coa.microworld.pretraining import PretrainingDocument
from coa.records.causes import Analysis
from coa.records.drops import Dropped
from coa.records.exclusions import EvaluationSet, Excluded
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Trajectory
from coa.rollout.points import Point
from coa.search import Passage
from coa.search.building import Manifest
from coa.settings.help import field_docs
from coa.store.reviews import Agreement, Applied, Preference, Review, Usage
from scripts.settings_reference import class_sentence, first_sentence
from synth.ingest import DroppedLine, Recorded
from synth.question_file import DroppedQuestion

ROOT = Path(__file__).parent.parent
REFERENCE = Path("docs/data_model.md")
MARKER = "<!-- From here on written by `make docs` from the dataclasses of the records. -->"
TABLES: tuple[type[Any], ...] = (
    Question,
    Passage,
    Trajectory,
    GradedTrajectory,
    Dropped,
    PreferencePair,
    Point,
    Analysis,
    Excluded,
    EvaluationSet,
    Review,
    Agreement,
    Applied,
    Recorded,
    DroppedLine,
    DroppedQuestion,
    PretrainingDocument,
    Manifest,
)
"""The records of which the files under data/ have one a row."""
WRITTEN_AS_TEXT = (Usage, Preference)
"""Enums whose values stand in columns of text."""


def all_records() -> list[type[Any]]:
    """Return the records of all tables, each followed by the new ones within it."""
    found: list[type[Any]] = []
    for table in TABLES:
        _add_record(table, found)
    return found


def _add_record(record: type[Any], found: list[type[Any]]) -> None:
    if record in found:
        return
    found.append(record)
    for hint in get_type_hints(record).values():
        for kind in _kinds_within(hint):
            if isinstance(kind, type) and is_dataclass(kind):
                _add_record(kind, found)


def _kinds_within(hint: Any) -> Iterator[Any]:
    if isinstance(hint, type):
        yield hint
    for part in get_args(hint):
        yield from _kinds_within(part)


def all_enums(records: Sequence[type[Any]]) -> list[EnumType]:
    """Return the enums that columns take their values from, in the order of the columns."""
    found: list[EnumType] = []
    for record in records:
        for hint in get_type_hints(record).values():
            for kind in _kinds_within(hint):
                if isinstance(kind, EnumType) and kind not in found:
                    found.append(kind)
    return [*found, *WRITTEN_AS_TEXT]


def type_name(hint: Any) -> str:
    """Name the type of a column; records and enums link to their tables."""
    if isinstance(hint, types.UnionType):
        present = next(part for part in get_args(hint) if part is not types.NoneType)
        return f"{type_name(present)} or null"
    if get_origin(hint) is tuple:
        return f"list of {type_name(get_args(hint)[0])}"
    plain = {str: "text", int: "integer", float: "number", bool: "boolean"}.get(hint)
    return plain or f"[{hint.__name__}](#{hint.__name__.lower()})"


def render_record(record: type[Any]) -> str:
    """Return a record as Markdown: what it is, a row for each column."""
    docs = field_docs(record)
    hints = get_type_hints(record)
    lines = [f"### {record.__name__}", "", class_sentence(record), ""]
    lines += ["|column|type|meaning|", "|---|---|---|"]
    for field in fields(record):
        meaning = first_sentence(docs.get(field.name, ""))
        lines.append(f"|`{field.name}`|{type_name(hints[field.name])}|{meaning}|")
    return "\n".join(lines)


def render_enum(kind: EnumType) -> str:
    """Return an enum as Markdown: a row for each value."""
    docs = field_docs(kind)
    lines = [f"### {kind.__name__}", "", "|value|meaning|", "|---|---|"]
    for member in kind:  # type: ignore[var-annotated]
        lines.append(f"|`{member.value}`|{first_sentence(docs.get(member.name, ''))}|")
    return "\n".join(lines)


def write_reference(text: str) -> str:
    """Return the text of docs/data_model.md with all below the marker written anew."""
    head, marker, _ = text.partition(MARKER)
    assert marker, f"{REFERENCE} has lost its marker"
    records = all_records()
    parts = [head + marker, "## Records"]
    parts += [render_record(record) for record in records]
    parts += ["## Values"]
    parts += [render_enum(kind) for kind in all_enums(records)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> str:
    """Write the reference again; the summary line is returned."""
    path = ROOT / REFERENCE
    text = path.read_text(encoding="utf-8")
    path.write_text(write_reference(text), encoding="utf-8")
    return f"{REFERENCE} says what the records say"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
