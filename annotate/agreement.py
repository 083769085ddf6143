"""data/reviews.parquet to how far people agree with each other, with the automatic causes and with the grader.

    python -m annotate.agreement                   # writes reports/agreement.html

One page that needs no network: Krippendorff's alpha and Cohen's kappa for each question, the causes one by one, and
every item on which people disagree. Reads data/reviews.parquet and, where they are there, data/analyse.parquet and
data/grade.parquet; the reviews of the first round, made without seeing each other's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from annotate.measures import agreement_of_reviewers, agreement_with_causes, agreement_with_grader
from annotate.settings import AnnotateParams
from coa import tables
from coa.adjudication import Decision, Standing, decide_all
from coa.errors import InputError
from coa.files import ANALYSED, GRADED, REVIEWS
from coa.params import Params
from coa.reviews import DECISIVE, Agreement, Between, Review, read_reviews
from coa.whole_files import write_file

PAGE = Path("reports/agreement.html")
_TEMPLATES = Path(__file__).parent / "templates"
_HEADINGS = {
    Between.REVIEWERS: "Reviewers with each other",
    Between.GRADER: "Reviewers with the grader",
    Between.CAUSES: "Reviewers with the automatic causes",
}


def measured(reviews: Sequence[Review]) -> list[Agreement]:
    """All figures for these reviews.

    Raises:
        InputError: a file is broken or lacks a column.
    """
    ids = {review.item_id for review in reviews}
    return [
        *agreement_of_reviewers(reviews),
        *agreement_with_grader(reviews, _grades(ids)),
        *agreement_with_causes(reviews, _causes(ids)),
    ]


def _grades(ids: set[str]) -> dict[str, bool]:
    if not GRADED.exists():
        return {}
    trajectory = pl.col("trajectory").struct.field("trajectory_id")
    rows = _scan(GRADED, ["trajectory", "grade"]).filter(trajectory.is_in(list(ids)))
    return dict(
        rows.select(trajectory, pl.col("grade").struct.field("exact_match")).collect().iter_rows()
    )


def _causes(ids: set[str]) -> dict[str, frozenset[str]]:
    """All automatic causes, the primary one and those beside it."""
    if not ANALYSED.exists():
        return {}
    beside = pl.col("contributing").list.eval(pl.element().struct.field("cause"))
    rows = _scan(ANALYSED, ["trajectory_id", "cause", "contributing"]).filter(
        pl.col("trajectory_id").is_in(list(ids))
    )
    found = rows.select("trajectory_id", "cause", beside).collect()
    return {
        row_id: frozenset(filter(None, (cause, *more))) for row_id, cause, more in found.iter_rows()
    }


def _scan(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, columns)
    return pl.scan_parquet(path)


def page(
    figures: Sequence[Agreement], decisions: Sequence[Decision], reviews: Sequence[Review]
) -> str:
    """The page; every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {
        heading: [it for it in figures if it.between is between]
        for between, heading in _HEADINGS.items()
    }
    return environment.get_template("agreement.html").render(
        parts={heading: rows for heading, rows in parts.items() if rows},
        conflicts=list(_conflicts(decisions)),
        standings={
            str(standing): sum(it.standing is standing for it in decisions) for standing in Standing
        },
        num_reviews=len(reviews),
        reviewers=sorted({review.reviewer for review in reviews}),
    )


def _conflicts(decisions: Sequence[Decision]) -> Iterator[Mapping[str, Any]]:
    for decision in decisions:
        if decision.standing is Standing.CONFLICT:
            said = [
                (review.reviewer, review.value(DECISIVE[decision.kind]))
                for review in decision.reviews
            ]
            yield {"kind": str(decision.kind), "item_id": decision.item_id, "said": said}


def main(arguments: Sequence[str]) -> str:
    """Write the page; the summary line is returned."""
    annotate = Params.load("annotate", arguments).section(AnnotateParams)
    reviews = read_reviews()
    if not reviews:
        raise InputError(
            f"{REVIEWS} holds no review", fix="review something, then python -m annotate.pull"
        )
    figures, decisions = measured(reviews), list(decide_all(reviews, annotate.adjudication))
    write_file(PAGE, page(figures, decisions, reviews))
    conflicts = sum(it.standing is Standing.CONFLICT for it in decisions)
    return (
        f"{PAGE}: {len(reviews):,} reviews of {len(decisions):,} items, {conflicts:,} in conflict"
    )


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
