"""Read the rows of a file that others made: JSON lines, one JSON document, or parquet.

A document is a list of rows, or an object of rows by key. JSON lines are read one at a time, a
document is held in memory as a whole: FireAct's have up to 3 MB.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import InputError
from coa.records.unreadable import UnreadableError, UnreadableReason
from coa.store.sources import json_values, own_rows
from coa.store.tables import open_parquet, parquet_batches

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class FoundRow(NamedTuple):
    """A row of a foreign file, or why it cannot be read."""

    number: int
    """The line, from 1; in a JSON document or in parquet the position of the row, from 1."""
    values: Mapping[str, Any] | UnreadableError


def find_files(pattern: str) -> list[Path]:
    """List the files of a name or pattern, in order.

    Raises:
        InputError: there is none, or a folder is among them.
    """
    names = sorted(glob(pattern)) or [pattern]  # noqa: PTH207 (may be absolute)
    paths = [Path(name) for name in names]
    for path in paths:
        if path.is_dir():
            ending = "parquet" if any(path.glob("*.parquet")) else "json*"
            raise InputError(
                f"{path} is a folder",
                expected="a file or a pattern of files",
                fix=f'name its files: "{path}/*.{ending}"',
            )
        if not path.is_file():
            raise InputError(f"{path} is missing", fix="check the path")
    return paths


def read_foreign_file(path: Path, max_row_bytes: int, own_reader: str = "") -> Iterator[FoundRow]:
    """Yield every row of a file of JSON lines, of a JSON list or object by index, or of parquet.

    `own_reader` names a function of the user's that reads the file (`coa.store.sources.own_rows`).

    Raises:
        InputError: the file is one JSON document that is too large to be held in memory, or its
            name ends in .parquet and it is damaged or no such file.
    """
    if path.suffix == ".parquet" and not own_reader:
        yield from _parquet_rows(path)
        return
    if own_reader:
        values: Iterable[tuple[int, Any]] = enumerate(own_rows(path, own_reader), start=1)
    else:
        values = json_values(path, max_row_bytes)
    for number, value in values:
        try:
            yield FoundRow(number, _checked(value))
        except UnreadableError as error:
            yield FoundRow(number, error)


def _parquet_rows(path: Path) -> Iterator[FoundRow]:
    file = open_parquet(path)
    number = 0
    for batch in parquet_batches(path, file, file.schema_arrow.names):
        for index in range(batch.num_rows):
            number += 1
            try:
                (row,) = batch.slice(index, 1).to_pylist()
                yield FoundRow(number, _checked(row))
            except UnicodeDecodeError as error:
                refused = UnreadableError(UnreadableReason.NOT_UTF8, error.start, error.reason)
                yield FoundRow(number, refused)
            except UnreadableError as error:
                yield FoundRow(number, error)


def _checked(row: Any) -> Mapping[str, Any]:
    """Return the row, if it is an object whose texts can be stored."""
    if isinstance(row, UnreadableError):
        raise row
    if not isinstance(row, dict):
        detail = f"a {type(row).__name__}, not an object"
        raise UnreadableError(UnreadableReason.NOT_JSON, 0, detail)
    for text in _texts(row):
        storable(text)
    return row


def storable(text: str) -> str:
    """Return the text, if a table can hold it.

    Raises:
        UnreadableError: it holds a null or half of a surrogate pair.
    """
    found = _UNSTORABLE.search(text)
    if found is None:
        return text
    reason = UnreadableReason.NOT_UTF8
    if found[0] == "\0":
        reason = UnreadableReason.NULL_BYTE
    position = found.start()
    raise UnreadableError(reason, position, text[max(0, position - 20) : position])


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value, however deep."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            todo += item.values()
        elif isinstance(item, list):
            todo += item
