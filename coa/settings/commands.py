"""List the commands that `coa` starts, each with its module and its section of the settings."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from coa.cli import FLAG
from coa.errors import ConfigError, closest, most_similar
from coa.store.shipped import ROOT


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    """As it is typed after `coa`: one word, or two, as in `review push`."""
    module: str
    """What `python -m` would start."""
    section: str = ""
    """The section of the settings whose keys need no section's name; empty for none."""
    first: str = ""
    """The setting that the first argument without `=` stands for; empty: it is passed on as it
    is."""
    daily: bool = False
    """Whether the short help shows it."""
    flags: tuple[str, ...] = ()
    """Flags that it takes, such as `--demo`; other settings are written key=value."""

    @property
    def doc(self) -> str:
        """Read the module's docstring from its file, without importing it."""
        path = ROOT.joinpath(*self.module.split("."))
        file = path.with_suffix(".py")
        if not file.is_file():
            file = path / "__main__.py"
        return file.read_text(encoding="utf-8").split('"""')[1]

    @property
    def about(self) -> str:
        """Return the first sentence of the docstring."""
        return self.doc.partition("\n")[0].rstrip(".")

    def given(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments as the module reads them."""
        found = list(arguments)
        if self.first and found and "=" not in found[0] and not found[0].startswith("-"):
            found[0] = f"{self.first}={found[0]}"
        return found


GROUPS: dict[str, tuple[Command, ...]] = {
    "Start": (
        Command("init", "coa.init", daily=True, flags=("--demo",)),
        Command("params", "coa.params", daily=True),
        Command("fetch", "synth.fetch", "fetch", daily=True),
        Command("base", "coa.student.base_models", "base", first="name"),
        Command("rehearse", "coa.rehearse", "rehearse"),
    ),
    "Look": (
        Command("ask", "coa.ask", "teacher", daily=True),
        Command("view", "coa.view", "view", daily=True),
        Command("show", "coa.show"),
        Command("lineage", "data_cards.lineage"),
        Command("summary", "curate.summary"),
        Command("costs", "coa.costs", "costs", daily=True),
        Command("doctor", "coa.doctor", "doctor", first="set", daily=True),
    ),
    "Search": (
        Command("search index", "coa.search.index", "index"),
        Command("search embed", "coa.search.embed", "search"),
        Command("search serve", "coa.search.serve", "serve"),
        Command("search evaluate", "coa.search.evaluate", "search_evaluate"),
    ),
    "From questions to sets, as `dvc repro` runs it": (
        Command("questions", "synth.questions", "questions"),
        Command("sample", "synth.sample", "sample"),
        Command("merge", "coa.merge"),
        Command("ingest", "synth.ingest", "ingest"),
        Command("grade", "curate.grade", "grade"),
        Command("analyse", "curate.analyse", "analyse"),
        Command("filter", "curate.filter", "filter"),
        Command("branch", "curate.branch", "branch"),
        Command("screen", "curate.screen", "screen"),
        Command("assemble", "curate.assemble", "assemble"),
    ),
    "Review": (
        Command("review serve", "annotate.serve", "annotate.serve", daily=True),
        Command("review push", "annotate.push", "annotate.push", daily=True),
        Command("review pull", "annotate.pull", "annotate", daily=True),
    ),
    "Training": (
        Command("train", "train.run", "train", first="stage", daily=True),
        Command("evaluate", "evaluation.evaluate", "evaluate", first="model", daily=True),
        Command("gate", "evaluation.gate", "gate"),
        Command("fidelity", "evaluation.fidelity", "fidelity"),
        Command("pin", "evaluation.pin", "evaluate"),
    ),
    "Publishing": (
        Command("render", "data_cards.render", "render"),
        Command("models", "data_cards.models", "models"),
        Command("export", "data_cards.export", "export", daily=True),
        Command("publish", "data_cards.publish", "publish", daily=True),
    ),
    "Pages in reports/ and results/": (
        Command("page report", "curate.report"),
        Command("page judge", "curate.judge_agreement", "judge_agreement"),
        Command("page agreement", "annotate.agreement", "annotate"),
        Command("page table", "evaluation.table", "table"),
        Command("page training", "lab.training"),
        Command("page lab", "lab.page"),
    ),
}
"""All commands, as the help shows them."""

STAGES = (
    Command("coa.code_hashes", "coa.code_hashes"),
    Command("curate.student_pairs", "curate.student_pairs", "student_pairs"),
    Command("curate.student_set", "curate.student_set", "student_set"),
    Command("synth.microworld", "synth.microworld", "microworld"),
    Command("train.check", "train.check", "train"),
)
"""What only `dvc repro` starts: no help lists it, but `coa synth.microworld --help` is there."""


def all_commands() -> list[Command]:
    """Return the commands in the order of the help."""
    return [command for group in GROUPS.values() for command in group]


def commands_of(word: str) -> list[Command]:
    """Return the commands of two words that begin with `word`; none for another word."""
    return [command for command in all_commands() if command.name.startswith(f"{word} ")]


def command_of_module(module: str) -> Command | None:
    """Return the command that starts a module; None where there is none."""
    for command in (*all_commands(), *STAGES):
        if command.module == module:
            return command
    return None


def read_command(words: Sequence[str]) -> tuple[Command, list[str]]:
    """Return the command that the first word or two name, and the other words.

    A module may be named, too: then the command is the one that starts it, or its docstring alone.

    Raises:
        ConfigError: There is no such command.
    """
    name, *others = words
    for command in all_commands():
        if command.name == name:
            return command, others
    if commands_of(name):
        known = {command.name: command for command in commands_of(name)}
        typed = " ".join(words[:2])
        if typed not in known:
            raise ConfigError(
                f"unknown command {typed!r}",
                expected=f"one of {', '.join(known)}",
                fix=closest(typed, known),
            )
        return known[typed], others[1:]
    found = command_of_module(name)
    if found is not None:
        return found, others
    if "." in name and ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file():
        return Command(name, name), others
    names = [command.name for command in all_commands()]
    group = most_similar(name, {known.split()[0] for known in names if " " in known})
    meant = " ".join([group, *others[:1]])
    if meant in names:
        raise ConfigError(f"unknown command {name!r}", fix=f"did you mean {meant}?")
    same = [known for known in names if known.endswith(f" {name}")]
    fix = f"did you mean {' or '.join(same)}?" if same else closest(name, names)
    raise ConfigError(f"unknown command {name!r}", fix=fix or "`coa --help all` lists the commands")


def refuse_flags(command: Command, arguments: Sequence[str]) -> None:
    """Refuse flags, such as `--port 8099`, and say how they are written: port=8099.

    Raises:
        ConfigError: An argument is a flag.
    """
    flags = []
    for argument in arguments:
        if FLAG.match(argument) and argument not in command.flags:
            flags.append(argument)
    if not flags:
        return
    fix = f"`coa {command.name} --help` lists the settings"
    settings = _without_flags(arguments, _keys_of(command.section))
    if settings:
        fix = f"coa {command.name} {shlex.join(settings)}"
    raise ConfigError(
        f"there is no flag {flags[0]}",
        where="the command line",
        expected="settings as key=value",
        got=shlex.join(arguments),
        fix=fix,
    )


def _without_flags(arguments: Sequence[str], known: Collection[str]) -> list[str]:
    """Return the arguments with each flag as a setting; none where a flag's setting is unknown.

    `known` are the names of the command's settings; empty where no section holds them.
    """
    found: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not FLAG.match(argument):
            found.append(argument)
            continue
        flag, equals, value = argument.lstrip("-").partition("=")
        key = flag.replace("-", "_")
        if not equals:
            value = "true"
            if waiting and "=" not in waiting[0] and not FLAG.match(waiting[0]):
                value = waiting.pop(0)
        if known and "." not in key and key not in known:
            positive = key.removeprefix("no_")
            if positive in known:
                key, value = positive, "false"
            else:
                key = most_similar(key, known)
        if not key:
            return []
        found.append(f"{key}={value}")
    return found


def _keys_of(section: str) -> list[str]:
    """Return the names of a section's settings; `annotate.push` is a section within another."""
    if not section:
        return []
    from coa.settings.help import sections_within
    from coa.settings.sections import hints_of  # Only an error needs them.

    for found in sections_within(section.partition(".")[0]):
        if found.name == section:
            return list(hints_of(found.kind))
    return []
