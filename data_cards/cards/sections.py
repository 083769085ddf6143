"""Render the facts of a set as the tables of its card."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from coa.trajectory import Author
from data_cards.cards.masks import NEVER, Part
from data_cards.cards.reviews import QuestionAgreement
from data_cards.cards.safe_markdown import Cell, Markdown, inline, share, table, words
from data_cards.cards.set_info import SetInfo
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
    total_rows,
)
from data_cards.catalogue import SPLITS, SetName

_MAX_VALUES = 12
"""Values of a column that a table shows; the rest is one line."""
_NOT_STATED = Markdown("not stated")
_NO_TOOL = Markdown("no tool offered")
_DASH = Markdown("–")  # noqa: RUF001
_EFFECTS = {
    "confirmed": "reviewers agree with the program",
    "dropped": "left out",
    "stays_out": "left out by a rule, though reviewers would keep it",
    "not_fixed": "left out: needs a fix that no command makes",
    "answer_added": "the question has one more accepted answer",
    "let_in": "let in: right by an added answer",
    "flipped": "sides changed places",
    "discarded": "left out: no side is better, or both are right",
    "conflict": "nothing changed: reviewers disagree",
    "pending": "nothing changed: too few reviews",
    "stale": "nothing changed: the text was made again since",
}
"""What a review came to, in the words of a card."""


class Distribution(NamedTuple):
    """A table of how the rows are spread over the values of a column."""

    caption: str
    rows: Markdown


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


def split_table(info: SetInfo) -> Markdown:
    """List the splits with their rows."""
    rows = [(Markdown(split), info.num_rows_of(split)) for split in SPLITS]
    return table(("split", "rows"), rows)


def spread_table(heading: str, spread: Sequence[ValueCount]) -> Markdown:
    """List values with their rows by split; values beyond the first few share one line."""
    total = sum(line.rows for line in spread)
    cells: list[Sequence[Cell]] = []
    for line in spread[:_MAX_VALUES]:
        cells.append((_value(line.value), *line.by_split, line.rows, share(line.rows, total)))
    rest = spread[_MAX_VALUES:]
    if rest:
        by_split = [sum(line.by_split[i] for line in rest) for i in range(len(SPLITS))]
        rows = sum(line.rows for line in rest)
        cells.append((Markdown(f"{len(rest):,} others"), *by_split, rows, share(rows, total)))
    return table((heading, *SPLITS, "all", "share"), cells)


def _value(value: int | str | None) -> Markdown:
    if value is None or value == "":
        return _NOT_STATED
    return Markdown(str(value)) if isinstance(value, int) else words(str(value))


def length_table(lengths: Sequence[LengthSpread]) -> Markdown:
    """List lengths; the mean is given to a tenth."""
    rows: list[Sequence[Cell]] = []
    for length in lengths:
        what = Markdown(length.what)
        mean = Markdown(f"{length.mean:,.1f}")
        rows.append((what, length.least, length.median, mean, length.p90, length.most))
    return table(("", "least", "median", "mean", "90th percentile", "most"), rows)


def kind_table(kinds: Sequence[PairKindCount]) -> Markdown:
    """List the kinds of pairs with the mean value of acting."""
    rows: list[Sequence[Cell]] = []
    for kind in kinds:
        value = Markdown(f"{kind.value_of_acting:+.2f}")
        continuations = Markdown(f"{kind.continuations:.1f}")
        rows.append((inline(kind.kind), *kind.by_split, value, continuations))
    return table(("kind", *SPLITS, "mean value of acting", "continuations a point"), rows)


def worth_table(worths: Sequence[WorthSpread]) -> Markdown:
    """List how the worth of acting is spread, by kind of pair and tool; empty where unmeasured."""
    rows: list[Sequence[Cell]] = []
    for spread in worths:
        numbers = (spread.least, spread.median, spread.mean, spread.most)
        shown = [_signed(number) for number in numbers]
        rows.append(
            (inline(spread.kind), inline(spread.tool), spread.rows, spread.measured, *shown)
        )
    if not any(spread.measured for spread in worths):
        return Markdown("")
    headings = ("kind", "tool", "pairs", "measured", "least", "median", "mean", "most")
    return table(headings, rows)


def _signed(number: float | None) -> Markdown:
    return _DASH if number is None else Markdown(f"{number:+.2f}")


def terms_of_worth(terms: Sequence[WorthTerms]) -> Markdown:
    """Say which price and which confidence the worth of pairs was measured with."""
    said: list[str] = []
    for term in terms:
        interval = "no interval"
        if term.confidence:
            interval = f"intervals of {term.confidence:.0%} confidence"
        said.append(f"{term.rows:,} with a price of {term.price:g} a search and {interval}")
    return Markdown("; ".join(said))


def way_table(found: Sequence[ChosenPoints]) -> Markdown:
    """List how points were chosen, with the pairs that came of them; empty where unknown."""
    rows: list[Sequence[Cell]] = []
    for chosen in found:
        shown_share = share(chosen.paired, chosen.points)
        rows.append((words(chosen.way), chosen.points, chosen.paired, shown_share))
    headings = ("points chosen by", "points", "gave a pair", "share")
    return table(headings, rows) if rows else Markdown("")


def character_table(parts: Mapping[Part, int]) -> Markdown:
    """List the parts with their characters, who wrote them and what learns them."""
    total = sum(parts.values())
    rows: list[Sequence[Cell]] = []
    for part, count in parts.items():
        author = Markdown(str(part.author))
        shown_share = share(count, total)
        rows.append((Markdown(part.what), author, count, shown_share, Markdown(part.trained)))
    return table(("part", "written by", "characters", "share", "trained in"), rows)


def trained_share(parts: Mapping[Part, int]) -> Markdown:
    """Give the share of the characters that the policy wrote and some stage learns."""
    own = 0
    for part, count in parts.items():
        if part.author is Author.POLICY and part.trained != NEVER:
            own += count
    return share(own, sum(parts.values()))


def count_table(heading: str, found: Sequence[Count], show: Callable[[str], Markdown]) -> Markdown:
    """List values with their rows and shares, the most frequent first."""
    total = total_rows(found)
    rows: list[Sequence[Cell]] = []
    for count in _most_frequent(found):
        rows.append((show(count.value), count.rows, share(count.rows, total)))
    return table((heading, "rows", "share"), rows)


def imported_table(found: Sequence[Imported]) -> Markdown:
    """List the models of imported rows with who published them and the licence; may be empty."""
    rows: list[Sequence[Cell]] = []
    for one in found:
        origin = inline(one.origin) if one.origin else _NOT_STATED
        licence = inline(one.licence) if one.licence else _NOT_STATED
        rows.append((inline(one.model), origin, licence, one.rows))
    headings = ("model of imported rows", "published by", "licence", "rows")
    return table(headings, rows) if rows else Markdown("")


def _most_frequent(found: Sequence[Count]) -> list[Count]:
    """Keep the first values and add up the rest on a line of their own."""
    shown = list(found[:_MAX_VALUES])
    rest = found[_MAX_VALUES:]
    if rest:
        shown.append(Count(f"{len(rest)} others", total_rows(rest)))
    return shown


def funnel_table(funnel: Funnel, num_taken: int) -> Markdown:
    """List every loss of a funnel with its share of the first row.

    Args:
        funnel: What became of the rows.
        num_taken: Rows that are in the set.
    """
    steps = [(f"**{funnel.unit}**", funnel.first)]
    for loss in funnel.losses:
        steps.append((f"left out: {_loss(loss.value)}", loss.rows))
    steps.append(("**good enough for this set**", funnel.pool))
    steps.append(("**in this set**", num_taken))
    rows: list[Sequence[Cell]] = []
    for what, count in steps:
        rows.append((Markdown(what), count, share(count, funnel.first)))
    return table(("", "rows", "share"), rows)


def _loss(value: str) -> str:
    stage, separator, reason = value.rpartition(": ")
    return f"{stage}{separator}{words(reason)}"


def cost_table(costs: Sequence[Cost], num_kept: int) -> Markdown:
    """List what a set cost, in all and for each row that was good enough; empty without costs."""
    if not costs or not num_kept:
        return Markdown("")
    rows: list[Sequence[Cell]] = []
    for cost in costs:
        per_row = Markdown(f"{cost.total / num_kept:,.1f}")
        rows.append((Markdown(cost.what), cost.total, per_row))
    return table(("", "in all", "for each row good enough"), rows)


def overlap_table(name: SetName, found: Sequence[EvaluationSetOverlap] | None) -> Markdown:
    """List the evaluation sets and the rows that touch them; empty where there is none."""
    if not found:
        return Markdown("")
    unit = "trajectories of both modes"
    if name is SetName.COT_A:
        unit = "pairs"
    elif name is SetName.RL:
        unit = "questions"
    headings = ("evaluation set", "questions compared", f"{unit} that touch it, left out")
    rows: list[Sequence[Cell]] = []
    for overlap in found:
        rows.append((inline(overlap.name), overlap.num_questions, overlap.left_out))
    return table(headings, rows)


def sampling_table(sampling: SamplingCounts) -> Markdown:
    """List every way in which rows were sampled and searched; empty for questions."""
    rows: list[Sequence[Cell]] = [
        *_sampling_rows("search", sampling.searches, _search),
        *_sampling_rows("prompt hash", sampling.prompt_hashes, inline),
        *_sampling_rows("sampling", sampling.settings, Markdown),
        *_sampling_rows("exact match with a gold answer", sampling.exact_matches, Markdown),
    ]
    return table(("", "value", "rows"), rows) if rows else Markdown("")


def _sampling_rows(
    what: str, found: Sequence[Count], show: Callable[[str], Markdown]
) -> list[Sequence[Cell]]:
    return [(Markdown(what), show(count.value), count.rows) for count in _most_frequent(found)]


def _search(fingerprint: str) -> Markdown:
    return inline(fingerprint) if fingerprint else _NO_TOOL


def review_table(effects: Sequence[Count]) -> Markdown | None:
    """List what the reviews came to; None where no review concerns the set."""
    if not effects:
        return None
    rows: list[Sequence[Cell]] = []
    for effect in effects:
        meaning = _EFFECTS.get(effect.value, words(effect.value))
        rows.append((Markdown(meaning), effect.rows))
    return table(("what the reviews came to", "items"), rows)


def agreement_table(found: Sequence[QuestionAgreement]) -> Markdown | None:
    """List how far reviewers agree; None where no item was reviewed twice."""
    if not found:
        return None
    rows: list[Sequence[Cell]] = []
    for line in found:
        equal = Markdown(f"{line.equal_share:.1%}")
        alpha = _DASH
        if line.alpha is not None:
            alpha = Markdown(f"{line.alpha:.2f}")
        rows.append((words(line.question), line.num_items, equal, alpha))
    return table(("question", "items", "equal answers", "Krippendorff's alpha"), rows)
