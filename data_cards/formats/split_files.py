"""Write a parquet file of rows for each split."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_cards.catalogue import SPLITS
from data_cards.formats.row_files import write_rows


def write_splits(
    folder: Path,
    prefix: str,
    schema: pa.Schema,
    rows_of: Callable[[str], Iterator[Mapping[str, Any]]],
) -> dict[str, int]:
    """Write `{folder}/{prefix}{split}.parquet` and return the number of rows by file.

    Without a row there is no file: loaders refuse an empty one.

    Args:
        folder: The folder of the format; its name begins the names of the files in the result.
        prefix: What stands before the split in a file's name; it may hold a folder.
        schema: The columns.
        rows_of: Reads the rows of a split.
    """
    counts = {}
    for split in SPLITS:
        name = f"{prefix}{split}"
        path = folder / f"{name}.parquet"
        num_rows = write_rows(path, schema, rows_of(split))
        if not num_rows:
            path.unlink()
        counts[f"{folder.name}/{name}"] = num_rows
    return counts
