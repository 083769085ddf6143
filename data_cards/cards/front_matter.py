"""What a set measures to the YAML at the head of its card, as the Hub reads it.

The vocabulary is the Hub's (github.com/huggingface/hub-docs, datasetcard.md); `huggingface_hub`'s own classes write it
and read it back.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from coa.errors import OutputError
from data_cards.cards.features import features, sizes
from data_cards.catalogue import SPLITS, TAGS, TASKS, SetName, published_path

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
_COMMON_TAGS = ("agent", "chain-of-action", "reasoning", "search", "synthetic", "arxiv:2503.06580")


class SetInfo(NamedTuple):
    """A set as the Hub describes it."""

    name: SetName
    config: dict[str, Any]
    """Its entry under `configs`: which files make which split."""
    dataset_info: dict[str, Any]
    """Its columns and sizes."""

    @property
    def num_rows(self) -> int:
        """Rows of all splits."""
        return sum(split["num_examples"] for split in self.dataset_info["splits"])


def set_info(name: SetName) -> SetInfo:
    """Measure a set's files.

    Raises:
        InputError: a file is missing or broken, or the splits differ.
    """
    files = [{"split": split, "path": published_path(name, split)} for split in SPLITS]
    config = {"config_name": str(name), "data_files": files}
    return SetInfo(
        name, config, {"config_name": str(name), "features": features(name), **sizes(name)}
    )


def size_category(num_rows: int) -> str:
    """The Hub's name for so many rows."""
    return next((name for name, limit in _SIZES.items() if num_rows < limit), "n>1T")


def metadata(
    sets: Sequence[SetInfo],
    *,
    title: str,
    languages: Sequence[str],
    licence: dict[str, Any],
    extra_tags: Sequence[str],
) -> "DatasetCardData":
    """The metadata of a card about one set, or about several in one repository."""
    from huggingface_hub import DatasetCardData

    own_tags = {tag for info in sets for tag in TAGS[info.name]}
    infos = [info.dataset_info for info in sets]
    return DatasetCardData(
        pretty_name=title,
        language=list(languages),
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        size_categories=[size_category(sum(info.num_rows for info in sets))],
        task_categories=sorted({task for info in sets for task in TASKS[info.name]}),
        tags=sorted({*_COMMON_TAGS, *extra_tags, *own_tags}),
        configs=[info.config for info in sets],
        dataset_info=infos[0] if len(infos) == 1 else infos,
        **licence,
    )


def assemble_card(data: "DatasetCardData | ModelCardData", body: str) -> str:
    """The whole card: metadata, then text.

    Raises:
        OutputError: read back, the card's metadata are others than `data`.
    """
    from huggingface_hub import DatasetCard, DatasetCardData, ModelCard

    kind = DatasetCard if isinstance(data, DatasetCardData) else ModelCard
    card = f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n"
    found, meant = (dict(read.to_dict()) for read in (kind(card).data, data))  # type: ignore[no-untyped-call]
    if found != meant:
        raise OutputError(
            "the head of a card does not survive being read", expected=meant, got=found
        )
    return card
