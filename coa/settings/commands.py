"""List the commands that `coa` starts, each with its module and its section of the settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import ConfigError, closest

ROOT = Path(__file__).parent.parent
"""The folder of all packages."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command."""

    name: str
    """As it is typed after `coa`."""
    module: str
    """What `python -m` would start."""
    section: str = ""
    """The section of the settings whose keys need no section's name; empty for none."""
    first: str = ""
    """The setting that the first argument without `=` stands for; empty: it is passed on as it
    is."""

    @property
    def doc(self) -> str:
        """Read the module's docstring from its file, without importing it."""
        path = ROOT.joinpath(*self.module.split("."))
        file = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
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
    "Look": (
        Command("ask", "coa.ask", "teacher"),
        Command("view", "coa.view", "view"),
        Command("show", "coa.show"),
        Command("summary", "curate.summary"),
        Command("costs", "coa.costs", "costs"),
        Command("lineage", "data_cards.lineage"),
        Command("doctor", "coa.doctor", "doctor", first="set"),
    ),
    "Settings": (
        Command("init", "coa.init"),
        Command("params", "coa.params"),
        Command("pipeline", "coa.pipeline", "pipeline"),
        Command("code", "coa.code_hashes"),
        Command("check", "train.check", "train"),
        Command("rehearse", "coa.rehearse", "rehearse"),
    ),
    "Questions and search": (
        Command("microworld", "synth.microworld", "microworld"),
        Command("fetch", "synth.fetch", "fetch"),
        Command("base", "coa.base_models", "base", first="name"),
        Command("questions", "synth.questions", "questions"),
        Command("index", "coa.search.index", "index"),
        Command("embed", "coa.search.embed", "search"),
        Command("serve", "coa.search.serve", "serve"),
        Command("search-evaluate", "coa.search.evaluate", "search_evaluate"),
    ),
    "Trajectories": (
        Command("sample", "synth.sample", "sample"),
        Command("merge", "coa.merge"),
        Command("ingest", "synth.ingest", "ingest"),
        Command("grade", "curate.grade", "grade"),
        Command("judge-agreement", "curate.judge_agreement", "judge_agreement"),
        Command("analyse", "curate.analyse", "analyse"),
        Command("report", "curate.report"),
        Command("filter", "curate.filter", "filter"),
    ),
    "Pairs and sets": (
        Command("branch", "curate.branch", "branch"),
        Command("student-pairs", "curate.student_pairs", "student_pairs"),
        Command("student-set", "curate.student_set", "student_set"),
        Command("screen", "curate.screen", "screen"),
        Command("assemble", "curate.assemble", "assemble"),
    ),
    "Review": (
        Command("review-serve", "annotate.serve", "annotate.serve"),
        Command("review-push", "annotate.push", "annotate.push"),
        Command("review-pull", "annotate.pull", "annotate"),
        Command("agreement", "annotate.agreement", "annotate"),
    ),
    "Training": (
        Command("train", "train.run", "train", first="stage"),
        Command("evaluate", "evaluation.evaluate", "evaluate", first="model"),
        Command("fidelity", "evaluation.fidelity", "fidelity"),
        Command("table", "evaluation.table", "table"),
        Command("training", "lab.training"),
        Command("lab-page", "lab.page"),
        Command("gate", "evaluation.gate", "gate"),
        Command("pin", "evaluation.pin", "evaluate"),
        Command("run-files", "evaluation.run_files", "evaluate"),
    ),
    "Publishing": (
        Command("render", "data_cards.render", "render"),
        Command("models", "data_cards.models", "models"),
        Command("export", "data_cards.export", "export"),
        Command("publish", "data_cards.publish", "publish"),
    ),
}
"""All commands, as the help shows them."""


def find_command(name: str) -> Command:
    """Return the command of a name, or of a module.

    A module of the project that is no command has a help of its own, its docstring.

    Raises:
        ConfigError: There is none.
    """
    known = {command.name: command for group in GROUPS.values() for command in group}
    if name in known:
        return known[name]
    for command in known.values():
        if command.module == name:
            return command
    if "." in name and ROOT.joinpath(*name.split(".")).with_suffix(".py").is_file():
        return Command(name, name)
    fix = closest(name, known) or "`coa --help` lists the commands"
    raise ConfigError(f"unknown command {name!r}", got=name, fix=fix)
