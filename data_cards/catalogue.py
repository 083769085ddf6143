"""Name the sets that get a card, and say where they lie here and on the Hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path

from coa.errors import InputError
from coa.records.sets import AssembleParams
from coa.store import tables
from coa.store.files import ASSEMBLED

_READ_FROM = ContextVar("read_from", default=ASSEMBLED)
SPLITS = ("train", "validation")


class SetName(StrEnum):
    """A set, in the order in which training uses them."""

    COT_A = "cot_a"
    """Pairs that teach when to act."""
    COA = "coa"
    """Trajectories that teach how to act."""
    COT = "cot"
    """Trajectories that reason without acting."""
    RL = "rl"
    """Questions for reinforcement learning."""


HAS_TRAJECTORIES = (SetName.COA, SetName.COT)
"""The sets whose rows are graded trajectories; their names are also the names of their modes."""

TITLES = {
    SetName.COT_A: "pairs that teach when to search",
    SetName.COA: "trajectories that search",
    SetName.COT: "trajectories that reason without a tool",
    SetName.RL: "questions for reinforcement learning",
}

TASKS = {
    SetName.COT_A: ("text-generation", "question-answering"),
    SetName.COA: ("text-generation", "question-answering"),
    SetName.COT: ("text-generation", "question-answering"),
    SetName.RL: ("question-answering",),
}
"""The Hub's names for what a set is for."""

TAGS = {
    SetName.COT_A: ("preference", "dpo"),
    SetName.COA: ("sft", "tool-use"),
    SetName.COT: ("sft", "chain-of-thought"),
    SetName.RL: ("grpo",),
}


def asked_sets(params: AssembleParams) -> list[SetName]:
    """List the sets that the settings ask for."""
    return [name for name in SetName if params.sizes[name]]


def built_sets(params: AssembleParams) -> list[SetName]:
    """List the sets of this run; nothing else in the project loops over `SetName` to find files.

    A set of size 0 is none of them, whatever an earlier run left. One that is asked for is, so that
    a missing file is an error; but with `allows_fewer`, one without files had no row.

    Raises:
        InputError: the sets were not assembled yet.
    """
    asked = asked_sets(params)
    if not params.allows_fewer:
        return asked
    folder = _READ_FROM.get()
    if not folder.is_dir():
        raise InputError(f"{folder} is missing", fix="coa assemble, or dvc repro")
    return [name for name in asked if any(local_path(name, it).exists() for it in SPLITS)]


def published_splits(name: SetName) -> list[str]:
    """List the splits of a set that are published: `datasets` does not load one without rows."""
    return [split for split in SPLITS if tables.count_rows(local_path(name, split))]


def local_path(name: SetName, split: str) -> Path:
    """Give the path of a split in this project, or in the copy that is read (`sets_in`)."""
    return _READ_FROM.get() / name / f"{split}.parquet"


@contextmanager
def sets_in(folder: Path) -> Iterator[None]:
    """Read the sets from a copy of data/assemble while the block lasts."""
    token = _READ_FROM.set(folder)
    try:
        yield
    finally:
        _READ_FROM.reset(token)


def published_path(name: SetName, split: str) -> str:
    """Give the path of a split in its repository on the Hub."""
    return f"data/{name}/{split}.parquet"
