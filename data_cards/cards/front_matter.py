"""Write the YAML at the head of a card, as the Hub reads it.

The vocabulary is the Hub's (github.com/huggingface/hub-docs, datasetcard.md). The classes of
`huggingface_hub` write it and read it back.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from coa.errors import OutputError
from coa.policy.scripted import is_scripted
from coa.store import tables
from data_cards.cards.licences import Source, licence_fields
from data_cards.cards.sources import Count
from data_cards.catalogue import SPLITS, TAGS, TASKS, SetName, local_path, published_path
from data_cards.settings import RenderParams

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
_WHOLE = "---\n{{ card_data }}\n---\n\n{{ body }}"
_COMMON_TAGS = ("agent", "chain-of-action", "reasoning", "search", "synthetic", "arxiv:2503.06580")


class SetInfo(NamedTuple):
    """A set and the rows of its splits."""

    name: SetName
    rows: Mapping[str, int]
    """The number of rows by split; a split without rows is not published."""

    @property
    def num_rows(self) -> int:
        """Count the rows of all splits."""
        return sum(self.rows.values())


def set_info(name: SetName) -> SetInfo:
    """Count the rows of a set."""
    return SetInfo(name, {split: tables.count_rows(local_path(name, split)) for split in SPLITS})


def size_category(num_rows: int) -> str:
    """Name the Hub's category for a number of rows."""
    for name, limit in _SIZES.items():
        if num_rows < limit:
            return name
    return "n>1T"


def with_metadata(
    body: str,
    *,
    infos: Sequence[SetInfo],
    sources: Sequence[Source],
    models: Sequence[Count],
    title: str,
    params: RenderParams,
) -> str:
    """Put the Hub's metadata before the text of a card about one set, or about several."""
    from huggingface_hub import DatasetCardData

    tags = set(_COMMON_TAGS)
    if any(is_scripted(model.value) for model in models):
        tags.add("scripted-teacher")
    tasks: set[str] = set()
    names = [info.name for info in infos]
    # One configuration is the default, so that a name alone loads something.
    default = SetName.COA if SetName.COA in names else next(iter(names), None)
    configs = []
    for info in infos:
        tags.update(TAGS[info.name])
        tasks.update(TASKS[info.name])
        files = []
        for split in SPLITS:
            if info.rows[split]:
                files.append({"split": split, "path": published_path(info.name, split)})
        config: dict[str, Any] = {"config_name": str(info.name), "data_files": files}
        if info.name is default:
            config["default"] = True
        configs.append(config)
    data = DatasetCardData(
        pretty_name=title,
        language=list(params.languages),
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        size_categories=[size_category(sum(info.num_rows for info in infos))],
        task_categories=sorted(tasks),
        tags=sorted(tags),
        configs=configs,
        **licence_fields(sources, params.licenses),
    )
    return assemble_card(data, body)


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
