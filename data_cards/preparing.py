"""The sets, or a trained model, to what is to be published of them and what stands against it."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from coa.params import Params
from data_cards import models
from data_cards.gate import MODEL_REASONS, SET_REASONS, Reason, Refusal, check_model, check_sets
from data_cards.publication import Content, Publication, set_files
from data_cards.render import OUT, render, stale_files
from data_cards.settings import PublishParams, RenderParams, shown_settings

_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "log.jsonl")
"""What makes a folder loadable, and its log; params.yaml stays here: it may hold addresses of servers."""


class Prepared(NamedTuple):
    """What is to be published, and what stands against it."""

    publication: Publication
    refusals: list[Refusal]
    checked: tuple[Reason, ...]


def prepare_sets(params: Params, publish: PublishParams) -> Prepared:
    """Check the sets and collect their files.

    Raises:
        InputError: a file is missing or broken.
        ConfigError: a setting is wrong.
    """
    section = params.section(RenderParams, "render")
    rendered = render(params, section)
    stale = stale_files(OUT, rendered.files())
    settings = shown_settings(params)
    refusals = check_sets(rendered.sets, stale, settings, publish, section.licenses)
    if publish.repository != section.repository:
        rendered = render(params, replace(section, repository=publish.repository))
    names = [card.info.name for card in rendered.sets]
    files: dict[str, Content] = {**rendered.files(), **set_files(names, publish.num_traces)}
    num_rows = sum(card.info.num_rows for card in rendered.sets)
    return Prepared(Publication("dataset", files, f"{num_rows:,} rows"), refusals, SET_REASONS)


def prepare_model(params: Params, publish: PublishParams) -> Prepared:
    """Check a model and collect its files.

    Raises:
        InputError: the folder is no trained model, or a file is broken.
        ConfigError: a setting is wrong.
    """
    folder, section = Path(publish.model), params.section(RenderParams, "render")
    card = models.model_card(folder, params)
    stale = stale_files(models.card_folder(folder), models.card_files(card, folder))
    refusals = check_model(card, stale, folder, section.licenses)
    published = models.model_card(folder, params, publish.repository)
    files: dict[str, Content] = {**models.card_files(published, folder)}
    files |= {path.name: path for pattern in _MODEL_FILES for path in sorted(folder.glob(pattern))}
    return Prepared(Publication("model", files, folder.name), refusals, MODEL_REASONS)
