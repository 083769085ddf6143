"""Write the reference of all settings, in short, from the docstrings of their fields.

    python -m scripts.settings_reference        # or `make docs`

They are the tables of docs/params.md, below the marker. `coa NAME --help` shows the full text.
"""

import inspect
import re
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
)
from coa.settings.sections import hints_of

ROOT = Path(__file__).parent.parent
REFERENCE = Path("docs/params.md")
MARKER = "<!-- From here on written by `make docs` from the docstrings of the settings. -->"


def first_sentence(text: str) -> str:
    """Return what stands before the first full stop or semicolon of a docstring, for a table."""
    plain = re.sub(r" \(docs/[^)]*\)", "", " ".join(text.split()))
    sentence = re.split(r"(?<!\.)[.;] ", plain, maxsplit=1)[0]
    return re.sub(r"(?<!\.)\.$|, \.\.\.?$", "", sentence).replace("|", "\\|")


def class_sentence(kind: type[Any]) -> str:
    """Return the first sentence of the docstring of a class."""
    return f"{first_sentence(inspect.getdoc(kind) or '')}."


def render_section(section: Section, explained: dict[type[Any], Section]) -> str:
    """Return one section as Markdown: its heading, what it is, a row for each field.

    A record that an earlier section has explained gets a link to it, and its other defaults.
    """
    level = "###" if "." in section.name else "##"
    lines = [f"{level} `{section.name}`", ""]
    earlier = explained.setdefault(section.kind, section)
    if earlier is not section:
        lines.append(f"As {_link(earlier.name)}{_other_defaults(section, earlier)}")
        return "\n".join(lines)
    docs = field_docs(section.kind)
    lines += [class_sentence(section.kind), "", "|setting|default|meaning|", "|---|---|---|"]
    for name, hint in hints_of(section.kind).items():
        meaning = first_sentence(docs.get(name, ""))
        value = section.default(name)
        if record_of(hint) is not None and is_dataclass(value):
            lines.append(f"|{_link(f'{section.name}.{name}')}||{meaning}|")
            continue
        if item_of(hint) is not None:
            meaning = f"{meaning}; each: {_link(f'{section.name}.{name}')}"
        lines.append(f"|`{name}`|{_default(value)}|{meaning}|")
    return "\n".join(lines)


def _link(name: str) -> str:
    return f"[`{name}`](#{name.replace('.', '')})"


def _default(value: Any) -> str:
    if value is MISSING:
        return "required"
    return f"`{shown(value)}`".replace("|", "\\|")


def _other_defaults(section: Section, earlier: Section) -> str:
    other = []
    for name in hints_of(section.kind):
        value = section.default(name)
        if not is_dataclass(value) and value != earlier.default(name):
            other.append(f"`{name}={shown(value)}`".replace("|", "\\|"))
    return f", but {', '.join(other)}." if other else "."


def all_enums(sections: Sequence[Section]) -> list[EnumType]:
    """Return the enums that settings take their values from, each once, by name."""
    found: dict[str, EnumType] = {}
    for section in sections:
        for hint in hints_of(section.kind).values():
            found |= {kind.__name__: kind for kind in enums_of(hint)}
    return [found[name] for name in sorted(found)]


def settings_of(kind: EnumType, sections: Sequence[Section]) -> list[str]:
    """Return the names of the settings that take their values from an enum."""
    found = []
    for section in sections:
        for name, hint in hints_of(section.kind).items():
            if kind in enums_of(hint):
                found.append(f"{section.name}.{name}")
    return found


def render_values(sections: Sequence[Section]) -> str:
    """Return a table with the values of each setting that is one of a few words."""
    lines = ["|setting|values|", "|---|---|"]
    for kind in all_enums(sections):
        settings = [f"`{name}`" for name in settings_of(kind, sections)]
        values = [f"`{shown(member.value)}`" for member in kind]  # type: ignore[var-annotated]
        lines.append(f"|{', '.join(settings)}|{', '.join(values)}|")
    return "\n".join(lines)


def write_reference(text: str, sections: Sequence[Section]) -> str:
    """Return the text of docs/params.md with all below the marker written anew."""
    head, marker, _ = text.partition(MARKER)
    assert marker, f"{REFERENCE} has lost its marker"
    explained: dict[type[Any], Section] = {}
    parts = [head + marker]
    parts += [render_section(section, explained) for section in sections]
    parts += ["## Values", render_values(sections)]
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
