"""Measure how far people agree with each other, with the automatic causes and with the grader.

    coa page agreement                   # writes reports/agreement.html

One page that needs no network: Krippendorff's alpha and Cohen's kappa for each question, the causes
one by one, the verdicts on pairs beside what acting was measured to be worth, and every item on
which people disagree. It reads data/reviews.parquet and, where they are there,
data/analyse.parquet, data/grade.parquet and data/branch/pairs.parquet. Only the reviews of the
first round count, because those were made without seeing each other's, or the worth.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from annotate.first_round import ReviewedPair, reviewed_pairs
from annotate.measures import (
    agreement_of_reviewers,
    agreement_with_causes,
    agreement_with_grader,
    agreement_with_steps,
)
from annotate.settings import AnnotateParams
from coa.errors import InputError
from coa.pages.report_page import render_report
from coa.settings.params import Params
from coa.store import tables
from coa.store.adjudication import Decision, Standing, decide_all
from coa.store.files import ANALYSED, GRADED, PAIRS, REVIEWS
from coa.store.reviews import DECISIVE, Agreement, Between, Review, ReviewQuestion, read_reviews
from coa.store.whole_files import write_file

PAGE = Path("reports/agreement.html")
_TEMPLATES = Path(__file__).parent / "templates"
_HEADINGS = {
    Between.REVIEWERS: "Reviewers with each other",
    Between.GRADER: "Reviewers with the grader",
    Between.CAUSES: "Reviewers with the automatic causes",
}


def measured(reviews: Sequence[Review]) -> list[Agreement]:
    """Compute all figures of agreement for these reviews."""
    ids = list({review.item_id for review in reviews})
    grades: dict[str, bool] = {}
    if GRADED.exists():
        row_id = pl.col("trajectory").struct.field("trajectory_id")
        is_correct = pl.col("grade").struct.field("exact_match")
        graded = tables.scan(GRADED, ["trajectory", "grade"])
        known = graded.filter(row_id.is_in(ids), is_correct.is_not_null())
        grades = dict(known.select(row_id, is_correct).collect().iter_rows())
    causes: dict[str, frozenset[str]] = {}
    blamed_steps: dict[str, int] = {}
    if ANALYSED.exists():
        contributing = pl.col("contributing").list.eval(pl.element().struct.field("cause"))
        rows = tables.scan(ANALYSED, ["trajectory_id", "cause", "contributing", "step"])
        wanted = rows.filter(pl.col("trajectory_id").is_in(ids))
        columns = wanted.select("trajectory_id", "cause", contributing, "step").collect()
        for item_id, cause, more, step in columns.iter_rows():
            causes[item_id] = frozenset(name for name in (cause, *more) if name)
            if step is not None:
                blamed_steps[item_id] = step + 1
    return [
        *agreement_of_reviewers(reviews),
        *agreement_with_grader(reviews, grades),
        *agreement_with_causes(reviews, causes),
        *agreement_with_steps(reviews, blamed_steps),
    ]


def _texts(ids: set[str]) -> dict[str, str]:
    """Return by id what an item is about: its question, and its answer where it has one."""
    found: dict[str, str] = {}
    if GRADED.exists():
        trajectory = pl.col("trajectory").struct.field
        rows = tables.scan(GRADED, ["trajectory", "grade"]).select(
            trajectory("trajectory_id"),
            trajectory("question"),
            pl.col("grade").struct.field("prediction"),
        )
        wanted = rows.filter(pl.col("trajectory_id").is_in(list(ids)))
        for row_id, question, prediction in wanted.collect().iter_rows():
            found[row_id] = f"{question} — {prediction or 'no answer'}"
    if PAIRS.exists():
        rows = tables.scan(PAIRS, ["pair_id", "question"]).select("pair_id", "question")
        found.update(rows.filter(pl.col("pair_id").is_in(list(ids))).collect().iter_rows())
    return found


def page(
    figures: Sequence[Agreement],
    decisions: Sequence[Decision],
    reviews: Sequence[Review],
    pairs: Sequence[ReviewedPair] = (),
) -> str:
    """Write the page as HTML; every text is escaped."""
    parts = {}
    for between, heading in _HEADINGS.items():
        rows = [figure for figure in figures if figure.between is between]
        if rows:
            parts[heading] = rows
    conflicts: list[Mapping[str, Any]] = []
    for decision in decisions:
        if decision.standing is not Standing.CONFLICT:
            continue
        said = []
        for review in decision.reviews:
            comment = review.value(ReviewQuestion.COMMENT)
            verdict = review.value(DECISIVE[decision.kind])
            said.append((review.reviewer, f"{verdict} ({comment})" if comment else verdict))
        conflicts.append({"kind": str(decision.kind), "item_id": decision.item_id, "said": said})
    num_by_standing = Counter(decision.standing for decision in decisions)
    return render_report(
        _TEMPLATES,
        "agreement.html",
        parts=parts,
        conflicts=conflicts,
        texts=_texts({decision.item_id for decision in decisions}),
        pairs=pairs,
        num_as_measured=sum(pair.num_as_measured for pair in pairs if pair.worth),
        num_against=sum(pair.num_against for pair in pairs if pair.worth),
        standings={str(standing): num_by_standing[standing] for standing in Standing},
        num_reviews=len(reviews),
        reviewers=sorted({review.reviewer for review in reviews}),
    )


def main(arguments: Sequence[str]) -> str:
    """Write the page, and return the summary line."""
    annotate = Params.load("annotate", arguments).section(AnnotateParams)
    reviews = read_reviews()
    if not reviews:
        raise InputError(f"{REVIEWS} holds no review", fix="review something, then coa review pull")
    figures = measured(reviews)
    decisions = list(decide_all(reviews, annotate.adjudication))
    pairs = list(reviewed_pairs(reviews))
    write_file(PAGE, page(figures, decisions, reviews, pairs))
    num_conflicts = sum(decision.standing is Standing.CONFLICT for decision in decisions)
    return (
        f"{PAGE}: {len(reviews):,} reviews of {len(decisions):,} items, "
        f"{num_conflicts:,} in conflict"
    )


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
