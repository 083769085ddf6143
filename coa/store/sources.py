"""Read rows of files that others made: parquet, JSON lines or CSV, each row with its place."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa

from coa.errors import ConfigError, InputError, check_no_folder
from coa.settings.own_parts import load_function
from coa.store.tables import open_parquet, parquet_batches, require_columns


class SourceRow(NamedTuple):
    """One row as it is in its file."""

    where: str
    """File and row, for errors; rows count from 1 as editors count lines."""
    values: Mapping[str, Any]


def read_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...] = (), own_reader: str = ""
) -> Iterator[SourceRow]:
    """Read the rows of `path` one by one, with our names for the columns.

    Args:
        path: The file.
        columns: Maps our name of each column to the file's; no others are read.
        optional: Our names of columns that may be missing; their values are then None.
        own_reader: A function of the user's that reads the file, as `module:name`.

    Raises:
        InputError: The file is missing, broken or not UTF-8, or lacks a column.
        ConfigError: The file's ending is not .parquet, .jsonl or .csv.
    """
    reader = _READERS.get(ending_of(path))
    if own_reader:
        reader = partial(_own_rows, own_reader=own_reader)
    is_compressed = path.suffix in COMPRESSIONS and not own_reader
    if reader is None or (is_compressed and reader is not _jsonl_rows):
        raise ConfigError(
            f"cannot tell the format of {path}", expected=f"a name ending in {', '.join(_READERS)}"
        )
    check_no_folder(path)
    if not path.is_file():
        raise InputError(
            f"{path} is missing",
            fix="check the path in params.yaml, or run `dvc repro` where it makes it",
        )
    needed = _needed_columns(columns, optional)
    for where, values in reader(path, columns, optional):
        for theirs in needed:
            if values.get(theirs) is None:
                got = ", ".join(sorted(str(name) for name in values))
                raise InputError(
                    f"no value in column {theirs!r}", where=where, got=f"columns {got}"
                )
        yield SourceRow(where, {name: values.get(theirs) for name, theirs in columns.items()})


def _needed_columns(columns: Mapping[str, str], optional: tuple[str, ...]) -> list[str]:
    """Return the file's names of the columns that must not be missing."""
    return [theirs for name, theirs in columns.items() if name not in optional]


def _parquet_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    file = open_parquet(path)
    found = file.schema_arrow.names
    require_columns(path, found, _needed_columns(columns, optional))
    read = [theirs for theirs in columns.values() if theirs in found]
    row = 0
    for batch in parquet_batches(path, file, read):
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
            require_columns(path, reader.fieldnames or (), _needed_columns(columns, optional))
            for values in reader:
                yield f"{path}, line {reader.line_num}", values
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8", got=error, fix=_UTF8) from error
    except csv.Error as error:
        raise InputError(
            f"{path} is not CSV", where=f"line {reader.line_num}", got=error
        ) from error


def _own_rows(path: Path, *_: object, own_reader: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, values in enumerate(own_rows(path, own_reader), start=1):
        yield f"{path}, row {number}", values


def own_rows(path: Path, own_reader: str) -> Iterator[dict[str, Any]]:
    """Read a file by a function of the user's, which is given its path and yields its rows.

    Raises:
        ConfigError: The function cannot be loaded, or yields what is no row.
    """
    for number, values in enumerate(load_function(own_reader, "reader")(path), start=1):
        if not isinstance(values, dict):
            raise ConfigError(
                f"the reader {own_reader!r} yields what is no row",
                where=f"{path}, row {number}",
                expected="a dict of values by column",
                got=type(values).__name__,
            )
        yield values


@contextmanager
def open_lines(path: Path) -> Iterator[BinaryIO]:
    """Open a file of lines, which may be compressed with gzip or zstd.

    Raises:
        InputError: The compressed data is damaged.
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
    """Return the ending that tells a file's format; an ending for a compression is left out."""
    return path.with_suffix("").suffix if path.suffix in COMPRESSIONS else path.suffix


COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_Reader = Callable[[Path, Mapping[str, str], tuple[str, ...]], Iterator[tuple[str, dict[str, Any]]]]
_READERS: dict[str, _Reader] = {".parquet": _parquet_rows, ".jsonl": _jsonl_rows, ".csv": _csv_rows}
_UTF8 = "convert it: iconv -f latin1 -t utf-8 OLD > NEW"
