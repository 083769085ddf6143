"""Render the card of a set from its facts, and the front page of a repository from its cards.

`data_cards.cards.measure` makes the facts. Here they become Markdown: `data_cards.cards.sections`
makes the tables, templates/ has the text around them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coa.forking import ArmChoice
from coa.policy.scripted import is_scripted
from data_cards.cards import licences, sections
from data_cards.cards.example import Example, show_row
from data_cards.cards.front_matter import assemble_card, metadata
from data_cards.cards.licences import Source
from data_cards.cards.measure import RunFacts, SetFacts
from data_cards.cards.probed import probe_table, waived_names
from data_cards.cards.safe_markdown import Cell, Markdown, fence, inline, table, words
from data_cards.cards.sections import Distribution
from data_cards.cards.set_info import SetInfo
from data_cards.cards.yields import Count, Imported, total_rows
from data_cards.catalogue import SPLITS, TITLES, SetName
from data_cards.settings import RenderParams, settings_block, settings_of_run

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


def set_card(facts: SetFacts, params: RenderParams) -> SetCard:
    """Write the card of a set."""
    title = f"{params.title}: {TITLES[facts.name]}"
    example = show_row(facts.name, facts.row_id, facts.row)
    context = {
        **_identity(params, [facts.info], facts.models, facts.imported),
        **_contents(facts),
        "example": example,
        **_yields(facts),
        **_making(facts),
        "licences": licence_table(facts.sources, params),
        "pictures": frozenset(facts.pictures),
    }
    text = _with_metadata(
        fill("card.md", context),
        infos=[facts.info],
        sources=facts.sources,
        models=facts.models,
        title=title,
        params=params,
    )
    card = Card(text, tuple(facts.pictures.values()))
    return SetCard(facts.info, facts.sources, facts.models, facts.imported, example, card)


def front_page(cards: Sequence[SetCard], run: RunFacts, params: RenderParams) -> Card:
    """Write the card of the repository that holds all sets.

    Args:
        cards: Those of the sets that were built.
        run: What is said of all sets together.
        params: What the cards cannot count.
    """
    sources: dict[Source, None] = {}
    models: dict[Count, None] = {}
    imported: list[Imported] = []
    rows: list[Sequence[Cell]] = []
    for card in cards:
        sources.update(dict.fromkeys(card.sources))
        models.update(dict.fromkeys(card.models))
        imported += card.imported
        name = card.info.name
        link = Markdown(f"[{name}]({name}/README.md)")
        sizes = [card.info.num_rows_of(split) for split in SPLITS]
        rows.append((link, Markdown(TITLES[name]), *sizes))
    infos = [card.info for card in cards]
    names = [info.name for info in infos]
    loaded = SetName.COA if SetName.COA in names else next(iter(names), "")
    shown = [card for card in cards if card.info.name == loaded]
    context = {
        **_identity(params, infos, list(models), imported),
        "names": names,
        "loaded": loaded,
        "examples": [card.example for card in shown],
        "pictures": [f"{loaded}/pictures/{name}" for name in _front_pictures(shown)],
        "num_in_both_splits": run.num_in_both_splits,
        "sets": table(("set", "what it holds", "train", "validation"), rows),
        "training_order": sections.training_order(names),
        "fewer": _fewer(infos, run.asked),
        "not_built": _not_built(run),
        "licences": licence_table(list(sources), params),
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


def _front_pictures(shown: Sequence[SetCard]) -> list[str]:
    """Name the picture of the front page, which lies beside the card of the set that it loads."""
    names = [picture.name for card in shown for picture in card.card.pictures]
    return [name for name in names if name == "funnel.png"]


def _fewer(infos: Sequence[SetInfo], asked: Mapping[str, int]) -> list[str]:
    """Name the sets that have fewer train rows than they were asked for."""
    found: list[str] = []
    for info in infos:
        num_train = info.num_rows_of("train")
        if num_train < asked[info.name]:
            found.append(f"`{info.name}` has {num_train:,} of {asked[info.name]:,}")
    return found


def _not_built(run: RunFacts) -> list[dict[str, Any]]:
    """Say of each set that has no row what became of those that could have entered it."""
    found: list[dict[str, Any]] = []
    for name, funnel in run.not_built.items():
        lost = sections.funnel_table(funnel, num_taken=0)
        found.append({"name": name, "title": TITLES[name], "asked": run.asked[name], "lost": lost})
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


def _contents(facts: SetFacts) -> dict[str, Any]:
    """Say what is in the set: an example, and everything that can be counted."""
    hops = sections.spread_table("hops", facts.hops)
    question_types = sections.spread_table("question type", facts.question_types)
    distributions = [
        Distribution("By number of facts to be joined (hops)", hops),
        Distribution("By question type", question_types),
    ]
    if facts.name is SetName.COA:
        searches = sections.spread_table("searches", facts.searches)
        distributions.append(Distribution("By number of searches", searches))
    is_pairs = facts.name is SetName.COT_A
    return {
        "name": facts.name,
        "set_title": TITLES[facts.name],
        "splits": sections.split_table(facts.info),
        "distributions": distributions,
        "lengths": sections.length_table(facts.lengths),
        "kinds": sections.kind_table(facts.kinds) if is_pairs else "",
        "worths": sections.worth_table(facts.worths),
        "terms_of_worth": sections.terms_of_worth(facts.worth_terms),
        "has_other_tools": any(spread.tool != "search" for spread in facts.worths),
        "num_measured": sum(terms.rows for terms in facts.worth_terms),
        "characters": sections.character_table(facts.characters),
        "trained_share": sections.trained_share(facts.characters),
    }


def _yields(facts: SetFacts) -> dict[str, Any]:
    """Say what became of the rows of the run: funnel, costs, failures, screen, reviews."""
    causes = None
    num_failed = 0
    if facts.causes is not None:
        causes = sections.count_table("cause", facts.causes, words)
        num_failed = total_rows(facts.causes)
    return {
        "funnel": sections.funnel_table(facts.funnel, facts.info.num_rows),
        "run_kinds": facts.run_kinds,
        "ways": sections.way_table(facts.chosen_points),
        "forks_both_arms": facts.settings.get("branch", {}).get("arms") == ArmChoice.BOTH,
        "costs": sections.cost_table(facts.costs, facts.funnel.pool),
        "paid": facts.paid,
        "has_forkers": bool(facts.forkers),
        "num_pool": facts.funnel.pool,
        "causes": causes,
        "num_failed": num_failed,
        "num_asked": facts.num_asked,
        "is_smaller": facts.info.num_rows_of("train") < facts.num_asked,
        "is_screened": facts.is_screened,
        "lists_evaluation_sets": facts.evaluation_overlaps is not None,
        "is_compared": any(found.num_questions for found in facts.evaluation_overlaps or ()),
        "contamination": sections.overlap_table(facts.name, facts.evaluation_overlaps),
        "reviews": sections.review_table(facts.reviews),
        "agreement": sections.agreement_table(facts.agreement),
    }


def _making(facts: SetFacts) -> dict[str, Any]:
    """Say how the rows were made: teachers, prompt, sampling, settings."""
    heading = "teacher or forking model" if facts.forkers else "teacher"
    return {
        "models": sections.count_table(heading, facts.models, inline) if facts.models else "",
        "has_turn_forks": facts.has_turn_forks,
        "imported": sections.imported_table(facts.imported),
        "facts_of_sampling": sections.sampling_table(facts.sampling),
        "probe": probe_table(facts.probed),
        "waived": waived_names(facts.probed),
        "prompt": facts.prompt,
        "prompt_block": fence(facts.prompt.text) if facts.prompt else "",
        "num_prompted": facts.num_prompted,
        "settings": settings_block(settings_of_run(facts.settings)),
    }


def licence_table(sources: Sequence[Source], params: RenderParams) -> Markdown:
    """List every source with its licence."""
    rows = licences.licences(sources, params.licenses)
    return table(("what", "from", "licence"), rows)


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
        licence=licences.licence_fields(sources, params.licenses),
        extra_tags=("scripted-teacher",) if has_scripted else (),
    )
    return assemble_card(data, body)


def fill(template: str, context: Mapping[str, Any]) -> str:
    """Fill the places of a template; a place that the context does not know is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Nothing is escaped here: the result is Markdown, not HTML, and foreign text has gone through
    # safe_markdown.
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(context)
