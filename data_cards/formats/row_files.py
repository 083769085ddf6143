"""Write rows of another tool's format to parquet or to JSON lines, never all at once."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_ROWS_AT_ONCE = 1_000


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to parquet, a group at a time, and return how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    batch: list[Mapping[str, Any]] = []
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for row in rows:
            batch.append(row)
            if len(batch) == _ROWS_AT_ONCE:
                count += _write_batch(writer, batch, schema)
                batch = []
        count += _write_batch(writer, batch, schema)
    return count


def _write_batch(writer: pq.ParquetWriter, rows: list[Mapping[str, Any]], schema: pa.Schema) -> int:
    if rows:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return len(rows)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines, and return how many there were.

    Without a row there is no file: loaders refuse an empty one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    if not count:
        path.unlink()
    return count
