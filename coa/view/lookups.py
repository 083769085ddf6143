"""Open single rows of a large file, by their place or by an id, without reading the others."""

from bisect import bisect_right
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import polars as pl
import pyarrow.parquet as pq

from coa.errors import InputError
from coa.records.causes import Analysis
from coa.records.trajectory import Trajectory
from coa.store import tables
from coa.view.listing import COLUMNS, NUMBER, Version, leaf, read_list, starts_of, version_of
from coa.view.run_files import RECORDS, RunFile, analysis_of


class _Footer(NamedTuple):
    """The metadata of a parquet file, which takes longer to read than a row."""

    metadata: Any
    starts: tuple[int, ...]
    """The place of the first row of every row group, and the number of rows."""


@lru_cache(maxsize=64)
def _footer(version: Version) -> _Footer:
    opened = tables.open_parquet(Path(version[0]))
    return _Footer(opened.metadata, tuple(starts_of(opened)))


@lru_cache(maxsize=128)
def _ranges(version: Version, path: str) -> tuple[tuple[str, str] | None, ...]:
    """Return the least and the greatest value of a column in every row group, where known."""
    metadata = _footer(version).metadata
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    column = names.index(path)
    found: list[tuple[str, str] | None] = []
    for group in range(metadata.num_row_groups):
        it = metadata.row_group(group).column(column).statistics
        found.append((it.min, it.max) if it is not None and it.has_min_max else None)
    return tuple(found)


def _read_group(path: Path, group: int, columns: list[str] | None = None) -> pl.DataFrame:
    """Read a row group of a file, or some columns of it."""
    try:
        opened = pq.ParquetFile(path, metadata=_footer(version_of(path)).metadata)
        # One group is small: threads would cost more than they save.
        table = opened.read_row_group(group, columns=columns, use_threads=False)
        return pl.DataFrame(pl.from_arrow(table))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged", got=str(error).splitlines()[0]) from error


def read_record(path: Path, record: type[Any], number: int) -> Any:
    """Read the record at a place of a file; only its row group is read.

    Raises:
        InputError: There is no such row, or it is not a record of this version.
    """
    starts = _footer(version_of(path)).starts
    if not 0 <= number < starts[-1]:
        raise InputError(f"{path} has no row {number}", expected="a row that is there")
    group = bisect_right(starts, number) - 1
    (values,) = _read_group(path, group).slice(number - starts[group], 1).to_dicts()
    try:
        return msgspec.convert(values, record)
    except msgspec.ValidationError as error:
        raise InputError(
            f"a row of {path} is not a {record.__name__}", where=f"row {number}", got=error
        ) from error


def read_row(file: RunFile, number: int) -> Any:
    """Read the record at a place of a file that is shown; see `read_record`."""
    return read_record(file.path, RECORDS[file.kind], number)


def find_numbers(file: RunFile, column: str, value: str) -> list[int]:
    """Return the places of the rows whose `id` or `question_id` is this one."""
    return _find_places(file.path, COLUMNS[file.kind][column], value)


def _find_places(path: Path, column: str, value: str) -> list[int]:
    """Return the places of the rows with a value.

    Row groups whose statistics exclude it are not read.
    """
    version = version_of(path)
    places = []
    for group, known in enumerate(_ranges(version, column)):
        if known is not None and not known[0] <= value <= known[1]:
            continue
        start = _footer(version).starts[group]
        values = _read_group(path, group, [column]).select(value=leaf(column))
        within = values.with_row_index(NUMBER).filter(pl.col("value") == value)
        places += [start + int(number) for number in within[NUMBER]]
    return places


def _rows_with(file: RunFile, column: str, value: str) -> list[dict[str, Any]]:
    """Return the short columns of the rows that have a value."""
    places = find_numbers(file, column, value)
    if not places:
        return []
    starts = _footer(version_of(file.path)).starts
    groups = sorted({bisect_right(starts, place) - 1 for place in places})
    return read_list(file, groups).filter(pl.col(column) == value).to_dicts()


class Related(NamedTuple):
    """A row of the same question."""

    file: RunFile
    values: Mapping[str, Any]
    """The short columns of the row."""

    @property
    def row_id(self) -> str:
        """Return the id of the row."""
        return str(self.values["id"])

    @property
    def number(self) -> int:
        """Return the place of the row in its file."""
        return int(self.values[NUMBER])

    @property
    def address(self) -> str:
        """Return the file and the id as one text."""
        return f"{self.file.name}#{self.row_id}"

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what rows have in common that are one trajectory in several files.

        Models that answer the same questions give their trajectories the same ids.
        """
        names = ("id", "model", "stop", "actions", "tokens")
        return tuple(self.values.get(name) for name in names)


def rows_of_question(files: Mapping[str, RunFile], question_id: str) -> list[Related]:
    """Find all rows of a question, in every file that is open.

    Raises:
        InputError: A file is damaged.
    """
    found = []
    for file in files.values():
        if not file.path.exists():  # A run is writing it again.
            continue
        for values in _rows_with(file, "question_id", question_id):
            found.append(Related(file, values))
    return found


def find_analysis(file: RunFile, trajectory: Trajectory) -> Analysis | None:
    """Find why a trajectory failed; None where the run's analysis does not know it.

    Another run's trajectory of the same id mostly ended in another way, and is passed over.
    """
    path = analysis_of(file.path)
    if path is None:
        return None
    for place in _find_places(path, "trajectory_id", trajectory.trajectory_id):
        found: Analysis = read_record(path, Analysis, place)
        ended = (found.stop_reason, found.num_actions)
        if ended == (trajectory.stop_reason, trajectory.num_actions):
            return found
    return None
