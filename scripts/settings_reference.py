"""Write the reference of all settings from the docstrings of their fields.

    python -m scripts.settings_reference        # or `make docs`

They are the tables of docs/params.md, below the marker.
"""

import inspect
import sys
from collections.abc import Sequence
from dataclasses import MISSING, is_dataclass
from enum import EnumType
from pathlib import Path
from typing import Any

from coa.settings.help import (
    Section,
    all_sections,
    enums_of,
    field_docs,
    item_of,
    record_of,
    shown,
    type_of,
)
from coa.settings.sections import hints_of

ROOT = Path(__file__).parent.parent
REFERENCE = Path("docs/params.md")
MARKER = "<!-- From here on written by `make docs` from the docstrings of the settings. -->"


def class_doc(kind: type[Any]) -> str:
    """Return the docstring of a class as paragraphs of one line each."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def all_enums(sections: Sequence[Section]) -> list[EnumType]:
    """Return the enums that settings take their values from, each once, by name."""
    found: dict[str, EnumType] = {}
    for section in sections:
        for hint in hints_of(section.kind).values():
            found |= {kind.__name__: kind for kind in enums_of(hint)}
    return [found[name] for name in sorted(found)]


def render_section(section: Section) -> str:
    """Return one section as Markdown: its heading, what it is, a row for each field."""
    level = "###" if "." in section.name else "##"
    docs = field_docs(section.kind)
    lines = [f"{level} `{section.name}`", "", class_doc(section.kind), ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, hint in hints_of(section.kind).items():
        default, meaning = _describe(section, name, hint, docs.get(name, ""))
        lines.append(f"| `{name}` | {type_of(hint)} | {default} | {meaning} |")
    return "\n".join(lines)


def _describe(section: Section, name: str, hint: Any, doc: str) -> tuple[str, str]:
    """Return the default and the meaning of one field, as two cells of a table."""
    value = section.default(name)
    inner = f"{section.name}.{name}"
    link = f"[`{inner}`](#{inner.replace('.', '')})"
    if record_of(hint) is not None and is_dataclass(value):
        return "", f"{doc.rstrip('.')}: {link}." if doc else f"{link}."
    if item_of(hint) is not None:
        doc = f"{doc} Each: {link}."
    if value is MISSING:
        return "required", doc.replace("|", "\\|")
    return f"`{shown(value)}`".replace("|", "\\|"), doc.replace("|", "\\|")


def render_enum(kind: EnumType) -> str:
    """Return an enum as Markdown: a row for each value."""
    docs = field_docs(kind)
    lines = [f"### {kind.__name__}", "", class_doc(kind), "", "| value | meaning |", "|---|---|"]
    for member in kind:  # type: ignore[var-annotated]
        lines.append(f"| `{member.value}` | {docs.get(member.name, '')} |")
    return "\n".join(lines)


def write_reference(text: str, sections: Sequence[Section]) -> str:
    """Return the text of docs/params.md with all below the marker written anew."""
    head, marker, _ = text.partition(MARKER)
    assert marker, f"{REFERENCE} has lost its marker"
    parts = [head + marker]
    parts += [render_section(section) for section in sections]
    parts += ["## Values"]
    parts += [render_enum(kind) for kind in all_enums(sections)]
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str]) -> str:
    """Write the reference again; the summary line is returned."""
    path = ROOT / REFERENCE
    text = path.read_text(encoding="utf-8")
    path.write_text(write_reference(text, all_sections()), encoding="utf-8")
    return f"{REFERENCE} says what the docstrings say"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
