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

from coa import cli
from coa.commands import GROUPS, Command, find_command
from coa.errors import CoaError, ConfigError, closest
from coa.settings_help import describe, read_reference, sections_within
from coa.terminal import printable

_HELP = ("-h", "--help", "help")
_MAX_WIDTH = 100


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
    lines.append("`coa COMMAND --help` lists the settings of a command. All of them stand in")
    lines.append("params.yaml; docs/params.md explains them.")
    return "\n".join(lines)


def help_of(command: Command, arguments: Sequence[str]) -> str:
    """Return the help of a command: what it does and its settings, or those of a named section.

    Raises:
        ConfigError: There is no such section.
    """
    reference = read_reference()
    width = min(_MAX_WIDTH, shutil.get_terminal_size((_MAX_WIDTH, 24)).columns)
    named = [argument for argument in arguments if "=" not in argument]
    parts = []
    for name in named:
        inner = f"{command.section}.{name}"
        if inner not in reference and name not in reference:
            known = [it for it in reference if it[0].islower()]
            raise ConfigError(
                f"unknown section {name!r}", fix=closest(name, known) or "see docs/params.md"
            )
        section = inner if inner in reference else name
        parts.append(describe(reference, [section, *sections_within(reference, section)], width))
    if parts:
        return "\n\n".join(parts)
    parts = [f"coa {command.name}: {command.about}", _examples(command)]
    if command.section:
        sections = [command.section]
        within = sections_within(reference, command.section)
        if not command.first:
            sections += within
        parts.append("Settings, as key=value; after `section.` those of other sections:")
        parts.append(describe(reference, sections, width))
        if command.first and within:
            parts.append(f"More, by `coa {command.name} --help NAME`: {', '.join(within)}")
    return "\n\n".join(part for part in parts if part)


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
