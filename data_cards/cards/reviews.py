"""Tell what people reviewed in a set: what it came to, how far they agree, which rows they read.

A review of another version of a row does not count.
"""

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.store import tables
from coa.store.files import AGREEMENT, REVIEWED, REVIEWS
from coa.store.reviews import (
    DECISIVE,
    Review,
    ReviewKind,
    pair_version,
    read_reviews,
    trajectory_version,
)
from data_cards.cards.safe_markdown import Cell, Markdown, frame_table, words
from data_cards.cards.sources import counts
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import collect

_DECISIVE_QUESTIONS = ("verdict", "preference", "same_answer")
_CAME_TO = "what the reviews came to"


EFFECTS = {
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


def change_table(name: SetName) -> Markdown:
    """Count the reviewed items that concern a set by what the reviews came to; may be empty."""
    if not REVIEWED.exists() or name is SetName.RL:
        return Markdown("")
    if name is SetName.COT_A:
        concerns = pl.col("kind") == "pair"
    else:
        # A trajectory's id is {question}/{mode}/{index}.
        mode = pl.col("item_id").str.split("/").list.get(-2, null_on_oob=True)
        concerns = (pl.col("kind") != "pair") & (mode == str(name))
    reviewed = tables.scan(REVIEWED, ["item_id", "kind", "effect"]).filter(concerns)
    found = counts(reviewed.select(pl.col("effect").alias(_CAME_TO)), _CAME_TO)

    def show(effect: str) -> Markdown:
        return Markdown(EFFECTS[effect]) if effect in EFFECTS else words(effect)

    return frame_table(found.rename({"rows": "items"}), {_CAME_TO: show})


def agreement_table(name: SetName) -> Markdown:
    """Tell how far reviewers agree on what decides; empty where no item was reviewed twice."""
    if not AGREEMENT.exists():
        return Markdown("")
    is_of_pairs = pl.col("kind") == "pair"
    concerns = is_of_pairs if name is SetName.COT_A else ~is_of_pairs
    is_between_reviewers = pl.col("between") == "reviewers"
    is_decisive = pl.col("question").is_in(_DECISIVE_QUESTIONS)
    columns = ["kind", "between", "question", "num_items", "equal_share", "alpha"]
    rows = tables.scan(AGREEMENT, columns).filter(concerns & is_between_reviewers & is_decisive)
    shown = rows.select(
        "question",
        items="num_items",
        **{"equal answers": "equal_share", "Krippendorff's alpha": "alpha"},
    )
    shows: dict[str, Callable[[Any], Cell]] = {
        "question": words,
        "equal answers": lambda equal: Markdown(f"{equal:.1%}"),
        "Krippendorff's alpha": lambda alpha: Markdown(f"{alpha:.2f}"),
    }
    return frame_table(collect(shown.sort("question")), shows)


def num_reviewed(name: SetName) -> int:
    """Count the rows of a set that at least one person reviewed as they are now."""
    if not REVIEWS.exists():
        return 0
    kind = ReviewKind.PAIR if name is SetName.COT_A else ReviewKind.TRAJECTORY
    reviewed = {
        (review.item_id, review.version) for review in read_reviews() if review.kind is kind
    }
    if not reviewed:
        return 0
    count = 0
    for split in SPLITS:
        path = local_path(name, split)
        if name is SetName.COT_A:
            for pair in tables.read_table(path, PreferencePair):
                count += (pair.pair_id, pair_version(pair)) in reviewed
        else:
            for row in tables.read_table(path, GradedTrajectory):
                count += (row.trajectory.trajectory_id, trajectory_version(row)) in reviewed
    return count


def reviews_of(item_id: str) -> Iterator[tuple[Review, str]]:
    """Yield the reviews of a trajectory or a pair, of any version, each with a summary.

    No summary names the reviewer.
    """
    if not REVIEWS.exists():
        return
    for review in read_reviews():
        if review.item_id == item_id:
            answer = review.value(DECISIVE[review.kind]) or "nothing decisive"
            when = f"{review.submitted}, round {review.round}, version {review.version}"
            yield review, f"{review.kind}: {answer} ({when})"
