"""Write the YAML at the head of a card, as the Hub reads it, from the published files of a set.

The vocabulary is the Hub's (github.com/huggingface/hub-docs, datasetcard.md). The classes of
`huggingface_hub` write it and read it back.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from coa.errors import InputError, OutputError
from coa.store import tables
from data_cards.catalogue import TAGS, TASKS, SetName, published_path, published_splits
from data_cards.formats.published_rows import published_file

if TYPE_CHECKING:
    from huggingface_hub import DatasetCardData, ModelCardData

_SIZES = {
    "n<1K": 10**3,
    "1K<n<10K": 10**4,
    "10K<n<100K": 10**5,
    "100K<n<1M": 10**6,
    "1M<n<10M": 10**7,
    "10M<n<100M": 10**8,
    "100M<n<1B": 10**9,
    "1B<n<10B": 10**10,
    "10B<n<100B": 10**11,
    "100B<n<1T": 10**12,
}
"""The Hub's size categories and the number of rows below which each holds."""
_DTYPES = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64", pa.bool_(): "bool"}
_WHOLE = "---\n{{ card_data }}\n---\n\n{{ body }}"
_COMMON_TAGS = ("agent", "chain-of-action", "reasoning", "search", "synthetic", "arxiv:2503.06580")


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
    dataset_info = {"config_name": str(name), "features": _features(name, folder)}
    dataset_info |= _sizes(name, folder)
    return SetInfo(name, config, dataset_info)


def _features(name: SetName, folder: Path) -> list[dict[str, Any]]:
    """Describe the columns of a set, which are the same in both of its splits."""
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


def _sizes(name: SetName, folder: Path) -> dict[str, Any]:
    """Measure the splits that have rows: rows, bytes in memory, and bytes of the files."""
    splits = []
    download_size = 0
    for split in published_splits(name):
        path = published_file(name, split, folder)
        file = tables.open_parquet(path)
        batches = tables.parquet_batches(path, file, file.schema_arrow.names)
        num_bytes = sum(batch.nbytes for batch in batches)
        num_examples = file.metadata.num_rows
        splits.append({"name": split, "num_bytes": num_bytes, "num_examples": num_examples})
        download_size += path.stat().st_size
    return {
        "splits": splits,
        "download_size": download_size,
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def size_category(num_rows: int) -> str:
    """Name the Hub's category for a number of rows."""
    for name, limit in _SIZES.items():
        if num_rows < limit:
            return name
    return "n>1T"


def metadata(
    sets: Sequence[SetInfo],
    *,
    title: str,
    languages: Sequence[str],
    licence: dict[str, Any],
    extra_tags: Sequence[str],
) -> "DatasetCardData":
    """Make the metadata of a card about one set, or about several in one repository."""
    from huggingface_hub import DatasetCardData

    tags = {*_COMMON_TAGS, *extra_tags}
    tasks: set[str] = set()
    for info in sets:
        tags.update(TAGS[info.name])
        tasks.update(TASKS[info.name])
    infos = [info.dataset_info for info in sets]
    return DatasetCardData(
        pretty_name=title,
        language=list(languages),
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        size_categories=[size_category(sum(info.num_rows for info in sets))],
        task_categories=sorted(tasks),
        tags=sorted(tags),
        configs=_configs(sets),
        dataset_info=infos[0] if len(infos) == 1 else infos,
        **licence,
    )


def _configs(sets: Sequence[SetInfo]) -> list[dict[str, Any]]:
    """List the configurations; one is the default, so that a name alone loads something."""
    names = [info.name for info in sets]
    default = SetName.COA if SetName.COA in names else next(iter(names), None)
    configs = []
    for info in sets:
        config = dict(info.config)
        if info.name is default:
            config["default"] = True
        configs.append(config)
    return configs


def assemble_card(data: "DatasetCardData | ModelCardData", body: str) -> str:
    """Write the whole card: metadata, then text.

    Raises:
        OutputError: the metadata that are read back from the card differ from `data`.
    """
    from huggingface_hub import DatasetCard, DatasetCardData, ModelCard, RepoCard

    kind: type[RepoCard] = DatasetCard if isinstance(data, DatasetCardData) else ModelCard
    card = kind.from_template(data, template_str=_WHOLE, body=body.strip())
    found = dict(card.data.to_dict())
    meant = dict(data.to_dict())  # type: ignore[no-untyped-call]
    if found != meant:
        raise OutputError(
            "the head of a card does not survive being read", expected=meant, got=found
        )
    return f"{card.content}\n"
