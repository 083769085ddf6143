"""Refuse to replace a file that is not a table of the kind that a command writes."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from coa.errors import OutputError, writing_error

_PARQUET = b"PAR1"
"""What every parquet file begins with."""


def check_own_file(path: Path, key: bytes, columns: Sequence[str]) -> None:
    """Refuse to replace a file that is not a table of the same kind.

    An empty or a truncated file may be replaced.

    Args:
        path: The file that a command is about to write.
        key: A key in the metadata of every file that the command writes.
        columns: Their columns; the first tells one kind of table from another.

    Raises:
        OutputError: The path names something else.
    """
    try:
        fault = _foreign(path, key, columns)
    except OSError as error:
        raise writing_error(path, error) from error
    if fault:
        raise OutputError(
            f"{path} is in the way: nothing was deleted",
            where=path.absolute(),
            expected="no file, or one that this command wrote",
            got=fault,
            fix="name another file, or move this one away yourself",
        )


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
