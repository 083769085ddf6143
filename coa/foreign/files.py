"""Read the rows of a file that others made: JSON lines, one JSON document, or parquet.

A document is a list of rows, or an object of rows by key. JSON lines are read one at a time, a
document is held in memory as a whole: FireAct's have up to 3 MB.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from coa.errors import InputError
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.store.sources import own_rows
from coa.store.tables import open_parquet, parquet_batches

KEY_COLUMN = "idx"
"""The column for a row's key: FireAct's runs are an object of rows by the question's index."""
_DOCUMENT = re.compile(rb'\s*(?:\[|\{\s*\n|\{\s*"\d+"\s*:\s*\{)')
"""The beginning of a document: a list, an object over several lines, or one by index."""
_HEAD_BYTES = 4096
_MAX_DOCUMENT_BYTES = 500_000_000
"""Python needs several times as much memory for the decoded document."""
_MORE_THAN_ONE = "Extra data"
"""The message of `json` for a text in which another value follows the first."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
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
    if own_reader:
        yield from _document_rows(own_rows(path, own_reader))
        return
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
        return
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).removeprefix(_BYTE_ORDER_MARK)
    if _DOCUMENT.match(head):
        document = _read_document(path)
        if document is not None:
            yield from document
            return
    for number, line in read_lines(path, max_row_bytes):
        try:
            yield FoundRow(number, _read_line(line, max_row_bytes))
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


def _read_document(path: Path) -> Iterator[FoundRow] | None:
    """Read a file that is one JSON value; None where another value follows, as in JSON lines."""
    if path.stat().st_size > _MAX_DOCUMENT_BYTES:
        raise InputError(
            f"{path} is one JSON document, too large to be held in memory",
            expected=f"at most {_MAX_DOCUMENT_BYTES:,} bytes, or JSON lines",
            fix=f"jq -c '.[]' {path} > {path.with_suffix('.jsonl')}",
        )
    try:
        document = _parse_json(path.read_bytes())
    except UnreadableError as error:
        if error.detail == _MORE_THAN_ONE:
            return None
        return iter([FoundRow(1, error)])
    return _document_rows(_rows_of(document))


def _document_rows(rows: Iterable[Any]) -> Iterator[FoundRow]:
    for number, row in enumerate(rows, start=1):
        try:
            yield FoundRow(number, _checked(row))
        except UnreadableError as error:
            yield FoundRow(number, error)


def _rows_of(document: Any) -> list[Any]:
    """Split a document into its rows; an object that does not hold objects only is itself a row.

    The rows of a log of Inspect are its samples, with the model of the log.
    """
    if isinstance(document, list):
        return document
    evaluation = document.get("eval")
    samples = document.get("samples")
    if isinstance(evaluation, dict) and isinstance(samples, list):
        model = {"model": evaluation.get("model")}
        return [{**model, **sample} if isinstance(sample, dict) else sample for sample in samples]
    if document and all(isinstance(row, dict) for row in document.values()):
        return [{KEY_COLUMN: key, **row} for key, row in document.items()]
    return [document]


def read_lines(path: Path, max_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yield number and bytes of each line that is not blank.

    A line longer than `max_bytes` is None, and never held in memory.
    """
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(max_bytes + 1)
            if not line:
                return
            if len(line) > max_bytes and not line.endswith(b"\n"):
                del line  # before the next piece of it is read
                _skip_line(file, max_bytes)
                yield number, None
            elif line.strip():
                yield number, line


def _skip_line(file: BinaryIO, max_bytes: int) -> None:
    """Read the rest of a line in pieces, and drop it."""
    piece = file.readline(max_bytes)
    while piece and not piece.endswith(b"\n"):
        piece = file.readline(max_bytes)


def _read_line(line: bytes | None, max_bytes: int) -> Mapping[str, Any]:
    if line is None:
        detail = f"more than {max_bytes:,} bytes"
        raise UnreadableError(UnreadableReason.TOO_LARGE, 0, detail)
    return _checked(_parse_json(line))


def _parse_json(data: bytes) -> Any:
    null = data.find(b"\0")
    if null >= 0:
        raise UnreadableError(UnreadableReason.NULL_BYTE, null)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UnreadableError(UnreadableReason.NOT_UTF8, error.start, error.reason) from error
    except json.JSONDecodeError as error:
        raise UnreadableError(UnreadableReason.NOT_JSON, error.pos, error.msg) from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer of too many digits
        raise UnreadableError(UnreadableReason.NOT_JSON, 0, str(error)) from error


def _checked(row: Any) -> Mapping[str, Any]:
    """Return the row, if it is an object whose texts can be stored.

    Raises:
        UnreadableError: it is not.
    """
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
