"""The columns of a parquet file in the words of the Hub: the `features` of a card's `dataset_info`."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from coa import tables
from coa.errors import InputError
from data_cards.catalogue import SPLITS, SetName, local_path

_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool"}


def features(name: SetName) -> list[dict[str, Any]]:
    """The columns of a set, the same in both of its splits.

    Raises:
        InputError: a file is missing or broken, or the splits differ.
    """
    train, validation = (
        tables.open_parquet(local_path(name, split)).schema_arrow for split in SPLITS
    )
    if not train.equals(validation):
        raise InputError(
            f"the splits of the set '{name}' have different columns",
            where=local_path(name, SPLITS[1]),
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


def sizes(name: SetName) -> dict[str, Any]:
    """Rows and bytes of a set: of each split in memory, of its files, and of all splits in memory."""
    splits = [{"name": split, **_split_size(local_path(name, split))} for split in SPLITS]
    return {
        "splits": splits,
        "download_size": sum(local_path(name, split).stat().st_size for split in SPLITS),
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _split_size(path: Path) -> dict[str, int]:
    file = tables.open_parquet(path)
    batches = tables.parquet_batches(path, file, file.schema_arrow.names)
    return {
        "num_bytes": sum(batch.nbytes for batch in batches),
        "num_examples": file.metadata.num_rows,
    }
