"""Write the cards of all sets, and the front page of the repository that holds them.

The tables come from the files beside this one; templates/ has the text around them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coa.policy.scripted import is_scripted
from coa.records.sets import AssembleParams
from coa.rollout.forks import ArmChoice
from coa.settings.params import Params
from data_cards.cards import reviews
from data_cards.cards.contents import contents, count_table
from data_cards.cards.example import Example, show_row
from data_cards.cards.front_matter import SetInfo, assemble_card, metadata, set_info
from data_cards.cards.licences import Source, licence_fields, licence_table
from data_cards.cards.safe_markdown import Cell, Markdown, fence, frame_table, inline, table
from data_cards.cards.sources import Count, Imported, writers
from data_cards.cards.yields import funnel, funnel_table, yields
from data_cards.catalogue import SPLITS, TITLES, SetName, asked_sets, built_sets
from data_cards.facts import collect, facts, num_questions_in_both_splits
from data_cards.settings import (
    RenderParams,
    ShownPrompt,
    check,
    settings_block,
    settings_of_run,
    shown_prompt,
    shown_settings,
)

PICTURES = Path("reports/pictures")
_PICTURES_OF = {
    SetName.COT_A: ("causes", "quadrants", "worth"),
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
    """A set's card and what the front page and the gate need of it."""

    info: SetInfo
    sources: tuple[Source, ...]
    models: tuple[Count, ...]
    """Teachers and how many rows each wrote."""
    imported: tuple[Imported, ...]
    """The rows that others made."""
    example: Example
    """The row that the card shows."""
    card: Card


class Rendered(NamedTuple):
    """All cards of a run."""

    front: Card
    sets: tuple[SetCard, ...]

    def files(self) -> dict[str, bytes]:
        """Give the cards and their pictures by their path in a repository, the front page first."""
        found = self.texts()
        for card in self.sets:
            for picture in card.card.pictures:
                found[f"{card.info.name}/pictures/{picture.name}"] = picture.read_bytes()
        return found

    def texts(self) -> dict[str, bytes]:
        """Give the cards alone by their path in a repository."""
        found = {"README.md": self.front.text.encode()}
        for card in self.sets:
            found[f"{card.info.name}/README.md"] = card.card.text.encode()
        return found


def render(params: Params, section: RenderParams) -> Rendered:
    """Measure the sets and write their cards."""
    check(section)
    settings = shown_settings(params)
    sizes = params.section(AssembleParams, "assemble")
    cards = []
    for name in built_sets(sizes):
        cards.append(set_card(name, settings, sizes.sizes[name], section))
    return Rendered(front_page(cards, sizes, section), tuple(cards))


def set_card(
    name: SetName, settings: Mapping[str, Any], num_asked: int, params: RenderParams
) -> SetCard:
    """Measure a set and write its card."""
    frame = facts(name)
    info = set_info(name)
    written = writers(name, frame)
    example = show_row(name, frame)
    prompt = shown_prompt(name, settings)
    pictures = _pictures(name)
    heading = "teacher or forking model" if written.forkers else "teacher"
    models = pl.DataFrame(written.models, schema=[heading, "rows"], orient="row")
    context = {
        **_identity(params, [info], written.models, written.imported),
        **contents(name, frame),
        **yields(name, info.num_rows),
        "has_forkers": bool(written.forkers),
        "name": name,
        "set_title": TITLES[name],
        "splits": table(("split", "rows"), [(Markdown(it), info.rows[it]) for it in SPLITS]),
        "example": example,
        "num_asked": num_asked,
        "is_smaller": info.rows["train"] < num_asked,
        "reviews": reviews.change_table(name),
        "agreement": reviews.agreement_table(name),
        "forks_both_arms": settings.get("branch", {}).get("arms") == ArmChoice.BOTH,
        "models": count_table(models, inline) if written.models else "",
        "imported": _imported_table(written.imported),
        "prompt": prompt,
        "prompt_block": fence(prompt.text) if prompt else "",
        "num_prompted": _num_prompted(frame, prompt) if prompt else 0,
        "settings": settings_block(settings_of_run(settings)),
        "licences": licence_table(written.sources, params.licenses),
        "pictures": frozenset(pictures),
    }
    text = _with_metadata(
        fill("card.md", context),
        infos=[info],
        sources=written.sources,
        models=written.models,
        title=f"{params.title}: {TITLES[name]}",
        params=params,
    )
    card = Card(text, tuple(pictures.values()))
    return SetCard(info, written.sources, written.models, written.imported, example, card)


def _pictures(name: SetName) -> dict[str, Path]:
    """Find the pictures of a set's card that were drawn, by what they show."""
    found = {}
    for what in _PICTURES_OF[name]:
        path = PICTURES / f"{what}.png"
        if path.exists():
            found[what] = path
    return found


def _imported_table(imported: Sequence[Imported]) -> Markdown:
    """List the models of imported rows with who published them and the licence; may be empty."""
    headings = ("model of imported rows", "published by", "licence", "rows")
    frame = pl.DataFrame(imported, schema=headings, orient="row")
    return frame_table(frame, {"published by": _stated, "licence": _stated})


def _stated(text: str) -> Markdown:
    return inline(text) if text else Markdown("not stated")


def _num_prompted(frame: pl.LazyFrame, prompt: ShownPrompt) -> int:
    """Count the rows that were sampled with a prompt.

    A prompt is recognised by its hash where rows have it, and by its beginning where not.
    """
    if "prompt_hash" in frame.collect_schema():
        matches = pl.col("prompt_hash") == prompt.prompt_hash
    else:
        matches = pl.col("prompt").str.starts_with(prompt.head)
    return int(collect(frame.select(matches.sum())).item())


def front_page(cards: Sequence[SetCard], asked: AssembleParams, params: RenderParams) -> Card:
    """Write the card of the repository that holds all sets."""
    sources: dict[Source, None] = {}
    models: dict[Count, None] = {}
    imported: list[Imported] = []
    rows: list[Sequence[Cell]] = []
    fewer: list[str] = []
    for card in cards:
        sources.update(dict.fromkeys(card.sources))
        models.update(dict.fromkeys(card.models))
        imported += card.imported
        name = card.info.name
        num_train, num_validation = (card.info.rows[split] for split in SPLITS)
        link = Markdown(f"[{name}]({name}/README.md)")
        rows.append((link, Markdown(TITLES[name]), num_train, num_validation))
        if num_train < asked.sizes[name]:
            fewer.append(f"`{name}` has {num_train:,} of {asked.sizes[name]:,}")
    infos = [card.info for card in cards]
    names = [info.name for info in infos]
    loaded = SetName.COA if SetName.COA in names else next(iter(names), "")
    shown = [card for card in cards if card.info.name == loaded]
    pictures = [picture.name for card in shown for picture in card.card.pictures]
    context = {
        **_identity(params, infos, list(models), imported),
        "names": names,
        "loaded": loaded,
        "examples": [card.example for card in shown],
        "pictures": [f"{loaded}/pictures/{name}" for name in pictures if name == "funnel.png"],
        "num_in_both_splits": num_questions_in_both_splits(built_sets(asked)),
        "sets": table(("set", "what it holds", "train", "validation"), rows),
        "training_order": training_order(names),
        "fewer": fewer,
        "not_built": _not_built(asked),
        "licences": licence_table(sources, params.licenses),
    }
    text = _with_metadata(
        fill("front_page.md", context),
        infos=infos,
        sources=list(sources),
        models=list(models),
        title=params.title,
        params=params,
    )
    return Card(text, ())


def training_order(names: Sequence[SetName]) -> str:
    """Say which stages of training take these sets, in their order; empty without a set."""
    uses: list[str] = []
    if SetName.COT_A in names:
        uses.append("`cot_a` teaches when to search (SFT stage 1)")
    if SetName.COA in names:
        share_of_cot = " with a share of `cot`" if SetName.COT in names else ""
        uses.append(f"`coa`{share_of_cot} teaches how (SFT stages 2 and 3)")
    elif SetName.COT in names:
        uses.append("`cot` teaches how to reason (SFT stages 2 and 3)")
    if SetName.RL in names:
        uses.append("`rl` has further questions for reinforcement learning")
    if len(uses) > 1:
        return f"The stages of training take them in this order: {', '.join(uses)}."
    return f"In training, {uses[0]}." if uses else ""


def _not_built(asked: AssembleParams) -> list[dict[str, Any]]:
    """Say of each set without rows why those that could have entered it did not."""
    built = built_sets(asked)
    found: list[dict[str, Any]] = []
    for name in asked_sets(asked):
        if name not in built:
            lost = funnel_table(funnel(name), num_taken=0)
            num_asked = asked.sizes[name]
            found.append({"name": name, "title": TITLES[name], "asked": num_asked, "lost": lost})
    return found


def _identity(
    params: RenderParams,
    infos: Sequence[SetInfo],
    models: Sequence[Count],
    imported: Sequence[Imported],
) -> dict[str, Any]:
    """Say what is published where, which teachers are programs, and how many rows others made."""
    scripted = [inline(model.value) for model in models if is_scripted(model.value)]
    makers = [inline(one.origin or one.model) for one in imported]
    return {
        "title": params.title,
        "repository": params.repository or "path/to/this/folder",
        "is_published": bool(params.repository),
        "num_rows": sum(info.num_rows for info in infos),
        "scripted": ", ".join(dict.fromkeys(scripted)),
        "is_all_scripted": bool(models) and len(scripted) == len(models) and not imported,
        "has_teacher": bool(models),
        "num_imported": sum(one.rows for one in imported),
        "makers": ", ".join(dict.fromkeys(makers)),
    }


def _with_metadata(
    body: str,
    *,
    infos: Sequence[SetInfo],
    sources: Sequence[Source],
    models: Sequence[Count],
    title: str,
    params: RenderParams,
) -> str:
    """Put the Hub's metadata before the text of a card."""
    has_scripted = any(is_scripted(model.value) for model in models)
    data = metadata(
        infos,
        title=title,
        languages=params.languages,
        licence=licence_fields(sources, params.licenses),
        extra_tags=("scripted-teacher",) if has_scripted else (),
    )
    return assemble_card(data, body)


def fill(template: str, context: Mapping[str, Any]) -> str:
    """Fill the places of a template; a place that the context does not know is an error."""
    return str(_templates().get_template(template).render(context))


@cache
def _templates() -> Environment:
    # Nothing is escaped here: the result is Markdown, not HTML, and foreign text has gone through
    # safe_markdown.
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
