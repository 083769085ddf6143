"""Start any command of the project: `coa ask`, `coa view`, `coa sample`, `coa train sft2`.

    coa --help                  # the commands of every day
    coa --help all              # all commands
    coa sample --help           # what a command does, and every setting of it
    coa sample --help teacher   # the settings of another section
    coa --version

`coa sample mode=cot` is `python -m synth.sample mode=cot`: a command is a module that is started by
its name, so that nothing else is imported.
"""

import runpy
import shutil
import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from coa import cli
from coa.errors import CoaError, ConfigError, closest
from coa.settings.commands import GROUPS, Command, commands_of, read_command, refuse_flags
from coa.terminal import printable

if TYPE_CHECKING:
    from coa.settings.help import Section as SettingsSection

_ALL = "all"
_DISTRIBUTION = "coa-toolkit"
"""The name under which pip knows the project."""
_USUAL_WIDTH = 100
"""How wide a text is that reads well, and a terminal that does not say its width."""
_HOW_TO_SET = """\
For one command, write KEY=VALUE behind it. For the pipeline, write the setting into params.yaml, or
  dvc exp run -S SECTION.KEY=VALUE       a setting that params.yaml holds
  dvc exp run -S +SECTION.KEY=VALUE      one that has its default
A list takes one value or [a, b]; KEY= is an empty text. Quote what the shell would take apart."""


def overview(*, shows_all: bool = False) -> str:
    """Return the help of `coa` itself: the commands of every day, or all, by group."""
    lines = ["Usage: coa COMMAND [key=value ...]", ""]
    for title, group in GROUPS.items():
        commands = [command for command in group if shows_all or command.daily]
        if commands:
            lines += [f"{title}:", *_lines_of(commands), ""]
    if not shows_all:
        lines.append(
            "dvc repro            runs every stage whose settings, data or code have changed"
        )
        lines.append("coa --help all       all commands")
    lines.append("coa COMMAND --help   what a command does, and every setting of it")
    return "\n".join(lines)


def _lines_of(commands: Sequence[Command]) -> list[str]:
    """Return a line, or as many as the screen needs, for each command."""
    width = max(len(command.name) for group in GROUPS.values() for command in group)
    lines: list[str] = []
    for command in commands:
        lines += textwrap.wrap(
            command.about,
            _screen_width(),
            initial_indent=f"  {command.name:{width}}  ",
            subsequent_indent=" " * (width + 4),
            break_on_hyphens=False,
        )
    return lines


def _screen_width() -> int:
    return shutil.get_terminal_size((_USUAL_WIDTH, 24)).columns


def help_of(command: Command, arguments: Sequence[str]) -> str:
    """Return the help of a command: what it does and its settings, or those of a named section.

    Arguments of the form `key=value` are shown as the values that they set.

    Raises:
        ConfigError: There is no such section, or params.yaml is broken.
    """
    parts = [f"coa {command.name}: {command.about}", _examples(command)]
    named = [argument for argument in arguments if "=" not in argument]
    if not named and not command.section:
        return "\n\n".join(part for part in parts if part)
    # The help of a command without settings needs no import.
    from coa.settings.help import Sources, describe

    given = [argument for argument in arguments if "=" in argument]
    sources = Sources(given, command.section or "pipeline")
    width = min(_USUAL_WIDTH, _screen_width())
    if named:
        found = [describe(_sections_of(command, name), sources, width) for name in named]
        return "\n\n".join([*found, _HOW_TO_SET])
    own, *within = _sections_of(command, command.section)
    sections = [own] if command.first else [own, *within]
    parts.append("Settings, as key=value; after `section.` those of other sections:")
    parts.append(describe(sections, sources, width))
    if command.first and within:
        more = ", ".join(section.name for section in within)
        parts.append(f"More, by `coa {command.name} --help NAME`: {more}")
    return "\n\n".join([*(part for part in parts if part), _HOW_TO_SET])


def _sections_of(command: Command, name: str) -> "list[SettingsSection]":
    """Return a section, by its whole name or below the command's own, and those within it."""
    from coa.settings.help import sections_within
    from coa.settings.sections import SECTIONS

    for dotted in (f"{command.section}.{name}", name):
        root = dotted.partition(".")[0]
        if root not in SECTIONS:
            continue
        within = sections_within(root)
        found = [it for it in within if it.name == dotted or it.name.startswith(f"{dotted}.")]
        if found:
            return found
    known = list(SECTIONS)
    if command.section:
        own = sections_within(command.section.partition(".")[0])
        known += [it.name.removeprefix(f"{command.section}.") for it in own]
    raise ConfigError(f"unknown section {name!r}", fix=closest(name, known) or "see docs/params.md")


def _examples(command: Command) -> str:
    """Return what the module's docstring says after its first sentence."""
    return command.doc.partition("\n\n")[2].rstrip()


def start(command: Command, arguments: Sequence[str]) -> None:
    """Start a command's module as `python -m` does."""
    sys.argv = [f"coa {command.name}", *command.given(arguments)]
    runpy.run_module(command.module, run_name="__main__", alter_sys=True)


def _help(words: Sequence[str]) -> str:
    """Return the help of the command that is named first; of `coa` itself where none is."""
    if not words:
        return overview()
    if list(words) == [_ALL]:
        return overview(shows_all=True)
    family = commands_of(words[0])
    if len(words) == 1 and family:
        return "\n".join([f"Usage: coa {words[0]} COMMAND [key=value ...]", "", *_lines_of(family)])
    return help_of(*read_command(words))


def _version(words: Sequence[str]) -> str:
    """Return the version that is installed."""
    try:
        return f"coa {version(_DISTRIBUTION)}"
    except PackageNotFoundError:
        raise ConfigError(
            "coa runs from a folder that is not installed, so it has no version",
            fix="pip install -e . in the repository's root",
        ) from None


def main() -> None:
    """Read the command line, and print help or start a command."""
    words = sys.argv[1:] or ["help"]
    if words == ["--version"]:
        cli.run(_version, [])
    named = [word for word in words if word not in cli.HELP]
    if words[0] == "help":
        cli.run(_help, named[1:])
    is_family_alone = len(words) == 1 and bool(commands_of(words[0]))
    if len(named) < len(words) or is_family_alone:
        cli.run(_help, named)
    try:
        command, arguments = read_command(words)
        refuse_flags(command, arguments)
    except CoaError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(1)
    start(command, arguments)


if __name__ == "__main__":
    main()
