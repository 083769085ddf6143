"""Find the files of a run that can be shown, and tell what the rows of each are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from coa.errors import InputError
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Trajectory
from coa.store import tables
from coa.store.files import (
    ANALYSED,
    ASSEMBLED,
    BRANCHED,
    DATA,
    EVALUATED,
    FILTERED,
    GRADED,
    INGESTED,
    SAMPLED,
)

_ORDER = (SAMPLED, INGESTED, GRADED, FILTERED, BRANCHED, ASSEMBLED, EVALUATED)
"""The order in which files are listed; others come after them, by name."""
_MAX_PARENTS = 3
"""The analysis of a run is looked for in so many folders above a file."""


class FileKind(StrEnum):
    """What the rows of a file are."""

    SAMPLED = "trajectories"
    """Trajectories as they were sampled or imported, without a grade."""
    GRADED = "graded trajectories"
    """Trajectories with their grades: graded, kept, forks, sets, evaluations."""
    DROPPED = "dropped trajectories"
    """Graded trajectories with the reason why they are not imitated."""
    PAIRS = "pairs"
    """Preference pairs."""
    QUESTIONS = "questions"
    """Questions with their accepted answers."""


RECORDS: dict[FileKind, type[Any]] = {
    FileKind.SAMPLED: Trajectory,
    FileKind.GRADED: GradedTrajectory,
    FileKind.DROPPED: Dropped,
    FileKind.PAIRS: PreferencePair,
    FileKind.QUESTIONS: Question,
}
"""The record of each kind."""
OF_TRAJECTORIES = frozenset({FileKind.SAMPLED, FileKind.GRADED, FileKind.DROPPED})


@dataclass(frozen=True, slots=True)
class RunFile:
    """One file that can be shown."""

    name: str
    """The path, as written in addresses."""
    path: Path
    kind: FileKind


def find_files(names: Sequence[str]) -> dict[str, RunFile]:
    """Find the files that can be shown, by their name: files, folders and assembled sets.

    Without a name, all of `data/` is shown.

    Raises:
        InputError: A named file is missing, broken or of another kind; or there is none at all.
    """
    found: dict[str, RunFile] = {}
    for name in names or [DATA.as_posix()]:
        for path in sorted(_paths_of(name), key=_place):
            kind = kind_of(path)
            if kind is not None:
                found[path.as_posix()] = RunFile(path.as_posix(), path, kind)
            elif path.as_posix() == Path(name).as_posix():
                raise InputError(
                    f"{path} holds no rows that can be shown",
                    expected=f"a parquet file of {', '.join(FileKind)}",
                    got=f"columns {tables.open_parquet(path).schema_arrow.names}",
                )
    if not found:
        raise InputError(
            "there is nothing to show",
            where=" ".join(names) or f"{DATA}/",
            expected="parquet files that a run has written",
            fix="make some first (`dvc repro`), or name a file, a folder or a set",
        )
    return found


def _paths_of(name: str) -> Iterator[Path]:
    # The name of a set goes first: in the repository, `coa` is also a folder.
    folder = ASSEMBLED / name
    path = folder if "/" not in name and folder.is_dir() else Path(name)
    if path.is_dir():
        yield from path.rglob("*.parquet")
    else:
        yield path


def _place(path: Path) -> tuple[int, str]:
    for number, beginning in enumerate(_ORDER):
        if path == beginning or beginning in path.parents:
            return number, path.as_posix()
    return len(_ORDER), path.as_posix()


def kind_of(path: Path) -> FileKind | None:
    """Tell by its columns what the rows of a file are; None for other files.

    Raises:
        InputError: The file is missing or not parquet.
    """
    columns = set(tables.open_parquet(path).schema_arrow.names)
    for kind, record in RECORDS.items():
        if columns.issuperset(tables.required_columns(record)):
            return kind
    return None


def analysis_of(path: Path) -> Path | None:
    """Return the file that says why the trajectories of a file failed, as far as there is one."""
    for folder in list(path.parents)[:_MAX_PARENTS]:
        candidate = folder / ANALYSED.name
        if candidate.is_file():
            return candidate
    return None
