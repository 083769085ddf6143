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
from collections.abc import Iterator, Mapping, Sequence
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
    ids = {review.item_id for review in reviews}
    return [
        *agreement_of_reviewers(reviews),
        *agreement_with_grader(reviews, _grades(ids)),
        *agreement_with_causes(reviews, _causes(ids)),
        *agreement_with_steps(reviews, _blamed_steps(ids)),
    ]


def _grades(ids: set[str]) -> dict[str, bool]:
    """Return whether the grader calls each of the trajectories right, by id."""
    if not GRADED.exists():
        return {}
    row_id = pl.col("trajectory").struct.field("trajectory_id")
    is_correct = pl.col("grade").struct.field("exact_match")
    rows = _scan(GRADED, ["trajectory", "grade"]).filter(
        row_id.is_in(list(ids)), is_correct.is_not_null()
    )
    return dict(rows.select(row_id, is_correct).collect().iter_rows())


def _causes(ids: set[str]) -> dict[str, frozenset[str]]:
    """Return all automatic causes by id, the primary one and the contributing ones."""
    if not ANALYSED.exists():
        return {}
    contributing = pl.col("contributing").list.eval(pl.element().struct.field("cause"))
    rows = _scan(ANALYSED, ["trajectory_id", "cause", "contributing"])
    wanted = rows.filter(pl.col("trajectory_id").is_in(list(ids)))
    columns = wanted.select("trajectory_id", "cause", contributing).collect()
    found = {}
    for row_id, cause, more in columns.iter_rows():
        found[row_id] = frozenset(name for name in (cause, *more) if name)
    return found


def _blamed_steps(ids: set[str]) -> dict[str, int]:
    """Return the number of the step that the analysis blames, counted from 1, by id."""
    if not ANALYSED.exists():
        return {}
    rows = _scan(ANALYSED, ["trajectory_id", "step"])
    wanted = rows.filter(pl.col("trajectory_id").is_in(list(ids)), pl.col("step").is_not_null())
    return dict(wanted.select("trajectory_id", pl.col("step") + 1).collect().iter_rows())


def _texts(ids: set[str]) -> dict[str, str]:
    """Return by id what an item is about: its question, and its answer where it has one."""
    found: dict[str, str] = {}
    if GRADED.exists():
        trajectory = pl.col("trajectory").struct.field
        rows = _scan(GRADED, ["trajectory", "grade"]).select(
            trajectory("trajectory_id"),
            trajectory("question"),
            pl.col("grade").struct.field("prediction"),
        )
        wanted = rows.filter(pl.col("trajectory_id").is_in(list(ids)))
        for row_id, question, prediction in wanted.collect().iter_rows():
            found[row_id] = f"{question} — {prediction or 'no answer'}"
    if PAIRS.exists():
        rows = _scan(PAIRS, ["pair_id", "question"]).select("pair_id", "question")
        found.update(rows.filter(pl.col("pair_id").is_in(list(ids))).collect().iter_rows())
    return found


def _scan(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, columns)
    return pl.scan_parquet(path)


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
    num_by_standing = Counter(decision.standing for decision in decisions)
    return render_report(
        _TEMPLATES,
        "agreement.html",
        parts=parts,
        conflicts=list(_conflicts(decisions)),
        texts=_texts({decision.item_id for decision in decisions}),
        pairs=pairs,
        num_as_measured=sum(pair.num_as_measured for pair in pairs if pair.worth),
        num_against=sum(pair.num_against for pair in pairs if pair.worth),
        standings={str(standing): num_by_standing[standing] for standing in Standing},
        num_reviews=len(reviews),
        reviewers=sorted({review.reviewer for review in reviews}),
    )


def _conflicts(decisions: Sequence[Decision]) -> Iterator[Mapping[str, Any]]:
    """Yield the items on which reviewers disagree, with what each of them said."""
    for decision in decisions:
        if decision.standing is not Standing.CONFLICT:
            continue
        question = DECISIVE[decision.kind]
        said = []
        for review in decision.reviews:
            comment = review.value(ReviewQuestion.COMMENT)
            verdict = review.value(question)
            said.append((review.reviewer, f"{verdict} ({comment})" if comment else verdict))
        yield {"kind": str(decision.kind), "item_id": decision.item_id, "said": said}


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
