"""List the rows of a file by a few short columns, and filter them.

Only these columns are read, so a file of a million rows is listed within seconds and its long texts
stay on the disk. A list stays in memory until its file changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl

from coa.errors import InputError
from coa.store import tables
from coa.view.run_files import FileKind, RunFile, analysis_of

NUMBER = "n"
"""The column of a row's place in its file, from 0."""
_TRAJECTORY = {
    "id": "trajectory_id",
    "question_id": "question_id",
    "question": "question",
    "mode": "mode",
    "model": "model",
    "stop": "stop_reason",
    "actions": "num_actions",
    "tokens": "num_policy_tokens",
}
_LABELS = {
    "grade": "grade.verdict",
    "answer": "grade.prediction",
    "hops": "num_hops",
    "type": "question_type",
}
_WITHIN = {name: f"trajectory.{path}" for name, path in _TRAJECTORY.items()}
_GRADED = {**_WITHIN, **_LABELS}
_DROPPED = {name: f"row.{path}" for name, path in _GRADED.items()}
COLUMNS: dict[FileKind, dict[str, str]] = {
    FileKind.SAMPLED: _TRAJECTORY,
    FileKind.GRADED: _GRADED,
    FileKind.DROPPED: {**_DROPPED, "reason": "reason"},
    FileKind.PAIRS: {
        "id": "pair_id",
        "question_id": "question_id",
        "question": "question",
        "kind": "kind",
        "model": "model",
        "tool": "tool",
        "worth": "worth.value",
    },
    FileKind.QUESTIONS: {
        "id": "question_id",
        "question_id": "question_id",
        "question": "question",
        "type": "question_type",
        "hops": "num_hops",
        "source": "source",
    },
}
"""The columns of a list and where a row has them, by the kind of file."""
_STEPS = {
    FileKind.SAMPLED: ("steps",),
    FileKind.GRADED: ("trajectory.steps",),
    FileKind.DROPPED: ("row.trajectory.steps",),
    FileKind.PAIRS: ("prefix", "chosen", "rejected"),
}
"""Where a row has its steps."""
FILTERS = (
    "grade",
    "cause",
    "reason",
    "kind",
    "mode",
    "hops",
    "actions",
    "type",
    "stop",
    "tool",
    "model",
    "source",
)
"""The columns by whose values rows can be chosen, in the order of the page."""
_REPEATED = (*FILTERS[:5], "type", "stop", "tool", "model", "source")
"""Columns with few different values, which take little memory as categories."""
_SEARCHED = ("id", "question", "answer")
_MAX_CHOICES = 40
Version = tuple[str, int, int]
"""A path, and the time and size of the file."""
NONE = "none"
"""The value that stands for a missing one."""


@dataclass(frozen=True, slots=True)
class Search:
    """Which rows are wanted."""

    values: tuple[tuple[str, str], ...] = ()
    """Columns and the value that each must have."""
    text: str = ""
    """A text that the id, the question or the answer holds, in any case."""
    in_steps: bool = False
    """Whether the text is looked for in the steps instead: every text of the file is read."""
    sort: str = ""
    """A column to sort by; after `-` from the largest down. Empty: the order of the file."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value of a column that can be chosen."""

    value: str
    num_rows: int


def all_rows(file: RunFile) -> pl.DataFrame:
    """Return all rows of a file, which stay in memory until it changes.

    Raises:
        InputError: The file is damaged.
    """
    return _listed(file, version_of(file.path))


@lru_cache(maxsize=6)
def _listed(file: RunFile, _: Version) -> pl.DataFrame:
    """Read a list; of a million rows, one takes about half a gigabyte."""
    return _with_causes(file, read_list(file))


def find_rows(file: RunFile, search: Search) -> pl.DataFrame:
    """Return the rows that are wanted, in their order.

    Raises:
        InputError: The file is damaged.
    """
    frame = all_rows(file).lazy()
    columns = frame.collect_schema().names()
    for name, value in search.values:
        if name in columns:
            is_wanted = pl.col(name).cast(pl.String) == value
            if value == NONE:
                is_wanted |= pl.col(name).is_null()
            frame = frame.filter(is_wanted)
    if search.text and search.in_steps:
        places = _with_text(file, version_of(file.path), search.text)
        frame = frame.filter(pl.col(NUMBER).is_in(places.implode()))
    elif search.text:
        parts = [_contains(pl.col(it), search.text) for it in _SEARCHED if it in columns]
        frame = frame.filter(pl.any_horizontal(parts))
    by = search.sort.removeprefix("-")
    if by in columns:
        is_down = search.sort.startswith("-")
        frame = frame.sort(by, descending=is_down, nulls_last=True, maintain_order=True)
    return frame.collect()


def version_of(path: Path) -> Version:
    """Tell one version of a file from the next."""
    try:
        found = path.stat()
    except OSError as error:
        fix = "a run may be writing it again: wait for it, or start `coa view` again"
        raise InputError(f"{path} is not there any more", fix=fix) from error
    return path.as_posix(), found.st_mtime_ns, found.st_size


def read_list(file: RunFile, groups: Sequence[int] | None = None) -> pl.DataFrame:
    """Read the short columns of a file, or of some of its row groups.

    Raises:
        InputError: The file is damaged.
    """
    opened = tables.open_parquet(file.path)
    schema = opened.metadata.schema
    there = {schema.column(i).path for i in range(len(schema))}
    wanted = {name: path for name, path in COLUMNS[file.kind].items() if path in there}
    starts = starts_of(opened)
    parts = []
    for group in range(opened.num_row_groups) if groups is None else groups:
        try:
            table = opened.read_row_group(group, columns=list(wanted.values()))
        except (OSError, ValueError) as error:
            raise InputError(f"{file.path} is damaged", got=str(error).splitlines()[0]) from error
        part = pl.DataFrame(pl.from_arrow(table)).select(
            **{name: leaf(path) for name, path in wanted.items()}
        )
        parts.append(part.with_row_index(NUMBER, offset=starts[group]))
    if not parts:
        return pl.DataFrame(schema={NUMBER: pl.UInt32, **dict.fromkeys(wanted, pl.String)})
    return pl.concat(parts)


def starts_of(opened: Any) -> list[int]:
    """Return the place of the first row of every row group."""
    starts = [0]
    metadata = opened.metadata
    for group in range(metadata.num_row_groups):
        starts.append(starts[-1] + metadata.row_group(group).num_rows)
    return starts


def leaf(path: str) -> pl.Expr:
    """Return a column within others by its path, such as `trajectory.model`."""
    first, *others = path.split(".")
    column = pl.col(first)
    for name in others:
        column = column.struct.field(name)
    return column


def _with_causes(file: RunFile, rows: pl.DataFrame) -> pl.DataFrame:
    """Add why rows failed, where the analysis of the run knows, and make few values small."""
    analysis = analysis_of(file.path)
    if {"id", "stop", "actions"} <= set(rows.columns) and analysis is not None:
        causes = pl.scan_parquet(analysis).select(
            "cause",
            blamed="step",
            id="trajectory_id",
            stop="stop_reason",
            actions="num_actions",
        )
        # Another run's trajectory of the same id mostly ended in another way.
        same = ["id", "stop", "actions"]
        rows = rows.lazy().join(causes, on=same, how="left", maintain_order="left").collect()
    repeated = [name for name in _REPEATED if name in rows.columns]
    return rows.with_columns(pl.col(repeated).cast(pl.Categorical))


def _contains(column: pl.Expr, text: str) -> pl.Expr:
    lower = column.cast(pl.String).str.to_lowercase()
    return lower.str.contains(text.lower(), literal=True).fill_null(value=False)


@lru_cache(maxsize=32)
def _with_text(file: RunFile, _: Version, text: str) -> pl.Series:
    """Return the places of the rows whose steps hold a text."""
    paths = _STEPS.get(file.kind, ())
    if not paths:
        return pl.Series(NUMBER, [], dtype=pl.UInt32)
    in_step = _contains(pl.element().struct.field("text"), text)
    parts = [leaf(path).list.eval(in_step).list.any() for path in paths]
    found = pl.scan_parquet(file.path).with_row_index(NUMBER).filter(pl.any_horizontal(parts))
    return found.select(NUMBER).collect(engine="streaming")[NUMBER]


def choices(rows: pl.DataFrame) -> Iterator[tuple[str, list[Choice]]]:
    """Yield the columns by which rows can be chosen, with the values that they have."""
    for name in FILTERS:
        if name not in rows.columns:
            continue
        counted = rows.group_by(name).len().sort("len", descending=True).head(_MAX_CHOICES)
        found = []
        for value, num_rows in counted.iter_rows():
            found.append(Choice(NONE if value is None else str(value), num_rows))
        if name in ("hops", "actions"):
            found.sort(key=lambda choice: (choice.value == NONE, len(choice.value), choice.value))
        if found and not (len(found) == 1 and found[0].value in (NONE, "")):
            yield name, found


def neighbour(rows: pl.DataFrame, number: int, by: int) -> str | None:
    """Return the id of the row that stands so many places after one among those found.

    It is None where there is no such row, or the row itself was not found.
    """
    at = rows[NUMBER].index_of(number)
    if at is None or not 0 <= at + by < len(rows):
        return None
    return str(rows["id"][at + by])
