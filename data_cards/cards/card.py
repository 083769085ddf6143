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
from data_cards.cards.front_matter import SetInfo, set_info, with_metadata
from data_cards.cards.licences import Source, licence_table
from data_cards.cards.safe_markdown import (
    Cell,
    Markdown,
    fence,
    frame_table,
    inline,
    stated,
    table,
)
from data_cards.cards.sources import Count, Imported, Writers, writers
from data_cards.cards.yields import funnel, funnel_table, yields
from data_cards.catalogue import SPLITS, TITLES, SetName, asked_sets, built_sets
from data_cards.facts import collect, facts, num_questions_in_both_splits
from data_cards.settings import (
    RenderParams,
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


class SetCard(NamedTuple):
    """A set's card and what the front page and the gate need of it."""

    info: SetInfo
    writers: Writers
    example: Example
    """The row that the card shows."""
    pictures: tuple[Path, ...]
    """Files that the card shows, to be copied beside it."""
    text: str


class Rendered(NamedTuple):
    """All cards of a run."""

    front: str
    sets: tuple[SetCard, ...]

    def files(self) -> dict[str, bytes]:
        """Give the cards and their pictures by their path in a repository, the front page first."""
        found = self.texts()
        for card in self.sets:
            for picture in card.pictures:
                found[f"{card.info.name}/pictures/{picture.name}"] = picture.read_bytes()
        return found

    def texts(self) -> dict[str, bytes]:
        """Give the cards alone by their path in a repository."""
        found = {"README.md": self.front.encode()}
        for card in self.sets:
            found[f"{card.info.name}/README.md"] = card.text.encode()
        return found


def render(params: Params, section: RenderParams) -> Rendered:
    """Measure the sets and write their cards; `section` says what the cards cannot count."""
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
    """Measure a set, which was asked for so many train rows, and write its card."""
    frame = facts(name)
    info = set_info(name)
    written = writers(name, frame)
    example = show_row(name, frame)
    prompt = shown_prompt(name, settings)
    pictures: dict[str, Path] = {}
    for what in _PICTURES_OF[name]:
        path = PICTURES / f"{what}.png"
        if path.exists():
            pictures[what] = path
    heading = "teacher or forking model" if written.forkers else "teacher"
    models = pl.DataFrame(written.models, schema=[heading, "rows"], orient="row")
    headings = ("model of imported rows", "published by", "licence", "rows")
    imported = pl.DataFrame(written.imported, schema=headings, orient="row")
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
        "imported": frame_table(imported, {"published by": stated, "licence": stated}),
        "prompt": prompt,
        "prompt_block": fence(prompt.text) if prompt else "",
        "num_prompted": 0,
        "settings": settings_block(settings_of_run(settings)),
        "licences": licence_table(written.sources, params.licenses),
        "pictures": frozenset(pictures),
    }
    if prompt:
        # A prompt is recognised by its hash where rows have it, and by its beginning where not.
        matches = pl.col("prompt").str.starts_with(prompt.head)
        if "prompt_hash" in frame.collect_schema():
            matches = pl.col("prompt_hash") == prompt.prompt_hash
        context["num_prompted"] = int(collect(frame.select(matches.sum())).item())
    text = with_metadata(
        fill("card.md", context),
        infos=[info],
        sources=written.sources,
        models=written.models,
        title=f"{params.title}: {TITLES[name]}",
        params=params,
    )
    return SetCard(info, written, example, tuple(pictures.values()), text)


def front_page(cards: Sequence[SetCard], asked: AssembleParams, params: RenderParams) -> str:
    """Write the card of the repository that holds all sets."""
    sources: dict[Source, None] = {}
    models: dict[Count, None] = {}
    imported: list[Imported] = []
    rows: list[Sequence[Cell]] = []
    fewer: list[str] = []
    for card in cards:
        sources.update(dict.fromkeys(card.writers.sources))
        models.update(dict.fromkeys(card.writers.models))
        imported += card.writers.imported
        name = card.info.name
        num_train, num_validation = (card.info.rows[split] for split in SPLITS)
        link = Markdown(f"[{name}]({name}/README.md)")
        rows.append((link, Markdown(TITLES[name]), num_train, num_validation))
        if num_train < asked.sizes[name]:
            fewer.append(f"`{name}` has {num_train:,} of {asked.sizes[name]:,}")
    infos = [card.info for card in cards]
    names = [info.name for info in infos]
    not_built: list[dict[str, Any]] = []
    for name in asked_sets(asked):
        if name not in names:
            lost = funnel_table(funnel(name), num_taken=0)
            size = asked.sizes[name]
            not_built.append({"name": name, "title": TITLES[name], "asked": size, "lost": lost})
    loaded = SetName.COA if SetName.COA in names else next(iter(names), "")
    shown = [card for card in cards if card.info.name == loaded]
    pictures = [picture.name for card in shown for picture in card.pictures]
    context = {
        **_identity(params, infos, list(models), imported),
        "names": names,
        "loaded": loaded,
        "examples": [card.example for card in shown],
        "pictures": [f"{loaded}/pictures/{name}" for name in pictures if name == "funnel.png"],
        "num_in_both_splits": num_questions_in_both_splits(names),
        "sets": table(("set", "what it holds", "train", "validation"), rows),
        "training_order": training_order(names),
        "fewer": fewer,
        "not_built": not_built,
        "licences": licence_table(sources, params.licenses),
    }
    return with_metadata(
        fill("front_page.md", context),
        infos=infos,
        sources=list(sources),
        models=list(models),
        title=params.title,
        params=params,
    )


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
        "repository": params.repository or "OWNER/NAME",
        "is_published": bool(params.repository),
        "num_rows": sum(info.num_rows for info in infos),
        "scripted": ", ".join(dict.fromkeys(scripted)),
        "is_all_scripted": bool(models) and len(scripted) == len(models) and not imported,
        "has_teacher": bool(models),
        "num_imported": sum(one.rows for one in imported),
        "makers": ", ".join(dict.fromkeys(makers)),
    }


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
