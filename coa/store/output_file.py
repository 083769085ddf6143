"""Refuse to replace a file that is not of the kind that a command writes, or that was changed.

A table is known by its columns and its metadata, a JSON file by its keys. A file of settings that
people may change holds the hash of what was written at the end of its first line.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from coa.errors import ConfigError, OutputError, writing_error

_PARQUET = b"PAR1"
"""What every parquet file begins with."""


def check_own_file(path: Path, key: bytes, columns: Sequence[str]) -> None:
    """Refuse to replace a file that is not a table of the same kind.

    An empty or a truncated file may be replaced. `key` is in the metadata of every file that the
    command writes, and the first of the columns tells one kind of table from another.

    Raises:
        OutputError: The path names something else.
    """
    try:
        fault = _foreign(path, key, columns)
    except OSError as error:
        raise writing_error(path, error) from error
    if fault:
        raise _in_the_way(path, fault)


def check_own_json(path: Path, keys: Sequence[str]) -> None:
    """Refuse to replace a file that is not a JSON object with these keys; an empty one may be.

    Raises:
        OutputError: The path names something else.
    """
    try:
        content = b"" if path.is_dir() or not path.exists() else path.read_bytes()
    except OSError as error:
        raise writing_error(path, error) from error
    fault = "a folder" if path.is_dir() else ""
    if content:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            fault = "a file that is not JSON"
        else:
            is_own = isinstance(found, dict) and found.keys() >= set(keys)
            fault = "" if is_own else "JSON of another kind"
    if fault:
        raise _in_the_way(path, fault)


def _in_the_way(path: Path, fault: str) -> OutputError:
    return OutputError(
        f"{path} is in the way: nothing was deleted",
        where=path.absolute(),
        expected="no file, or one that this command wrote",
        got=fault,
        fix="name another file, or move this one away yourself",
    )


def signed(head: str, text: str) -> str:
    """Return a text below a line with `head` and the text's hash, by which a change is seen."""
    return f"{head}{_hash_of(text)}\n{text}"


def check_unchanged(path: Path, text: str) -> None:
    """Refuse to replace a `signed` file that is not as it was written.

    It may be replaced where what is below its first line is `text` already, or where it is empty.

    Raises:
        ConfigError: The file was changed by hand, or is another's.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}", got=error, fix="move it away, and run the command again"
        ) from error
    head, _, rest = content.partition("\n")
    if content.strip() and rest != text and not head.endswith(_hash_of(rest)):
        raise ConfigError(
            f"{path} was changed by hand, or is of an older version",
            where=path,
            expected="a file that is as this command wrote it, which it may replace",
            fix="keep what you changed in another file, then add overwrite=true",
        )


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _foreign(path: Path, key: bytes, columns: Sequence[str]) -> str:
    """Describe a file that a command must not replace; empty where it may."""
    if path.is_dir():
        return "a folder"
    if not path.is_file() or not path.stat().st_size:
        return ""
    with path.open("rb") as file:
        if file.read(len(_PARQUET)) != _PARQUET:
            return "a file that is not parquet"
    try:
        found = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError):
        return ""
    if key not in (found.metadata or {}):
        return "a table that this project did not write"
    if columns and found.names[:1] != [*columns[:1]]:
        return f"a table of another kind, with the columns {', '.join(found.names)}"
    return ""
