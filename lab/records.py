"""Read a lab's experiments.yaml, which holds its sets, trainings, rows and comparisons.

A lab is a folder with experiments.yaml, dvc.yaml and the rows that are kept: `lab` for the
invented world, `lab/smollm` for the real language model.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from coa.errors import ConfigError, InputError, unknown_name
from coa.settings.stages import Stage
from coa.store.shipped import find_shipped

FOLDER = Path("lab")
"""The lab of the invented world."""
FILE = "experiments.yaml"
_PLACE = re.compile(r"(?<!\$)\{(\w+)\}")
"""A place in a setting or a command; `${train.prompt}` is a reference to a setting."""
_OWN = frozenset({"seed", "out"})
"""Places that stand for nothing that is made before."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a chain."""

    stage: Stage
    start: str = ""
    """The training that it starts from; empty for the first."""
    settings: str = ""
    """What differs from params.yaml, with spaces between the settings."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system: the last training of its chain, and how it is asked."""

    training: str
    title: str
    mode: str = "coa"
    split: str = "validation"
    num_questions: int = 600
    """Of each evaluation set, as in the section `evaluate`."""
    settings: str = ""
    """Of its evaluation alone, such as another search than it was trained with."""
    paper: tuple[float, ...] = ()
    """Exact match of the paper's system on its six sets; empty where the paper has none."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One question that the lab answers."""

    title: str
    claim: str
    """The claim of the paper, or the condition under which it breaks, that is tested."""
    reading: str
    """How to read the rows."""
    rows: tuple[str, ...]
    compares: tuple[tuple[str, str], ...] = ()
    """Pairs of rows: by how much the first is better than the second."""
    shows: tuple[str, ...] = ()
    """Quantities of the log of each row's last training whose first and last values are shown."""


@dataclass(frozen=True, slots=True)
class Lab:
    """All that experiments.yaml holds, by name."""

    seeds: tuple[int, ...]
    trainings: dict[str, Training]
    rows: dict[str, Row]
    experiments: dict[str, Experiment]
    sets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The commands that make each set: a module and its settings."""
    texts: dict[str, str] = field(default_factory=dict)
    """What settings and commands share."""

    def expand(self, text: str) -> str:
        """Put the texts in their places.

        Raises:
            ConfigError: a place has a name that nothing has.
        """

        def replace(place: re.Match[str]) -> str:
            name = place[1]
            if name in self.texts:
                return self.expand(self.texts[name])
            if name not in {*_OWN, *self.sets, *self.trainings}:
                known = {*_OWN, *self.texts, *self.sets, *self.trainings}
                raise unknown_name("place", name, known, where=f"{FILE}, {text!r}")
            return place[0]

        return _PLACE.sub(replace, text)

    def needs(self, text: str) -> list[str]:
        """Return the sets and trainings whose folders an expanded text names."""
        return [name for name in _PLACE.findall(text) if name not in _OWN]

    def chain_of(self, training: str) -> list[str]:
        """List the sets and trainings that lead to a training, each after those that it needs.

        Raises:
            ConfigError: a name is not known, or something needs itself.
        """
        chain: list[str] = []
        self._add(training, chain, ())
        return chain

    def _add(self, name: str, chain: list[str], waiting: tuple[str, ...]) -> None:
        if name in chain:
            return
        if name in waiting:
            raise ConfigError(f"{name} needs itself", where=FILE, got=" -> ".join([*waiting, name]))
        for needed in self._needs_of(name):
            self._add(needed, chain, (*waiting, name))
        chain.append(name)

    def _needs_of(self, name: str) -> Iterator[str]:
        if name in self.sets:
            for command in self.sets[name]:
                yield from self.needs(self.expand(command))
            return
        if name not in self.trainings:
            raise unknown_name("training", name, self.trainings, where=str(FILE))
        training = self.trainings[name]
        if training.start:
            yield training.start
        yield from self.needs(self.expand(training.settings))


def folder_of(arguments: Sequence[str]) -> Path:
    """Return the lab that a command line names: `folder=lab/smollm`, or none for `lab`.

    Raises:
        ConfigError: it says something else.
    """
    if not arguments:
        return FOLDER
    name, _, value = arguments[0].partition("=")
    if len(arguments) > 1 or name != "folder" or not value:
        got = " ".join(arguments)
        raise ConfigError("this command takes a lab alone", expected="folder=lab/smollm", got=got)
    return Path(value)


def fill(text: str, places: Mapping[str, object]) -> str:
    """Put values in the places of an expanded text."""
    return _PLACE.sub(lambda place: str(places[place[1]]), text)


@cache
def read_lab(folder: Path = FOLDER) -> Lab:
    """Read the experiments of a lab; a folder that has none is looked up beside the packages.

    Raises:
        InputError: the file cannot be read, or holds something else.
        ConfigError: an experiment names a row that is not there, or a name stands twice.
    """
    path = find_shipped(folder / FILE)
    try:
        lab = msgspec.convert(YAML(typ="safe").load(path.read_text(encoding="utf-8")), Lab)
    except (OSError, UnicodeDecodeError, YAMLError, msgspec.ValidationError) as error:
        got = str(error).replace("\n", " ")
        raise InputError(f"cannot read the experiments in {path}", got=got) from error
    for group in (lab.texts, lab.sets):
        for name in group:
            if name in _OWN or name in lab.trainings or (group is lab.texts and name in lab.sets):
                raise ConfigError(f"the name {name!r} stands for two things", where=path)
    for title, experiment in lab.experiments.items():
        compared = [name for pair in experiment.compares for name in pair]
        for name in (*experiment.rows, *compared):
            if name not in lab.rows or name not in experiment.rows:
                raise unknown_name("row", name, lab.rows, where=f"{path}, experiments.{title}")
    return lab
