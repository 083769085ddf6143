"""Describe settings from their dataclasses: for `--help`, and for the reference in docs/params.md.

A setting is explained in one place: the docstring below its field.
"""

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import EnumType
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

import msgspec

from coa.errors import ConfigError
from coa.settings.params import (
    DEFAULT_PROFILE,
    PARAMS_FILE,
    Params,
    chosen_value,
    read_chosen,
    read_profiles,
)
from coa.settings.sections import SECTIONS, default_of, hints_of, kind_of

_MAX_VALUE = 100


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the settings, or a record within one."""

    name: str
    """As it is spelled in params.yaml, with dots."""
    kind: type[Any]
    """The record that it becomes."""
    preset: Any = None
    """A record with its defaults; None: those of `kind`."""

    def default(self, name: str) -> Any:
        """Return the default of a field; `MISSING` where it must be given."""
        if self.preset is not None:
            return getattr(self.preset, name)
        (found,) = [field for field in fields(self.kind) if field.name == name]
        return default_of(found)


def all_sections() -> list[Section]:
    """Return all sections in the order of the list, each before the records within it."""
    found: list[Section] = []
    for name in SECTIONS:
        found.extend(sections_within(name))
    return found


def sections_within(name: str) -> list[Section]:
    """Return a section and the records within it."""
    kind = kind_of(name)
    assert kind is not None
    return list(_with_records_within(Section(name, kind)))


def _with_records_within(section: Section) -> Iterator[Section]:
    yield section
    for name, hint in hints_of(section.kind).items():
        inner_name = f"{section.name}.{name}"
        item = item_of(hint)
        if item is not None:
            yield from _with_records_within(Section(inner_name, item))
        inner = record_of(hint)
        if inner is None:
            continue
        preset = section.default(name)
        if is_dataclass(preset):
            yield from _with_records_within(Section(inner_name, inner, preset))


def record_of(hint: Any) -> type[Any] | None:
    """Return the record that a setting is, also where it may be missing; None for other types."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in options:
        if isinstance(kind, type) and is_dataclass(kind):
            return kind
    return None


def item_of(hint: Any) -> type[Any] | None:
    """Return the record that a list holds; None for other types."""
    if get_origin(hint) is not tuple:
        return None
    return record_of(get_args(hint)[0])


def field_docs(kind: type[Any]) -> dict[str, str]:
    """Return the docstring below each field of a record or each value of an enum, on one line.

    A field that a record has from another has the docstring that it has there.
    """
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if is_dataclass(base) or base is kind:
            docs |= _own_docs(base)
    return docs


def _own_docs(kind: type[Any]) -> dict[str, str]:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    docs: dict[str, str] = {}
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign):
            target: ast.expr = statement.target
        elif isinstance(statement, ast.Assign):
            target = statement.targets[0]
        else:
            continue
        is_docstring = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(target, ast.Name) and is_docstring:
            assert isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            docs[target.id] = " ".join(str(following.value.value).split())
    return docs


def enums_of(hint: Any) -> list[EnumType]:
    """Return the enums that a setting of a type takes its values from."""
    return [kind for kind in (hint, *get_args(hint)) if isinstance(kind, EnumType)]


def type_of(hint: Any) -> str:
    """Name the type of a setting; an enum by its name, below which its values are listed."""
    origin = get_origin(hint)
    if isinstance(hint, UnionType):
        present = [part for part in get_args(hint) if part is not NoneType]
        return f"{' or '.join(type_of(part) for part in present)} or null"
    if origin is tuple:
        return f"list of {type_of(get_args(hint)[0])}"
    if origin is not None or hint is Any:
        return "any" if hint is Any else "mapping"
    plain = {str: "text", int: "integer", float: "number", bool: "true or false"}
    if isinstance(hint, EnumType):
        return hint.__name__
    return plain.get(hint, "settings")


def shown(value: Any) -> str:
    """Return a value as it is typed."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


class Sources:
    """Where each value comes from: a default, a profile, params.yaml or the command line."""

    def __init__(self, arguments: Sequence[str], own_section: str) -> None:
        """Read params.yaml, where there is one, and the profiles that it was written from.

        Raises:
            ConfigError: params.yaml is broken, or an argument is not `key=value`.
        """
        self._profiles: list[tuple[str, dict[str, Any]]] = []
        self._file = Params.of({}, PARAMS_FILE, own_section)
        if PARAMS_FILE.exists():
            self._file = Params.load(own_section)
            for profile in [DEFAULT_PROFILE, *read_profiles(PARAMS_FILE)]:
                with suppress(ConfigError):  # It is gone, or broken since.
                    self._profiles.append((profile.as_posix(), read_chosen(profile)))
        self._given = self._file.override(arguments)

    def source_of(self, dotted: str) -> tuple[Any, str]:
        """Return the value of a setting and who chose it; no one where it is the default."""
        value = chosen_value(self._given.chosen, dotted)
        if value is MISSING:
            return None, ""
        if chosen_value(self._file.chosen, dotted) != value:
            return value, "the command line"
        for name, profile in reversed(self._profiles):
            said = chosen_value(profile, dotted)
            if said is not MISSING:
                is_of_profile = said == value or isinstance(said, dict)
                return value, name if is_of_profile else str(PARAMS_FILE)
        return value, str(PARAMS_FILE)


def describe(sections: Sequence[Section], sources: Sources, width: int) -> str:
    """Describe settings: the name, type, value and meaning of each, and who chose the value."""
    lines: list[str] = []
    for section in sections:
        lines += ["", f"{section.name}:"]
        docs = field_docs(section.kind)
        for name, hint in hints_of(section.kind).items():
            inner = record_of(hint)
            if inner is not None and is_dataclass(section.default(name)):
                continue  # It is a section of its own.
            lines += _lines_of(section, name, hint, docs.get(name, ""), sources, width)
    return "\n".join(lines).strip()


def _lines_of(
    section: Section, name: str, hint: Any, doc: str, sources: Sources, width: int
) -> Iterator[str]:
    default = section.default(name)
    facts = [type_of(hint)]
    value, source = sources.source_of(f"{section.name}.{name}")
    if source:
        facts.append(f"{_short(value)} from {source}")
    facts.append("required" if default is MISSING else f"default {_short(default)}")
    yield f"  {name}  ({', '.join(facts)})"
    values = [str(member) or '""' for kind in enums_of(hint) for member in _members(kind)]
    meaning = f"{doc} One of {', '.join(values)}." if values else doc
    yield from textwrap.wrap(
        meaning.replace("`", ""),
        width,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
    )


def _members(kind: EnumType) -> list[Any]:
    return list(kind)


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= _MAX_VALUE else f"{text[: _MAX_VALUE - 4]} ..."
