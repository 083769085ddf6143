"""Compare the documents with the code.

The fields, values, defaults, commands, files, links and tests that they name exist.
"""

import re
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from bench import error_analysis
from coa.foreign.record import Format
from coa.microworld.pretraining import PretrainingDocument
from coa.microworld.world import GroupSize
from coa.policy.chat.families import FamilyName, ForkWay, Waiver
from coa.records import protocol
from coa.records.causes import Analysis, Cause, Finding
from coa.records.drops import Dropped, DropReason
from coa.records.exclusions import EvaluationSet, Excluded, ExclusionReason, RowKind
from coa.records.graded import GradedTrajectory
from coa.records.grading import Grade, Verdict
from coa.records.pairs import Arm, PairKind, PreferencePair
from coa.records.question import Criterion, Question
from coa.records.trajectory import (
    SCHEMA_VERSION,
    Author,
    Mode,
    Outcome,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
)
from coa.records.unreadable import UnreadableReason
from coa.records.verdicts import Judgement, JudgeVerdict
from coa.records.worth import ArmSample, Worth
from coa.rollout.factory import PolicyKind
from coa.rollout.points import Point, PointOutcome
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import Manifest
from coa.search.index import IndexParams
from coa.search.settings import Dialect, EngineKind, Provider, RecordingMode
from coa.search.tool import Numbering
from coa.settings.commands import read_command
from coa.settings.help import all_sections, field_docs
from coa.settings.params import Params
from coa.store.adjudication import Rule
from coa.store.reviews import (
    Agreement,
    Answer,
    Applied,
    Between,
    Effect,
    Preference,
    Review,
    ReviewKind,
    ReviewQuestion,
    Usage,
)
from curate.analyse import AnalyseParams
from curate.summary import read_metrics, render
from data_cards.publishing.gate import Reason
from scripts.settings_reference import write_reference
from synth.ingest import DroppedLine, Recorded
from synth.question_formats import QuestionFormat, RefusalReason
from synth.questions import DroppedQuestion
from synth.sample import Assignment
from tests.house.sources import PACKAGES, ROOT, read, source_files
from tests.project_support import all_stages

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RECORDS: list[type[Any]] = [
    Question,
    Criterion,
    Passage,
    Trajectory,
    Step,
    Sampling,
    Grade,
    GradedTrajectory,
    Judgement,
    Dropped,
    PreferencePair,
    Point,
    Worth,
    ArmSample,
    PretrainingDocument,
    Manifest,
    IndexSettings,
    Recorded,
    DroppedLine,
    DroppedQuestion,
    EvaluationSet,
    Excluded,
    Analysis,
    Finding,
    Review,
    Answer,
    Agreement,
    Applied,
]
VALUES: dict[str, list[type[StrEnum]]] = {
    "data_model.md": [
        Author,
        StepKind,
        Mode,
        Outcome,
        StopReason,
        Verdict,
        JudgeVerdict,
        DropReason,
        Arm,
        PairKind,
        PointOutcome,
        ForkWay,
        UnreadableReason,
        RefusalReason,
        Cause,
        ExclusionReason,
        RowKind,
        ReviewKind,
        ReviewQuestion,
        Usage,
        Preference,
        Between,
        Effect,
    ],
    "publishing.md": [Reason],
    "params.md": [
        Assignment,
        PolicyKind,
        EngineKind,
        Dialect,
        Provider,
        RecordingMode,
        Numbering,
        Format,
        QuestionFormat,
        Rule,
        FamilyName,
        Waiver,
    ],
}
DEFAULTS: dict[str, Any] = Params.load("pipeline", (), ROOT / "conf/microworld.yaml").values()
PROGRAMS = {"coa", "cp", "curl", "dvc", "export", "git", "hf", "kill", "make", "python", "vllm"}


def text_of(document: Path | str) -> str:
    return read(ROOT / document)


def rows_under(document: str, heading: str) -> list[list[str]]:
    """Read the cells of the first table below a heading, without its head.

    Backticks around a cell are left out.
    """
    body = re.split(
        rf"^#+ `?{re.escape(heading)}`?$", text_of(document), maxsplit=1, flags=re.MULTILINE
    )
    assert len(body) == 2, f"{document} has no heading {heading!r}"
    table = re.search(
        r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)",
        re.split(r"^#", body[1], maxsplit=1, flags=re.MULTILINE)[0],
        re.M,
    )
    assert table, f"{document} has no table under {heading!r}"
    lines = table[1].strip().splitlines()
    return [
        [cell.strip().removeprefix("`").removesuffix("`") for cell in line.strip("|").split("|")]
        for line in lines
    ]


def type_name(hint: Any) -> str:
    """How docs/data_model.md calls a field's type."""
    if isinstance(hint, types.UnionType):
        present = next(part for part in get_args(hint) if part is not types.NoneType)
        return f"{type_name(present)} or null"
    if get_origin(hint) is tuple:
        return f"list of {type_name(get_args(hint)[0])}"
    plain = {str: "text", int: "integer", float: "number", bool: "boolean"}.get(hint)
    return plain or f"[{hint.__name__}](#{hint.__name__.lower()})"


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command in a console block, with the document that shows it; comments are left out."""
    for document in DOCUMENTS:
        for block in re.findall(
            r"^```console\n(.*?)^```",
            document.read_text(encoding="utf-8"),
            re.DOTALL | re.MULTILINE,
        ):
            for line in block.splitlines():
                if line.startswith("$ "):
                    yield document.relative_to(ROOT).as_posix(), line[2:].partition(" #")[0].split()


def test_every_column_of_a_record_is_documented_with_its_type() -> None:
    for record in RECORDS:
        hints = get_type_hints(record)
        written = rows_under("docs/data_model.md", record.__name__)
        documented = [(name, kind) for name, kind, _ in written]
        found = [(field.name, type_name(hints[field.name])) for field in fields(record)]
        assert documented == found, record


def test_every_record_within_a_documented_record_is_documented() -> None:
    linked = set(re.findall(r"\]\(#(\w+)\)", text_of("docs/data_model.md")))
    assert linked <= {kind.__name__.lower() for kind in (*RECORDS, *VALUES["data_model.md"])}


def test_every_value_of_an_enum_is_documented() -> None:
    for document, kinds in VALUES.items():
        for kind in kinds:
            documented = [row[0] for row in rows_under(f"docs/{document}", kind.__name__)]
            assert documented == [str(value) for value in kind], f"{document}: {kind.__name__}"


def test_the_schema_version_is_documented() -> None:
    assert f"the schema version is {SCHEMA_VERSION}." in text_of("docs/data_model.md")
    assert f"Schema version {SCHEMA_VERSION}" in text_of("CHANGELOG.md")


def sections(
    name: str, kind: type[Any], defaults: dict[str, Any]
) -> Iterator[tuple[str, type[Any], dict[str, Any]]]:
    """A section of the settings and those within it."""
    yield name, kind, defaults
    for key, hint in get_type_hints(kind).items():
        if is_dataclass(hint) and hint is not GroupSize:
            assert isinstance(hint, type)
            yield from sections(f"{name}.{key}", hint, defaults[key])


def test_the_reference_of_settings_is_written_from_their_docstrings() -> None:
    text = text_of("docs/params.md")
    assert text == write_reference(text, all_sections()), "run `make docs`"


def test_every_setting_has_a_docstring() -> None:
    missing = [
        f"{section.name}.{field.name}"
        for section in all_sections()
        for field in fields(section.kind)
        if field.name not in field_docs(section.kind)
    ]
    assert [name for name in missing if not is_record(name)] == []


def is_record(name: str) -> bool:
    """Whether a setting is a mapping with a section of its own."""
    return name in {section.name for section in all_sections()}


def test_every_command_shown_can_be_run() -> None:
    for document, command in commands():
        check_command(document, command)


def check_command(document: str, command: list[str]) -> None:
    """Check that a command's program, module, settings and profiles are there."""
    program, *arguments = command
    assert program in PROGRAMS, document
    if program == "make":
        target = next(word for word in arguments if not word.startswith("-"))
        rules = text_of("Makefile")
        assert re.search(rf"^{target}:", rules, re.MULTILINE), f"{document}: make {target}"
    if program == "coa":
        assert arguments[0].startswith("--") or read_command(arguments), document
    elif program == "python" and arguments[0].endswith(".py"):
        assert (ROOT / arguments[0]).is_file(), f"{document}: {arguments[0]}"
    elif program == "python" and arguments[0] == "-m" and arguments[1] != "pytest":
        module = ROOT / arguments[1].replace(".", "/")
        files = (module.with_suffix(".py"), module / "__main__.py")
        assert any(path.is_file() for path in files), f"{document}: {arguments[1]}"
    for setting in re.findall(r"-S (\S+)=", " ".join(arguments)):
        section, _, field = setting.partition(".")
        assert field in DEFAULTS[section], f"{document}: {setting}"
    for path in re.findall(r"conf/\w+\.yaml", " ".join(arguments)):
        assert (ROOT / path).is_file(), f"{document}: {path}"


def test_the_stages_of_the_documents_are_those_of_the_pipeline() -> None:
    stages = all_stages()
    names = [f"{name}@{key}" for name in stages for key in stages[name].get("foreach", [])] + list(
        stages
    )
    of_data = {row[0]: row[1] for row in rows_under("docs/pipeline.md", "The stages")}
    of_training = {row[0]: row[1] for row in rows_under("docs/training.md", "The stages")}
    listed = {
        name for name in names if name in of_training or name.partition("@")[0] not in of_training
    }
    assert of_data.keys() | of_training.keys() == {
        name for name in listed if name in of_training or "foreach" not in stages.get(name, {})
    }
    for name, command in (of_data | of_training).items():
        stage, _, key = name.partition("@")
        commands = stages[stage].get("do", stages[stage])["cmd"]
        found = commands if isinstance(commands, str) else commands[0]
        found = found.partition(" 'samples")[0].replace("${key}", key or "{name}")
        found = found.replace("${item}", key)
        found = re.sub(r"\$\{item\.(\w+)\}", r"{\1}", found.replace("${train.launch}", "python -m"))
        assert found == command if stage in of_data or stage != name else found.startswith(command)


def test_the_first_page_is_short() -> None:
    assert len(text_of("README.md").encode()) <= 14 * 1024


def test_every_page_stands_in_the_index() -> None:
    index = text_of("docs/README.md")
    folder = ROOT / "docs"
    pages = [*folder.glob("*.md"), *folder.glob("research/*.md")]
    names = [path.relative_to(folder).as_posix() for path in pages]
    assert [name for name in names if f"({name})" not in index] == ["README.md"]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        check_links(document)


def check_links(document: Path) -> None:
    """Check that the files and headings are there to which a page links."""
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), f"{document}: {target}"


def test_every_path_and_test_that_is_named_exists() -> None:
    tests = "".join(map(read, source_files("tests")))
    for document in DOCUMENTS:
        text = read(document)
        for name in re.findall(r"`(test_\w+)`", text):
            assert f"def {name}(" in tests, f"{document}: {name}"
        for path in re.findall(rf"`((?:{'|'.join(PACKAGES)}|conf|tests|docs)/[\w/]+\.\w+)`", text):
            assert (ROOT / path).is_file(), f"{document}: {path}"


def test_the_benchmark_of_causes_writes_settings_that_its_stages_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(error_analysis.PARAMS.format(corpus="corpus.parquet"))
    settings = Params.load("analyse", path=path)
    assert settings.section(AnalyseParams).reads_corpus
    assert settings.section(IndexParams, "index").corpus == "corpus.parquet"


def test_the_readme_shows_what_the_demo_prints() -> None:
    assert render(read_metrics()) in text_of("README.md")


@pytest.mark.parametrize("document", ["README.md", "docs/protocol.md"])
def test_the_trajectory_shown_is_well_formed(document: str) -> None:
    shown = next(
        block for block in text_of(document).split("```") if f"\n{protocol.THINK_OPEN}\n" in block
    )
    steps = protocol.parse(shown.partition(f"{protocol.THINK_OPEN}\n")[2].rstrip())
    kinds = [step.kind for step in steps]
    assert not protocol.stray_tags(steps)
    assert kinds.count(StepKind.ACTION) == kinds.count(StepKind.OBSERVATION) > 0
    assert kinds[-1] is StepKind.ANSWER
