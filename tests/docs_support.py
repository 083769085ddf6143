"""Read the marked blocks of the documents, and compare what their commands print."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/research").glob("*.md")),
]
NEEDS = frozenset(
    {
        "data",  # files that are not shipped
        "gpu",
        "network",
        "remote",  # a DVC remote
        "reviewers",  # Argilla, and people
        "server",  # a model behind a server
        "time",  # minutes to hours, or a command that does not end
    }
)
"""What the mark of a block may say that it needs; such blocks are run by nobody but readers."""
RUNS = frozenset(
    {
        "fragment",  # a part of something, not to be run
        "long",  # in a finished run of the tiny profile with its training
        "long: default run",  # in one of the default profile
        "run",  # in a finished run of the tiny profile
        "run: default world",  # with its passages and its teacher
        "run: own parts",  # by tests/test_own_parts.py
        "run: hub",  # beside a Hub on this machine
        "run: reviewers",  # beside Argilla, where two people answer
        "run: server",  # beside the search server of the page
        "run: teacher",  # beside a scripted server in place of vLLM, on a reader's own questions
        "run: tokenizer",  # with a Qwen tokenizer from a folder
    }
)
"""The other marks; each but the first has a test, which is in tests/test_docs_run.py if no other is
named."""
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<kind>console|bash|sh|python)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"\d[\d,.]*")


class Block(NamedTuple):
    """A block of commands or of Python."""

    place: str
    """Page and line."""
    mark: str
    """What the comment before it says; empty where there is none."""
    kind: str
    text: str


class Command(NamedTuple):
    """A command as a reader types it, and what the page says that it prints."""

    typed: str
    printed: tuple[str, ...]


def read_blocks(page: Path) -> list[Block]:
    """Read the blocks of a page with their marks."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("kind")) + 1
        place = f"{page.relative_to(ROOT).as_posix()}:{line}"
        blocks.append(Block(place, found["mark"] or "", found["kind"], found["text"]))
    return blocks


def is_known(mark: str) -> bool:
    """Whether a mark says what is done with its block."""
    if mark in RUNS:
        return True
    kind, _, need = mark.partition(": ")
    return kind == "needs" and need.removeprefix("the ") in NEEDS


def read_commands(block: Block) -> list[Command]:
    """Part a block into commands, each with the lines that it prints."""
    if block.kind != "console":
        return [Command(block.text, ())]
    commands: list[Command] = []
    for line in block.text.splitlines():
        if commands and commands[-1].typed.endswith("\\"):
            commands[-1] = Command(f"{commands[-1].typed}\n{line}", ())
        elif line.startswith("$ "):
            commands.append(Command(line[2:], ()))
        elif line.strip():
            last = commands[-1]
            commands[-1] = Command(last.typed, (*last.printed, line))
    return commands


def missing_lines(said: tuple[str, ...], printed: str) -> list[str]:
    """Return the lines of a page that a command did not print, in their order.

    Numbers may differ, `...` stands for any lines.
    """
    lines = iter([_plain(line) for line in printed.splitlines()])
    return [line for line in said if line != "..." and _plain(line) not in lines]


def _plain(line: str) -> str:
    return " ".join(_NUMBER.sub("N", line).split())
