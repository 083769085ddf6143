"""Collect what is to be published of the sets or of a model, and what stands against it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from coa.files import ASSEMBLED, RENDERED
from coa.params import Params
from coa.sets import AssembleParams
from data_cards.cards.all_sets import render
from data_cards.cards.card_files import stale_files
from data_cards.cards.measure_model import measure_model
from data_cards.cards.model_card import card_files, card_folder, render_card
from data_cards.catalogue import built_sets, sets_in
from data_cards.formats.published_rows import write_published
from data_cards.publishing.checked_copy import CURVES, copy_model, copy_sets, require_unchanged
from data_cards.publishing.gate import (
    MODEL_REASONS,
    SET_REASONS,
    Reason,
    Refusal,
    check_model,
    check_sets,
    key_refusals,
)
from data_cards.publishing.publication import Content, Hashes, Publication, hashes_of, set_files
from data_cards.settings import PublishParams, RenderParams, check, shown_settings


class Prepared(NamedTuple):
    """A publication that is ready to be sent, and what stands against it."""

    publication: Publication
    refusals: list[Refusal]
    checked: tuple[Reason, ...]
    left_out: tuple[str, ...] = ()
    """Files of a model's folder that are not published."""


def prepare_sets(params: Params, publish: PublishParams, private: Path) -> Prepared:
    """Copy the sets to a private folder, check the copy and collect its files.

    What is published is written from the copy, and both are checked.

    Raises:
        InputError: a file is missing or broken, or changed meanwhile.
        ConfigError: a setting is wrong.
        OutputError: a copy cannot be written.
    """
    names = built_sets(params.section(AssembleParams, "assemble"))
    copies = copy_sets(names, private)
    copied_sets = private / ASSEMBLED
    copied_sets.mkdir(parents=True, exist_ok=True)  # where no set was built
    published = private / "published"
    with sets_in(copied_sets):
        hashes = {path: hashes_of(path) for path in write_published(names, published)}
        prepared = _prepare_sets(params, publish, published)
    require_unchanged(copies)
    return _with_hashes(prepared, hashes)


def _prepare_sets(params: Params, publish: PublishParams, published: Path) -> Prepared:
    section = params.section(RenderParams, "render")
    rendered = render(params, section, published)
    cards = rendered.files()
    refusals = check_sets(
        cards=rendered.sets,
        stale_cards=stale_files(RENDERED, cards),
        settings=shown_settings(params),
        params=publish,
        known_licences=section.licenses,
        published=published,
    )
    if publish.repository != section.repository:
        renamed = render(params, replace(section, repository=publish.repository), published)
        cards |= renamed.texts()  # The pictures stay those that were compared.
    names = [card.info.name for card in rendered.sets]
    files: dict[str, Content] = {**cards, **set_files(names, publish.num_traces, published)}
    num_rows = sum(card.info.num_rows for card in rendered.sets)
    return Prepared(Publication("dataset", files, {}, f"{num_rows:,} rows"), refusals, SET_REASONS)


def prepare_model(params: Params, publish: PublishParams, private: Path) -> Prepared:
    """Copy a model's files to a private folder, check it and collect the copy's files.

    Raises:
        InputError: the folder is not a trained model, or a file is broken, a link or changed
            meanwhile.
        ConfigError: a setting is wrong.
        OutputError: a copy cannot be written.
    """
    folder = Path(publish.model)
    section = params.section(RenderParams, "render")
    copied = copy_model(folder, private)
    check(section)
    facts = measure_model(folder)
    card = render_card(facts, section)
    stale = stale_files(card_folder(folder), card_files(card, private))
    refusals = check_model(card, stale, folder, section.licenses)
    published = render_card(facts, section, publish.repository)
    files: dict[str, Content] = {**card_files(published, private)}
    hashes = {}
    for file in copied.copies:
        hashes[file.copy] = file.hashes
        if file.copy.name != CURVES:
            files[file.copy.name] = file.copy
    refusals += key_refusals(copied.texts())
    require_unchanged(copied.copies)
    publication = Publication("model", files, {}, folder.name)
    prepared = Prepared(publication, refusals, MODEL_REASONS, copied.left_out)
    return _with_hashes(prepared, hashes)


def _with_hashes(prepared: Prepared, known: Mapping[Path, Hashes]) -> Prepared:
    """Add the hash of every file; a copy's is the one that was taken before the checks."""
    publication = prepared.publication
    hashes = {}
    for name, content in publication.files.items():
        hashes[name] = known[content] if isinstance(content, Path) else hashes_of(content)
    return prepared._replace(publication=publication._replace(hashes=hashes))
