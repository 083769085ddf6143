"""Start any command of the project: `coa ask`, `coa view`, `coa sample`, `coa train sft2`.

    coa --help                  # all commands
    coa sample --help           # what a command does, and every setting of it
    coa sample --help teacher   # the settings of another section

`coa sample mode=cot` is `python -m synth.sample mode=cot`: a command is a module that is started by
its name, so that nothing else is imported.
"""

import runpy
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from coa import cli
from coa.errors import CoaError, ConfigError, closest
from coa.settings.commands import GROUPS, Command, find_command
from coa.terminal import printable

if TYPE_CHECKING:
    from coa.settings.help import Section as SettingsSection

_HELP = ("-h", "--help", "help")
_MAX_WIDTH = 100
_HOW_TO_SET = """\
For one command, write KEY=VALUE behind it. For the pipeline, write the setting into params.yaml, or
  dvc exp run -S SECTION.KEY=VALUE       a setting that params.yaml holds
  dvc exp run -S +SECTION.KEY=VALUE      one that has its default
A list takes one value or [a, b]; KEY= is an empty text. Quote what the shell would take apart."""


def overview() -> str:
    """Return the help of `coa` itself: the commands by group."""
    lines = ["Usage: coa COMMAND [key=value ...]", ""]
    width = max(len(command.name) for group in GROUPS.values() for command in group)
    for title, commands in GROUPS.items():
        lines.append(f"{title}:")
        for command in commands:
            start = f"  {command.name:{width}}  "
            about = textwrap.shorten(command.about, _MAX_WIDTH - len(start), placeholder="...")
            lines.append(start + about)
        lines.append("")
    lines.append(
        "`coa COMMAND --help` lists the settings of a command, their values, and who chose"
    )
    lines.append(
        "them; `python -m MODULE --help` does it, too. docs/params.md explains all settings."
    )
    return "\n".join(lines)


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
    # So that the help of a command without settings is there at once.
    from coa.settings.help import Sources, describe

    given = [argument for argument in arguments if "=" in argument]
    sources = Sources(given, command.section or "pipeline")
    width = min(_MAX_WIDTH, shutil.get_terminal_size((_MAX_WIDTH, 24)).columns)
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
    """Return a section, by its whole name or below the command's own, and those within it.

    Raises:
        ConfigError: There is no such section.
    """
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
    raise ConfigError(
        f"unknown section {name!r}", fix=closest(name, SECTIONS) or "see docs/params.md"
    )


def _examples(command: Command) -> str:
    """Return what the module's docstring says after its first sentence."""
    return command.doc.partition("\n\n")[2].rstrip()


def start(command: Command, arguments: Sequence[str]) -> None:
    """Start a command's module as `python -m` does."""
    sys.argv = [f"coa {command.name}", *command.given(arguments)]
    runpy.run_module(command.module, run_name="__main__", alter_sys=True)


def _help(arguments: Sequence[str]) -> str:
    """Return the help of the command that is named first; of all commands where none is."""
    if not arguments:
        return overview()
    name, *rest = arguments
    return help_of(find_command(name), rest)


def main() -> None:
    """Read the command line, and print help or start a command."""
    name, *arguments = sys.argv[1:] or ["help"]
    if name in _HELP:
        cli.run(_help, arguments)
    others = [argument for argument in arguments if argument not in ("-h", "--help")]
    if len(others) < len(arguments):
        cli.run(_help, [name, *others])
    try:
        command = find_command(name)
    except CoaError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(1)
    start(command, arguments)


if __name__ == "__main__":
    main()
