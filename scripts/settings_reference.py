"""Write the reference of all settings from the docstrings of their fields.

    python -m scripts.settings_reference        # or `make docs`

The tables of docs/params.md, below the marker, and the comments of conf/microworld.yaml, which
`python -m coa.params` carries into params.yaml. A setting is explained in one place: the docstring
below its field.
"""

import ast
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import EnumType
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from annotate.settings import AnnotateParams
from coa.doctor.settings import DoctorParams
from coa.factory import SearchParams, TeacherParams
from coa.forking import BranchParams
from coa.judging.judge import JudgeParams
from coa.microworld.factory import MicroworldParams
from coa.params import DEFAULT_PROFILE
from coa.policy.rehearse import RehearseParams
from coa.prices import CostParams
from coa.prompts import PromptParams
from coa.rollout import Limits
from coa.search.evaluate import SearchEvaluateParams
from coa.search.index import IndexParams
from coa.search.serve import ServeParams
from coa.sets import AssembleParams
from coa.shards import ShardsParams
from coa.simulators.settings import SimulatorParams
from coa.stages import PipelineParams
from coa.student.evaluate_settings import EvaluateParams
from coa.student.settings import TrainParams
from coa.tools.factory import ToolsParams
from coa.view.settings import ViewParams
from curate.analyse import AnalyseParams
from curate.filter import FilterParams
from curate.grade import GradeParams
from curate.judge_agreement import JudgeAgreementParams
from curate.screen import ScreenParams
from curate.shared_prefix import SharedPrefixParams
from curate.student_pairs import StudentPairsParams
from curate.student_set import StudentSetParams
from data_cards.export import ExportParams
from data_cards.models import ModelsParams
from data_cards.settings import PublishParams, RenderParams
from evaluation.fidelity import FidelityParams
from evaluation.gate import GateParams
from evaluation.table import TableParams
from lab.plan import LabParams
from lab.subset import LabSubsetParams
from synth.fetch import FetchParams
from synth.ingest import IngestParams
from synth.questions import QuestionParams
from synth.sample import SampleParams

ROOT = Path(__file__).parent.parent
REFERENCE = Path("docs/params.md")
MARKER = "<!-- From here on written by `make docs` from the docstrings of the settings. -->"
SECTIONS: dict[str, type[Any]] = {
    "pipeline": PipelineParams,
    "microworld": MicroworldParams,
    "questions": QuestionParams,
    "fetch": FetchParams,
    "ingest": IngestParams,
    "index": IndexParams,
    "search": SearchParams,
    "serve": ServeParams,
    "search_evaluate": SearchEvaluateParams,
    "tools": ToolsParams,
    "teacher": TeacherParams,
    "costs": CostParams,
    "rehearse": RehearseParams,
    "prompts": PromptParams,
    "rollout": Limits,
    "sample": SampleParams,
    "judge": JudgeParams,
    "judge_agreement": JudgeAgreementParams,
    "grade": GradeParams,
    "analyse": AnalyseParams,
    "filter": FilterParams,
    "branch": BranchParams,
    "shared_prefix": SharedPrefixParams,
    "screen": ScreenParams,
    "assemble": AssembleParams,
    "student_pairs": StudentPairsParams,
    "student_set": StudentSetParams,
    "annotate": AnnotateParams,
    "render": RenderParams,
    "models": ModelsParams,
    "publish": PublishParams,
    "export": ExportParams,
    "doctor": DoctorParams,
    "view": ViewParams,
    "train": TrainParams,
    "shards": ShardsParams,
    "evaluate": EvaluateParams,
    "simulator": SimulatorParams,
    "gate": GateParams,
    "fidelity": FidelityParams,
    "table": TableParams,
    "lab": LabParams,
    "lab_subset": LabSubsetParams,
}
"""Every section of params.yaml and the record that it becomes."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section, or a mapping within one."""

    name: str
    """As it is spelled in params.yaml, with dots."""
    kind: type[Any]
    """The record that it becomes."""
    defaults: CommentedMap | None
    """Its values in the default profile; None for the items of a list, which have the record's own
    defaults."""


def all_sections(defaults: CommentedMap) -> list[Section]:
    """Return all sections in the order of the file, each before the records within it."""
    found: list[Section] = []
    for name, kind in SECTIONS.items():
        found.extend(_with_records_within(Section(name, kind, defaults[name])))
    return found


def _with_records_within(section: Section) -> Iterator[Section]:
    yield section
    for name, hint in _hints(section.kind).items():
        inner_name = f"{section.name}.{name}"
        item = _item_of(hint)
        if item is not None:
            yield from _with_records_within(Section(inner_name, item, None))
        inner = _record_of(hint)
        value = section.defaults[name] if section.defaults is not None else None
        if inner is not None and value is not None:
            yield from _with_records_within(Section(inner_name, inner, value))


def _hints(kind: type[Any]) -> dict[str, Any]:
    """Return the types of a record's fields in their order."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _record_of(hint: Any) -> type[Any] | None:
    """Return the record that a setting is, also where it may be missing; None for other types."""
    options = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for kind in options:
        if isinstance(kind, type) and is_dataclass(kind):
            return kind
    return None


def _item_of(hint: Any) -> type[Any] | None:
    """Return the record that a list holds; None for other types."""
    if get_origin(hint) is not tuple:
        return None
    return _record_of(get_args(hint)[0])


def field_docs(kind: type[Any]) -> dict[str, str]:
    """Return the docstring below each field of a record or each value of an enum, on one line."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(node, ast.ClassDef)
    parent = kind.__base__
    docs = field_docs(parent) if parent is not None and is_dataclass(parent) else {}
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


def class_doc(kind: type[Any]) -> str:
    """Return the docstring of a class as paragraphs of one line each."""
    paragraphs = (inspect.getdoc(kind) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def enums_of(sections: Sequence[Section]) -> list[EnumType]:
    """Return the enums that settings take their values from, each once, by name."""
    found: dict[str, EnumType] = {}
    for section in sections:
        for hint in _hints(section.kind).values():
            for kind in (hint, *get_args(hint)):
                if isinstance(kind, EnumType):
                    found[kind.__name__] = kind
    return [found[name] for name in sorted(found)]


def render_section(section: Section) -> str:
    """Return one section as Markdown: its heading, what it is, a row for each field."""
    level = "###" if "." in section.name else "##"
    docs = field_docs(section.kind)
    lines = [f"{level} `{section.name}`", "", class_doc(section.kind), ""]
    lines += ["| field | type | default | meaning |", "|---|---|---|---|"]
    for name, hint in _hints(section.kind).items():
        default, meaning = _describe(section, name, hint, docs.get(name, ""))
        lines.append(f"| `{name}` | {_type_of(hint)} | {default} | {meaning} |")
    return "\n".join(lines)


def _type_of(hint: Any) -> str:
    """Name the type of a setting; an enum by its name, under which its values stand."""
    origin = get_origin(hint)
    if isinstance(hint, UnionType):
        present = [part for part in get_args(hint) if part is not NoneType]
        return f"{' or '.join(_type_of(part) for part in present)} or null"
    if origin is tuple:
        return f"list of {_type_of(get_args(hint)[0])}"
    if origin is not None or hint is Any:
        return "any" if hint is Any else "mapping"
    plain = {str: "text", int: "integer", float: "number", bool: "true or false"}
    if isinstance(hint, EnumType):
        return hint.__name__
    return plain.get(hint, "settings")


def _describe(section: Section, name: str, hint: Any, doc: str) -> tuple[str, str]:
    """Return the default and the meaning of one field, as two cells of a table."""
    value = _default_of(section, name)
    inner = f"{section.name}.{name}"
    link = f"[`{inner}`](#{inner.replace('.', '')})"
    if _record_of(hint) is not None and value is not None:
        return "", f"{doc.rstrip('.')}: {link}." if doc else f"{link}."
    if _item_of(hint) is not None:
        doc = f"{doc} Each: {link}."
    if value is MISSING:
        return "required", doc.replace("|", "\\|")
    default = json.dumps(value, default=dict).replace("|", "\\|")
    return f"`{default}`", doc.replace("|", "\\|")


def _default_of(section: Section, name: str) -> Any:
    """Return the value in the default profile, or in the items of a list the record's default."""
    if section.defaults is not None:
        return section.defaults[name]
    (found,) = [field for field in fields(section.kind) if field.name == name]
    if found.default_factory is not MISSING:
        return found.default_factory()
    return found.default


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
    parts += [render_enum(kind) for kind in enums_of(sections)]
    return "\n\n".join(parts) + "\n"


def write_comments(text: str, sections: Sequence[Section]) -> str:
    """Return the text of a profile with the first sentence of each docstring above its setting."""
    docs: dict[str, str] = {}
    for section in sections:
        docs[section.name] = _first_sentence(class_doc(section.kind))
        for name, doc in field_docs(section.kind).items():
            if doc:
                docs[f"{section.name}.{name}"] = _first_sentence(doc)
    head, blank_line, rest = text.partition("\n\n")
    lines: list[str] = []
    path: list[str] = []
    for line in rest.splitlines():
        if line.lstrip().startswith("#"):
            continue
        key = re.match(r"( *)([\w-]+):", line)
        if key is not None:
            depth = len(key[1]) // 2
            path = [*path[:depth], key[2]]
            doc = docs.get(".".join(path), "")
            width = 98 - len(key[1])
            lines += [f"{key[1]}# {part}" for part in textwrap.wrap(doc, width)]
        lines.append(line)
    return head + blank_line + "\n".join(lines) + "\n"


def _first_sentence(doc: str) -> str:
    sentence = re.split(r"(?<=[a-z0-9)`\"'*\]])\. |\n", doc, maxsplit=1)[0]
    return sentence.rstrip(".")


def read_defaults() -> CommentedMap:
    """Read the default profile with its comments."""
    found: CommentedMap = YAML().load((ROOT / DEFAULT_PROFILE).read_text(encoding="utf-8"))
    return found


def main(arguments: Sequence[str]) -> str:
    """Write the reference and the comments again; the summary line is returned."""
    sections = all_sections(read_defaults())
    for path, write in ((REFERENCE, write_reference), (DEFAULT_PROFILE, write_comments)):
        file = ROOT / path
        text = file.read_text(encoding="utf-8")
        file.write_text(write(text, sections), encoding="utf-8")
    return f"{REFERENCE} and the comments of {DEFAULT_PROFILE} say what the docstrings say"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
