"""Measure a set: read the files of the run and give one record of everything that its card says.

Nothing here knows Markdown. `data_cards.cards.card` renders the record.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from coa.errors import InputError
from coa.files import EXCLUDED
from coa.policy.scripted import is_scripted
from coa.sets import AssembleParams
from data_cards.cards import masks, reviews, spreads, yields
from data_cards.cards.licences import CORPUS, Source
from data_cards.cards.masks import Part
from data_cards.cards.paid import Paid, read_paid
from data_cards.cards.probed import Probed, read_probed
from data_cards.cards.reviews import QuestionAgreement
from data_cards.cards.set_info import SetInfo, set_info
from data_cards.cards.spreads import (
    LengthSpread,
    PairKindCount,
    SamplingCounts,
    ValueCount,
    WorthSpread,
    WorthTerms,
)
from data_cards.cards.yields import (
    ChosenPoints,
    Cost,
    Count,
    EvaluationSetOverlap,
    Funnel,
    Imported,
)
from data_cards.catalogue import (
    HAS_TRAJECTORIES,
    SetName,
    asked_sets,
    built_sets,
    local_path,
)
from data_cards.facts import collect, facts, num_questions_in_both_splits
from data_cards.settings import ShownPrompt, shown_prompt

PICTURES = Path("reports/pictures")
IMPORTED = "imported trajectories"
"""What a source is called whose rows others made; the passages that they quote have another."""
_PICTURES_OF = {
    SetName.COT_A: ("causes", "quadrants", "worth"),
    SetName.COA: ("funnel", "causes", "actions"),
    SetName.COT: ("funnel", "causes"),
    SetName.RL: (),
}


@dataclass(frozen=True, slots=True)
class SetFacts:
    """Everything that the card of a set says of it."""

    name: SetName
    info: SetInfo
    """Its files in the Hub's terms."""
    num_asked: int
    """Train rows that it was asked for."""
    models: tuple[Count, ...]
    """Teachers and how many rows each wrote; of pairs also those of `forkers`."""
    forkers: tuple[Count, ...]
    """Of pairs: models that continued another model's trajectories, and in how many rows."""
    has_turn_forks: bool
    """Of pairs: whether some were forked by a chat policy, turn by turn."""
    imported: tuple[Imported, ...]
    """The rows that others made, by model, origin and licence."""
    sources: tuple[Source, ...]
    """Where the parts of its text come from."""
    row_id: str
    """Of the train row that the card shows."""
    row: Mapping[str, Any]
    """That row."""
    hops: tuple[ValueCount, ...]
    question_types: tuple[ValueCount, ...]
    searches: tuple[ValueCount, ...]
    """Rows by number of searches, for the set whose rows search."""
    lengths: tuple[LengthSpread, ...]
    kinds: tuple[PairKindCount, ...]
    """Of its pairs, for the set of pairs."""
    worths: tuple[WorthSpread, ...]
    """What acting was worth at the points of its pairs; none elsewhere."""
    worth_terms: tuple[WorthTerms, ...]
    """The prices and confidences with which that was measured; none where it was not."""
    chosen_points: tuple[ChosenPoints, ...]
    """How the points of all pairs of the run were chosen, for the set of pairs."""
    characters: Mapping[Part, int]
    funnel: Funnel
    costs: tuple[Cost, ...]
    paid: Paid | None
    """What the calls behind it came to; None where that is not known."""
    probed: Probed
    """What the teacher's server was seen to do."""
    causes: tuple[Count, ...] | None
    """Why trajectories failed; None where nothing was analysed."""
    run_kinds: tuple[Count, ...]
    """All pairs of the run by kind, for the set of pairs."""
    is_screened: bool
    evaluation_overlaps: tuple[EvaluationSetOverlap, ...] | None
    """None where nothing was screened."""
    reviews: tuple[Count, ...]
    """What the reviews came to."""
    agreement: tuple[QuestionAgreement, ...]
    """Of the reviewers."""
    sampling: SamplingCounts
    prompt: ShownPrompt | None
    """What its rows begin with; None for questions."""
    num_prompted: int
    """Rows that begin with this prompt."""
    settings: Mapping[str, Any]
    """Of the stages that made it."""
    pictures: Mapping[str, Path]
    """Those that are there, by what they show."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the front page says of a run besides what it says of each set."""

    asked: Mapping[str, int]
    """Train rows that each set was asked for."""
    not_built: Mapping[SetName, Funnel]
    """What became of the rows of the sets that were asked for and have none."""
    num_in_both_splits: int
    """Questions of a train split that are also in a validation split."""


def measure_run(params: AssembleParams) -> RunFacts:
    """Measure what is said of all sets together.

    Raises:
        InputError: a file is missing or broken or lacks a column.
    """
    built = built_sets(params)
    not_built: dict[SetName, Funnel] = {}
    for name in asked_sets(params):
        if name not in built:
            not_built[name] = yields.funnel(name)
    return RunFacts(params.sizes, not_built, num_questions_in_both_splits(built))


def measure(
    name: SetName, settings: Mapping[str, Any], num_asked: int, published: Path
) -> SetFacts:
    """Measure a set, of which `published` holds the files that go to the Hub.

    Raises:
        ConfigError: the prompt cannot be shown, or a setting is missing.
        InputError: a file is missing or broken or lacks a column, or the set is empty.
    """
    frame = facts(name)
    info = set_info(name, published)
    funnel = yields.funnel(name)
    models = _models(name, frame)
    forkers = _forkers(name, frame)
    imported = _imported(name, frame)
    sources = _sources(name, frame, models, imported)
    row_id = _middle_row(name, frame)
    is_pairs = name is SetName.COT_A
    causes = yields.causes(name) if name in HAS_TRAJECTORIES else None
    overlaps = yields.evaluation_overlaps(name)
    prompt = shown_prompt(name, settings)
    num_prompted = 0
    if prompt is not None:
        num_prompted = spreads.num_prompted(frame, prompt.prompt_hash, prompt.head)
    return SetFacts(
        name=name,
        info=info,
        num_asked=num_asked,
        models=models,
        forkers=forkers,
        has_turn_forks=is_pairs and yields.has_turn_forks(),
        imported=imported,
        sources=sources,
        row_id=row_id,
        row=_read_row(name, row_id),
        hops=spreads.spread(frame, "num_hops"),
        question_types=spreads.spread(frame, "question_type"),
        searches=spreads.spread(frame, "num_actions") if name is SetName.COA else (),
        lengths=spreads.lengths(frame),
        kinds=spreads.pair_kinds(frame) if is_pairs else (),
        worths=spreads.worths(frame) if is_pairs else (),
        worth_terms=spreads.worth_terms(frame) if is_pairs else (),
        chosen_points=tuple(yields.chosen_points()) if is_pairs else (),
        characters=masks.count_characters(name),
        funnel=funnel,
        costs=tuple(yields.costs(name, has_forkers=bool(forkers))) if funnel.pool else (),
        paid=read_paid(name),
        probed=read_probed(name),
        causes=None if causes is None else tuple(causes),
        run_kinds=tuple(yields.pair_kinds()) if is_pairs else (),
        is_screened=EXCLUDED.exists(),
        evaluation_overlaps=None if overlaps is None else tuple(overlaps),
        reviews=tuple(reviews.changes(name)),
        agreement=tuple(reviews.agreement(name)),
        sampling=spreads.sampling(name, frame),
        prompt=prompt,
        num_prompted=num_prompted,
        settings=settings,
        pictures=_pictures(name),
    )


def _models(name: SetName, frame: pl.LazyFrame) -> tuple[Count, ...]:
    """Count the rows that each model wrote in; questions have none."""
    if name is SetName.RL:
        return ()
    own = frame.filter(~pl.col("is_imported"))
    names = own.select("model")
    if name is SetName.COT_A:
        names = pl.concat([names, own.select(model="fork_model").drop_nulls()])
    return tuple(yields.counts(names, "model"))


def _forkers(name: SetName, frame: pl.LazyFrame) -> tuple[Count, ...]:
    """Count the pairs of each model that continued another model's trajectories."""
    if name is not SetName.COT_A:
        return ()
    return tuple(yields.counts(frame.drop_nulls("fork_model"), "fork_model"))


def _imported(name: SetName, frame: pl.LazyFrame) -> tuple[Imported, ...]:
    """Count the rows that others made; questions have no maker."""
    return () if name is SetName.RL else tuple(yields.imported(frame))


def _sources(
    name: SetName, frame: pl.LazyFrame, models: Sequence[Count], imported: Sequence[Imported]
) -> tuple[Source, ...]:
    """Name the sources of questions, search results and the text of language models."""
    found: list[Source] = []
    for count in yields.counts(frame, "source"):
        found.append(Source("questions and answers", count.value))
    if name is SetName.RL:
        return tuple(found)
    found += _searched(frame)
    forkers = {count.value for count in _forkers(name, frame)}
    for model in models:
        if not is_scripted(model.value):
            what = "the forks' text" if model.value in forkers else "the teacher's text"
            found.append(Source(what, model.value))
    for one in imported:
        found.append(Source(IMPORTED, one.origin or one.model, one.licence))
    return tuple(dict.fromkeys(found))


def _searched(frame: pl.LazyFrame) -> list[Source]:
    """Name what was searched: the passages of this run, and what imported trajectories say."""
    found: list[Source] = []
    own = yields.counts(frame.filter(~pl.col("is_imported")), "search_fingerprint")
    if any(search.value for search in own):
        found.append(Source("search results", CORPUS))
    for search in yields.counts(frame.filter(pl.col("is_imported")), "search_fingerprint"):
        if search.value:
            found.append(Source("imported search results", search.value))
    return found


def models_and_sources(names: Sequence[SetName]) -> tuple[list[Count], list[Source]]:
    """Find who wrote the rows of some sets, and where their parts come from.

    Raises:
        InputError: a file is missing or broken.
    """
    models: list[Count] = []
    sources: list[Source] = []
    for name in names:
        frame = facts(name)
        found = _models(name, frame)
        models += found
        sources += _sources(name, frame, found, _imported(name, frame))
    return list(dict.fromkeys(models)), list(dict.fromkeys(sources))


def _middle_row(name: SetName, frame: pl.LazyFrame) -> str:
    """Find the row that the card shows."""
    row_id = spreads.middle_row(frame)
    if row_id is None:
        raise InputError(
            f"the set '{name}' is empty",
            where=local_path(name, "train"),
            expected="at least one train row",
            fix=f"raise assemble.num_{name}, or set it to 0, then dvc repro",
        )
    return row_id


def _read_row(name: SetName, row_id: str) -> dict[str, Any]:
    """Read the row of the train split with this id."""
    if name is SetName.COT_A:
        id_column = pl.col("pair_id")
    elif name is SetName.RL:
        id_column = pl.col("question_id")
    else:
        id_column = pl.col("trajectory").struct.field("trajectory_id")
    rows = pl.scan_parquet(local_path(name, "train")).filter(id_column == row_id)
    return collect(rows).row(0, named=True)


def _pictures(name: SetName) -> dict[str, Path]:
    """Find the pictures of a set's card that were drawn."""
    found = {}
    for what in _PICTURES_OF[name]:
        path = PICTURES / f"{what}.png"
        if path.exists():
            found[what] = path
    return found
