"""Rows of files that others made: parquet, JSON lines or CSV, streamed, each with the place it came from."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from coa.errors import ConfigError, InputError, check_no_folder
from coa.tables import open_parquet, parquet_batches, require_columns


class SourceRow(NamedTuple):
    """One row as it stands in its file."""

    where: str
    """File and row, for errors; rows count from 1 as editors count lines."""
    values: Mapping[str, Any]


def read_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...] = ()
) -> Iterator[SourceRow]:
    """The rows of `path` under our names: `columns` maps our column to the file's, where they differ.

    Only the columns named on the left are read; those in `optional` may be missing and are then None.

    Raises:
        InputError: the file is missing, broken or not UTF-8, or lacks a column.
        ConfigError: the file's ending is not .parquet, .jsonl or .csv.
    """
    reader = _READERS.get(ending_of(path))
    if reader is None or (path.suffix in COMPRESSIONS and reader is not _jsonl_rows):
        raise ConfigError(
            f"cannot tell the format of {path}", expected=f"a name ending in {', '.join(_READERS)}"
        )
    check_no_folder(path)
    if not path.is_file():
        raise InputError(
            f"{path} is missing",
            fix="check the path in params.yaml, or run `dvc repro` where it makes it",
        )
    for where, values in reader(path, columns, optional):
        if missing := [
            name for name in columns if name not in optional and values.get(columns[name]) is None
        ]:
            got = ", ".join(sorted(map(str, values)))
            raise InputError(
                f"no value in column {columns[missing[0]]!r}", where=where, got=f"columns {got}"
            )
        yield SourceRow(where, {name: values.get(theirs) for name, theirs in columns.items()})


def _parquet_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    file = open_parquet(path)
    found = file.schema_arrow.names
    require_columns(
        path, found, [theirs for name, theirs in columns.items() if name not in optional]
    )
    row = 0
    for batch in parquet_batches(
        path, file, [theirs for theirs in columns.values() if theirs in found]
    ):
        for values in batch.to_pylist():
            row += 1
            yield f"{path}, row {row}", values


def _jsonl_rows(path: Path, *_: object) -> Iterator[tuple[str, dict[str, Any]]]:
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                values = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise InputError(
                    "a line is not UTF-8", where=where, got=error, fix=_UTF8
                ) from error
            except ValueError as error:
                raise InputError("a line is not JSON", where=where, got=error) from error
            if not isinstance(values, dict):
                raise InputError(
                    "a line is not a JSON object", where=where, got=type(values).__name__
                )
            yield where, values


def _csv_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            needed = [theirs for name, theirs in columns.items() if name not in optional]
            require_columns(path, reader.fieldnames or (), needed)
            for values in reader:
                yield f"{path}, line {reader.line_num}", values
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8", got=error, fix=_UTF8) from error
    except csv.Error as error:
        raise InputError(
            f"{path} is not CSV", where=f"line {reader.line_num}", got=error
        ) from error


@contextmanager
def open_lines(path: Path) -> Iterator[BinaryIO]:
    """The lines of a file, which gzip or zstd may have compressed.

    Raises:
        InputError: the compressed data is damaged.
    """
    compression = COMPRESSIONS.get(path.suffix)
    if compression is None:
        with path.open("rb") as plain:
            yield plain
        return
    try:
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, compression) as stream:
            yield io.BufferedReader(stream, 1 << 20)
    except OSError as error:
        raise InputError(
            f"{path} cannot be decompressed", got=error, fix="fetch or make the file again"
        ) from error


def ending_of(path: Path) -> str:
    """What tells a file's format: its ending, without one that only names a compression."""
    return path.with_suffix("").suffix if path.suffix in COMPRESSIONS else path.suffix


COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_Reader = Callable[[Path, Mapping[str, str], tuple[str, ...]], Iterator[tuple[str, dict[str, Any]]]]
_READERS: dict[str, _Reader] = {".parquet": _parquet_rows, ".jsonl": _jsonl_rows, ".csv": _csv_rows}
_UTF8 = "convert it: iconv -f latin1 -t utf-8 OLD > NEW"
