"""What reviewers changed in a set, and how far they agree, to a card's section; nothing where nobody reviewed."""

import polars as pl

from coa.files import AGREEMENT, REVIEWED
from data_cards.cards.safe_markdown import Cell, Markdown, table, words
from data_cards.cards.yields import counts
from data_cards.catalogue import SetName
from data_cards.facts import collect, scan

_DECISIVE = ("verdict", "preference", "same_answer")
_MEANINGS = {
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
    "stale": "nothing changed: the text was made anew since",
}


def changes(name: SetName) -> Markdown | None:
    """A table of what became of the reviewed items that concern a set; None where there are none.

    Raises:
        InputError: a file is broken or lacks a column.
    """
    if not REVIEWED.exists() or name is SetName.RL:
        return None
    effects = counts(
        scan(REVIEWED, ["item_id", "kind", "effect"]).filter(_concerns(name)), "effect"
    )
    rows: list[tuple[Cell, Cell]] = [
        (Markdown(_MEANINGS.get(it.value, words(it.value))), it.rows) for it in effects
    ]
    return table(("what the reviews came to", "items"), rows) if rows else None


def _concerns(name: SetName) -> pl.Expr:
    if name is SetName.COT_A:
        return pl.col("kind") == "pair"
    # A trajectory's id is {question}/{mode}/{index}.
    mode = pl.col("item_id").str.split("/").list.get(-2, null_on_oob=True)
    return (pl.col("kind") != "pair") & (mode == str(name))


def agreement(name: SetName) -> Markdown | None:
    """How far reviewers agree on the questions that decide; None where no item was reviewed twice.

    Raises:
        InputError: a file is broken or lacks a column.
    """
    if not AGREEMENT.exists():
        return None
    is_mine = (pl.col("kind") == "pair") if name is SetName.COT_A else (pl.col("kind") != "pair")
    wanted = ["kind", "question", "between", "num_items", "equal_share", "alpha"]
    rows = scan(AGREEMENT, wanted).filter(
        is_mine & (pl.col("between") == "reviewers") & pl.col("question").is_in(_DECISIVE)
    )
    found = collect(
        rows.select("question", "num_items", "equal_share", "alpha").sort("question")
    ).iter_rows()
    cells = [
        (words(question), items, _share(equal), _alpha(alpha))
        for question, items, equal, alpha in found
    ]
    return (
        table(("question", "items", "equal answers", "Krippendorff's alpha"), cells)
        if cells
        else None
    )


def _share(equal: float) -> Markdown:
    return Markdown(f"{equal:.1%}")


def _alpha(alpha: float | None) -> Markdown:
    return Markdown("–" if alpha is None else f"{alpha:.2f}")  # noqa: RUF001
