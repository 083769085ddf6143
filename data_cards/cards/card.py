"""One set's facts, funnel and example to its card; several cards to the front page of their repository."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from coa.errors import InputError
from coa.files import EXCLUDED
from data_cards.cards import licences, reviews, tallies, yields
from data_cards.cards.contamination import contamination
from data_cards.cards.costs import costs
from data_cards.cards.example import middle_row, show_row
from data_cards.cards.front_matter import SetInfo, assemble_card, metadata, set_info
from data_cards.cards.licences import CORPUS, Source
from data_cards.cards.masks import count_characters
from data_cards.cards.safe_markdown import Cell, Markdown, inline, table, words
from data_cards.cards.yields import Count
from data_cards.catalogue import HAS_TRAJECTORIES, TITLES, SetName, local_path
from data_cards.facts import facts, num_questions_in_both_splits
from data_cards.settings import RenderParams, settings_block, shown_prompt

PICTURES = Path("reports/pictures")
SCRIPTED = "scripted/"
"""How the names of teachers begin that are programs, not language models."""
_SHOWN_PICTURES = {
    SetName.COT_A: ("causes", "quadrants"),
    SetName.COA: ("funnel", "causes", "actions"),
    SetName.COT: ("funnel", "causes"),
    SetName.RL: (),
}
_TEMPLATES = Path(__file__).parent / "templates"


class Card(NamedTuple):
    """A card, ready to be written."""

    text: str
    pictures: tuple[Path, ...]
    """Files that it shows, to be copied beside it."""


class SetCard(NamedTuple):
    """A set's card and what the front page needs of it."""

    info: SetInfo
    sources: tuple[Source, ...]
    models: tuple[Count, ...]
    """Teachers and how many rows each wrote."""
    card: Card


def set_card(name: SetName, settings: Mapping[str, Any], params: RenderParams) -> SetCard:
    """Measure a set and write its card.

    Raises:
        InputError: a file is missing or broken or lacks a column, or the set is empty.
    """
    frame, info, funnel = facts(name), set_info(name), yields.funnel(name)
    models = tuple(yields.counts(frame, "model")) if name is not SetName.RL else ()
    sources = tuple(_sources(frame, models))
    pictures = {
        what: path for what in _SHOWN_PICTURES[name] if (path := PICTURES / f"{what}.png").exists()
    }
    context = {
        **_identity(params, [info], models),
        **_contents(name, frame),
        **_origins(name, frame, settings),
        "name": name,
        "set_title": TITLES[name],
        "splits": table(
            ("split", "rows"), [(Markdown(s["name"]), s["num_examples"]) for s in _splits(info)]
        ),
        "models": tallies.count_table("teacher", models, inline),
        "funnel": tallies.funnel_table(funnel, info.num_rows),
        "costs": costs(name, funnel.pool),
        "contamination": contamination(name),
        "licences": licence_table(sources, params),
        "pictures": frozenset(pictures),
    }
    body = fill("card.md", context)
    title = f"{params.title}: {TITLES[name]}"
    return SetCard(
        info,
        sources,
        models,
        _finish([info], sources, models, params, title, body, pictures.values()),
    )


def front_page(cards: Sequence[SetCard], params: RenderParams) -> Card:
    """The card of the repository that holds all sets."""
    sources = tuple(dict.fromkeys(source for card in cards for source in card.sources))
    models = tuple(dict.fromkeys(model for card in cards for model in card.models))
    infos = [card.info for card in cards]
    rows: list[list[Cell]] = [
        [
            Markdown(f"[{info.name}]({info.name}/README.md)"),
            Markdown(TITLES[info.name]),
            *(split["num_examples"] for split in _splits(info)),
        ]
        for info in infos
    ]
    context = {
        **_identity(params, infos, models),
        "num_in_both_splits": num_questions_in_both_splits(),
        "sets": table(("set", "what it holds", "train", "validation"), rows),
        "licences": licence_table(sources, params),
    }
    body = fill("front_page.md", context)
    return _finish(infos, sources, models, params, params.title, body, ())


def _finish(
    infos: Sequence[SetInfo],
    sources: Sequence[Source],
    models: Sequence[Count],
    params: RenderParams,
    title: str,
    body: str,
    pictures: Any,
) -> Card:
    fields = licences.licence_fields(sources, params.licenses)
    tags = ("scripted-teacher",) if any(_is_scripted(model) for model in models) else ()
    data = metadata(infos, title=title, languages=params.languages, licence=fields, extra_tags=tags)
    return Card(assemble_card(data, body), tuple(pictures))


def _identity(
    params: RenderParams, infos: Sequence[SetInfo], models: Sequence[Count]
) -> dict[str, Any]:
    scripted = [inline(model.value) for model in models if _is_scripted(model)]
    return {
        "title": params.title,
        "repository": params.repository or "path/to/this/folder",
        "is_published": bool(params.repository),
        "num_rows": sum(info.num_rows for info in infos),
        "scripted": ", ".join(dict.fromkeys(scripted)),
        "is_all_scripted": bool(models) and len(scripted) == len(models),
    }


def _is_scripted(model: Count) -> bool:
    return model.value.startswith(SCRIPTED)


def _splits(info: SetInfo) -> list[dict[str, Any]]:
    return list(info.dataset_info["splits"])


def licence_table(sources: Sequence[Source], params: RenderParams) -> Markdown:
    """Every source with its licence."""
    found = licences.licences(sources, params.licenses)
    return table(
        ("what", "from", "licence"), [(line.what, line.source, line.licence) for line in found]
    )


def models_and_sources(names: Sequence[SetName]) -> tuple[list[Count], list[Source]]:
    """Who wrote the rows of some sets, and where their parts come from.

    Raises:
        InputError: a file is missing or broken.
    """
    models: list[Count] = []
    sources: list[Source] = []
    for name in names:
        frame = facts(name)
        found = yields.counts(frame, "model") if name is not SetName.RL else []
        models += found
        sources += _sources(frame, found)
    return list(dict.fromkeys(models)), list(dict.fromkeys(sources))


def _sources(frame: pl.LazyFrame, models: Sequence[Count]) -> list[Source]:
    found = [
        Source("questions and answers", count.value) for count in yields.counts(frame, "source")
    ]
    if models:
        if any(count.value for count in yields.counts(frame, "search_fingerprint")):
            found.append(Source("search results", CORPUS))
        found += [
            Source("the teacher's text", model.value) for model in models if not _is_scripted(model)
        ]
    return found


def _contents(name: SetName, frame: pl.LazyFrame) -> dict[str, Any]:
    """What is in the set: an example, and everything that can be counted."""
    row_id = middle_row(frame)
    if row_id is None:
        raise InputError(
            f"the set '{name}' is empty",
            where=local_path(name, "train"),
            expected="at least one train row",
            fix=f"raise assemble.num_{name}, then dvc repro",
        )
    characters = count_characters(name)
    return {
        "example": show_row(name, row_id),
        "distributions": tallies.distributions(name, frame),
        "lengths": tallies.lengths(frame),
        "kinds": tallies.kinds(frame) if name is SetName.COT_A else "",
        "characters": tallies.characters(characters),
        "trained_share": tallies.trained_share(characters),
    }


def _origins(name: SetName, frame: pl.LazyFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where the rows come from: funnel, failures, prompt, search, settings."""
    causes = yields.causes(name) if name in HAS_TRAJECTORIES else None
    prompt = shown_prompt(name, settings)
    return {
        "is_screened": EXCLUDED.exists(),
        "reviews": reviews.changes(name),
        "agreement": reviews.agreement(name),
        "run_kinds": yields.pair_kinds() if name is SetName.COT_A else (),
        "causes": None if causes is None else tallies.count_table("cause", causes, words),
        "num_failed": sum(cause.rows for cause in causes or ()),
        "prompt": prompt,
        "num_prompted": 0
        if prompt is None
        else tallies.num_prompted(frame, prompt.prompt_hash, prompt.head),
        "facts_of_sampling": tallies.sampling(name, frame),
        "settings": settings_block(settings),
    }


def fill(template: str, context: Mapping[str, Any]) -> str:
    """A template with its places filled; a place that the context does not know is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Markdown, not HTML, so nothing is escaped here: what is not ours has gone through safe_markdown.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(context)
