"""Read rows of files that others made: parquet, JSON or CSV, each row with its place.

JSON is lines, or one document: a list of rows, or an object of rows by key. Lines are read one at a
time, the bytes of a document are held in memory as a whole. Text is UTF-8, with the mark that
Windows puts before it or without, and lines end as on Unix or on Windows.
"""

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import pyarrow as pa

from coa.errors import ConfigError, InputError, check_no_folder, most_similar
from coa.own_parts import load_function
from coa.records.unreadable import UnreadableError, UnreadableReason
from coa.store.tables import open_parquet, parquet_batches

KEY_COLUMN = "idx"
"""The column for a row's key: FireAct's runs are an object of rows by the question's index."""
_DOCUMENT = re.compile(rb'\s*(?:\[|\{\s*\n|\{\s*"\d+"\s*:\s*\{)')
"""The beginning of a document: a list, an object over several lines, or one by index."""
_HEAD_BYTES = 4096
_MAX_LIST_BYTES = 2_000_000_000
"""Of a list of rows, which are decoded one by one."""
_MAX_DOCUMENT_BYTES = 500_000_000
"""Of another document; Python needs several times as much memory for it when it is decoded."""
_MORE_THAN_ONE = "Extra data"
"""The message of `json` for a text in which another value follows the first."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        ConfigError: The file's ending is not .parquet, .jsonl, .json or .csv.
    """
    reader = _READERS.get(ending_of(path))
    if own_reader:
        reader = partial(_own_rows, own_reader=own_reader)
    is_compressed = path.suffix in COMPRESSIONS and not own_reader
    if reader is None or (is_compressed and reader is not _json_rows):
        raise ConfigError(
            f"cannot tell the format of {path}", expected=f"a name ending in {', '.join(_READERS)}"
        )
    check_no_folder(path)
    if not path.is_file():
        raise InputError(
            f"{path} is missing",
            expected="a file of questions, passages or trajectories",
            fix=_similar_file(path) or "correct the path in the profile or argument that names it",
        )
    needed = _needed_columns(columns, optional)
    where = f"{path}, row 0"
    try:
        for where, values in reader(path, columns, optional):
            for theirs in needed:
                if values.get(theirs) is None:
                    got = ", ".join(sorted(str(name) for name in values))
                    raise InputError(
                        f"no value in column {theirs!r}", where=where, got=f"columns {got}"
                    )
            yield SourceRow(where, {name: values.get(theirs) for name, theirs in columns.items()})
    except UnicodeDecodeError as error:  # in parquet, noticed only when a batch is decoded
        fix = "write the file again with UTF-8 text"
        what = f"{path} is not UTF-8"
        raise InputError(what, where=f"after {where}", got=error, fix=fix) from error


def _similar_file(path: Path) -> str:
    """Ask whether a file of a similar name in the same folder was meant."""
    if not path.parent.is_dir():
        return ""
    names = (other.name for other in path.parent.iterdir())
    similar = most_similar(path.name, names)
    return f"did you mean {path.parent / similar}?" if similar else ""


def _needed_columns(columns: Mapping[str, str], optional: tuple[str, ...]) -> list[str]:
    """Return the file's names of the columns that must not be missing."""
    return [theirs for name, theirs in columns.items() if name not in optional]


def _require_columns(
    path: Path, found: Iterable[str], columns: Mapping[str, str], needed: Sequence[str]
) -> None:
    """Refuse a file in which a needed column is missing."""
    found = [str(name) for name in found]
    if all(theirs in found for theirs in needed):
        return
    missing = [name for name, theirs in columns.items() if theirs in needed and theirs not in found]
    mapped = [theirs for name, theirs in columns.items() if name not in missing]
    free = [name for name in found if name not in mapped]
    pairs = [f"{name}: {theirs}" for name, theirs in columns.items() if theirs not in (name, "")]
    pairs = [pair for pair in pairs if pair.partition(":")[0] not in missing]
    is_guessed = True
    for name in missing:
        guesses = [other for other in _OFTEN_CALLED.get(name, ()) if other in free]
        guess = next(iter(guesses), "") or most_similar(name, free)
        is_guessed = is_guessed and bool(guess)
        pairs.append(f"{name}: {guess or '...'}")
    line = f"`columns: {{{', '.join(pairs)}}}`"
    shown = ", ".join(found[:_MAX_SHOWN]) or "none"
    raise InputError(
        f"{path} lacks the column {columns[missing[0]]!r}",
        expected=f"columns {', '.join(needed)}",
        got=f"columns {shown}{', ...' if len(found) > _MAX_SHOWN else ''}",
        fix=f"map {'them' if is_guessed else 'those that hold the same'} in the settings: {line}",
    )


_OFTEN_CALLED = {
    "question_id": ("id", "_id", "qid", "query_id", "question_id", "idx"),
    "question": ("query", "problem", "prompt", "Question", "input"),
    "gold_answers": (
        "answers",
        "answer",
        "golden_answers",
        "gold_answer",
        "Answer",
        "target",
        "final_answer",
        "ground_truth",
    ),
    "id": ("_id", "docid", "doc_id", "passage_id", "pid"),
    "title": ("name", "heading", "Title"),
    "text": ("contents", "body", "passage", "content", "Text"),
}
"""Names that other projects give to what we ask for."""
_MAX_SHOWN = 30


def _parquet_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    file = open_parquet(path)
    found = file.schema_arrow.names
    _require_columns(path, found, columns, _needed_columns(columns, optional))
    read = [theirs for theirs in columns.values() if theirs in found]
    row = 0
    for batch in parquet_batches(path, file, read):
        for values in batch.to_pylist():
            row += 1
            yield f"{path}, row {row}", values


def _json_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    needed = _needed_columns(columns, optional)
    unit = "row" if _is_document(path) else "line"
    is_first = True
    for number, values in json_values(path):
        where = f"{path}, {unit} {number}"
        if isinstance(values, UnreadableError):
            if values.reason is UnreadableReason.NOT_JSON:
                raise InputError(f"a {unit} is not JSON", where=where, got=values.detail)
            raise InputError(f"a {unit} is not UTF-8", where=where, got=values.detail, fix=_UTF8)
        if not isinstance(values, dict):
            raise InputError(
                f"a {unit} is not a JSON object", where=where, got=type(values).__name__
            )
        if is_first:
            _require_columns(path, values, columns, needed)
            is_first = False
        yield where, values


def json_values(
    path: Path, max_row_bytes: int = _MAX_DOCUMENT_BYTES
) -> Iterator[tuple[int, Any | UnreadableError]]:
    """Yield the number of each row of a JSON file, and its value or why it cannot be read.

    The file may be compressed. A line longer than `max_row_bytes` is never held in memory.

    Raises:
        InputError: The file is one JSON document that is too large, or damaged compressed data.
    """
    if _is_document(path):
        document = _read_document(path)
        if document is not None:
            yield from document
            return
    for number, line in read_lines(path, max_row_bytes):
        try:
            if line is None:
                detail = f"more than {max_row_bytes:,} bytes"
                raise UnreadableError(UnreadableReason.TOO_LARGE, 0, detail)
            yield number, _parse_json(line)
        except UnreadableError as error:
            yield number, error


def _is_document(path: Path) -> bool:
    with open_lines(path) as file:
        return _DOCUMENT.match(file.read(_HEAD_BYTES).removeprefix(_BYTE_ORDER_MARK)) is not None


def _read_document(path: Path) -> Iterator[tuple[int, Any | UnreadableError]] | None:
    """Read a file that is one JSON value; None where another value follows, as in JSON lines."""
    with open_lines(path) as file:
        content = file.read(_MAX_LIST_BYTES + 1)
    content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        rows = msgspec.json.decode(content, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass  # It is no list, or a fault is in it, whose place is found below.
    else:
        return _read_raw(rows)
    if len(content) > _MAX_DOCUMENT_BYTES:
        raise InputError(
            f"{path} is one JSON document, too large to be held in memory",
            expected=f"at most {_MAX_DOCUMENT_BYTES:,} bytes, or JSON lines",
            fix=f"jq -c '.[]' {path} > {path.with_suffix('.jsonl')}",
        )
    try:
        document = _parse_json(content)
    except UnreadableError as error:
        if error.detail == _MORE_THAN_ONE:
            return None
        return iter([(1, error)])
    return enumerate(_rows_of(document), start=1)


def _read_raw(rows: list[msgspec.Raw]) -> Iterator[tuple[int, Any | UnreadableError]]:
    for number, row in enumerate(rows, start=1):
        try:
            yield number, _parse_json(bytes(row))
        except UnreadableError as error:
            yield number, error


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
    with open_lines(path) as file:
        for number in itertools.count(1):
            line = file.readline(max_bytes + 1)
            if not line:
                return
            if number == 1:
                line = line.removeprefix(_BYTE_ORDER_MARK)
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


def _csv_rows(
    path: Path, columns: Mapping[str, str], optional: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            found = reader.fieldnames or ()
            _require_columns(path, found, columns, _needed_columns(columns, optional))
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
_READERS: dict[str, _Reader] = {
    ".parquet": _parquet_rows,
    ".jsonl": _json_rows,
    ".json": _json_rows,
    ".csv": _csv_rows,
}
_UTF8 = "convert it: iconv -f latin1 -t utf-8 OLD > NEW (a file of Windows may be utf-16)"
