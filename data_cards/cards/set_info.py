"""Measure the published files of a set in the Hub's terms: paths, columns, sizes."""

from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from coa import tables
from coa.errors import InputError
from data_cards.catalogue import SetName, published_path, published_splits
from data_cards.formats.published_rows import published_file

_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool"}


class SetInfo(NamedTuple):
    """A set as the Hub describes it."""

    name: SetName
    config: dict[str, Any]
    """Its entry under `configs`: which files make which split."""
    dataset_info: dict[str, Any]
    """Its columns and sizes."""

    @property
    def splits(self) -> list[dict[str, Any]]:
        """Name, rows and bytes of each split that has rows."""
        return list(self.dataset_info["splits"])

    def num_rows_of(self, split: str) -> int:
        """Count the rows of a split, which is not published where it has none."""
        for found in self.splits:
            if found["name"] == split:
                return int(found["num_examples"])
        return 0

    @property
    def num_rows(self) -> int:
        """Count the rows of all splits."""
        return sum(split["num_examples"] for split in self.splits)


def set_info(name: SetName, folder: Path) -> SetInfo:
    """Measure a set's files in a folder of published files.

    Raises:
        InputError: a file is missing or broken, or the splits differ.
    """
    splits = published_splits(name)
    files = [{"split": split, "path": published_path(name, split)} for split in splits]
    config = {"config_name": str(name), "data_files": files}
    dataset_info = {"config_name": str(name), "features": features(name, folder)}
    dataset_info |= sizes(name, folder)
    return SetInfo(name, config, dataset_info)


def features(name: SetName, folder: Path) -> list[dict[str, Any]]:
    """Describe the columns of a set, which are the same in both of its splits.

    Raises:
        InputError: a file is missing or broken, or the splits differ.
    """
    train = tables.open_parquet(published_file(name, "train", folder)).schema_arrow
    validation = tables.open_parquet(published_file(name, "validation", folder)).schema_arrow
    if not train.equals(validation):
        raise InputError(
            f"the splits of the set '{name}' have different columns",
            where=published_file(name, "validation", folder),
            expected=train.names,
            got=validation.names,
            fix="make both with the same version of the code: dvc repro",
        )
    return [_feature(field) for field in train]


def _feature(field: pa.Field) -> dict[str, Any]:
    return {"name": field.name, **_type(field.type)}


def _type(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        return {"struct": [_feature(field) for field in kind]}
    if pa.types.is_list(kind):
        item = _type(kind.value_type)
        return {"list": item.get("dtype", item.get("struct"))}
    if kind not in _DTYPES:
        raise InputError(
            "a column has a type that no record has", expected=sorted(_DTYPES.values()), got=kind
        )
    return {"dtype": _DTYPES[kind]}


def sizes(name: SetName, folder: Path) -> dict[str, Any]:
    """Measure the splits that have rows: rows, bytes in memory, and bytes of the files."""
    splits = []
    download_size = 0
    for split in published_splits(name):
        path = published_file(name, split, folder)
        splits.append({"name": split, **_split_size(path)})
        download_size += path.stat().st_size
    return {
        "splits": splits,
        "download_size": download_size,
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _split_size(path: Path) -> dict[str, int]:
    file = tables.open_parquet(path)
    batches = tables.parquet_batches(path, file, file.schema_arrow.names)
    return {
        "num_bytes": sum(batch.nbytes for batch in batches),
        "num_examples": file.metadata.num_rows,
    }
