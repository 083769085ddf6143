"""Compare the documents with the code.

The fields, values, defaults, commands, files, links and tests that they name exist.
"""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from coa.records import protocol
from coa.records.trajectory import SCHEMA_VERSION, StepKind
from coa.settings.commands import read_command
from coa.settings.help import all_sections, field_docs
from coa.settings.params import Params
from curate.summary import read_metrics, render
from data_cards.publishing.gate import Reason
from scripts import columns_reference, settings_reference
from tests.house.sources import PACKAGES, ROOT, read, source_files
from tests.project_support import all_stages

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DEFAULTS: dict[str, Any] = Params.load("pipeline", (), ROOT / "conf/microworld.yaml").values()
PROGRAMS = {"cd", "coa", "curl", "dvc", "export", "git", "hf", "make", "python", "source", "vllm"}


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


def test_every_reason_of_the_gate_is_documented() -> None:
    documented = [row[0] for row in rows_under("docs/publishing.md", Reason.__name__)]
    assert documented == [str(reason) for reason in Reason]


def test_the_schema_version_is_documented() -> None:
    assert f"the schema version is {SCHEMA_VERSION}." in text_of("docs/data_model.md")
    assert f"Schema version {SCHEMA_VERSION}" in text_of("CHANGELOG.md")


def test_the_reference_of_settings_is_written_from_their_docstrings() -> None:
    text = text_of("docs/params.md")
    assert text == settings_reference.write_reference(text, all_sections()), "run `make docs`"


def test_the_reference_of_columns_is_written_from_the_records() -> None:
    text = text_of("docs/data_model.md")
    assert text == columns_reference.write_reference(text), "run `make docs`"


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
    assert len(text_of("README.md").encode()) <= 9 * 1024


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


def test_the_readme_shows_what_the_demo_prints() -> None:
    assert render(read_metrics()) in text_of("README.md")


def test_the_trajectory_shown_is_well_formed() -> None:
    shown = next(
        block
        for block in text_of("docs/protocol.md").split("```")
        if f"\n{protocol.THINK_OPEN}\n" in block
    )
    steps = protocol.parse(shown.partition(f"{protocol.THINK_OPEN}\n")[2].rstrip())
    kinds = [step.kind for step in steps]
    assert not protocol.stray_tags(steps)
    assert kinds.count(StepKind.ACTION) == kinds.count(StepKind.OBSERVATION) > 0
    assert kinds[-1] is StepKind.ANSWER
