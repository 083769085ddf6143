"""Measure what fusion with a second ranking does to the recall of BM25 on real questions.

    python -m coa.search.index corpus=FOLDER out=data/index
    python -m bench.fusion QUESTIONS [search.fusion.second=titles] [search.index=data/index]

QUESTIONS is a parquet file with question, dataset and gold_titles. For each data set the table
gives the recall of gold titles and the share of questions with all of them, by BM25 alone and by
the fusion, and the difference on the same questions, in points, with 95% bootstrap intervals.
Questions without gold titles are left out.
"""

import html
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from coa.factory import SearchParams
from coa.grading import normalise
from coa.intervals import Interval, mean_interval
from coa.params import Params
from coa.search import EngineKind, Hit
from coa.search.evaluate import Sought, judge
from coa.search.finders import open_finder
from coa.search.search_pool import Finder

DEPTHS = (2, 5, 10, 20)
NUM_RESAMPLES = 2000
SEED = 0


def read_questions(path: Path) -> dict[str, list[Sought]]:
    """Read the questions that have gold titles, by data set."""
    found: dict[str, list[Sought]] = defaultdict(list)
    rows = pl.read_parquet(path, columns=["dataset", "question", "gold_titles"])
    for row in rows.iter_rows(named=True):
        titles = frozenset(normalise(html.unescape(title)) for title in row["gold_titles"] or ())
        if titles:
            found[row["dataset"]].append(Sought(row["question"], titles, ()))
    return found


def ranks_of(engine: Finder, questions: Sequence[Sought]) -> list[tuple[int, ...]]:
    """Return the ranks of the gold titles of each question."""
    found = []
    for question in questions:
        hits: Sequence[Hit] = engine.find(question.query, max(DEPTHS))
        found.append(judge(question, hits, 0.0).title_ranks)
    return found


def share(ranks: tuple[int, ...], depth: int, *, all_of_them: bool) -> float:
    """Return the share of titles up to `depth`, or 1.0 where all of them are there."""
    within = sum(0 < rank <= depth for rank in ranks) / len(ranks)
    return float(within == 1) if all_of_them else within


def points(interval: Interval | None) -> str:
    """Write a mean with its interval in points of a hundred."""
    if interval is None:
        return "none"
    low, mean, high = (100 * value for value in (interval.low, interval.value, interval.high))
    return f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def show(name: str, plain: list[tuple[int, ...]], fused: list[tuple[int, ...]]) -> None:
    """Print the rows of one data set."""
    for all_of_them in (False, True):
        measure = "all titles" if all_of_them else "recall"
        for depth in DEPTHS:
            before = [share(ranks, depth, all_of_them=all_of_them) for ranks in plain]
            after = [share(ranks, depth, all_of_them=all_of_them) for ranks in fused]
            changes = [new - old for new, old in zip(after, before, strict=True)]
            interval = mean_interval(changes, num_resamples=NUM_RESAMPLES, seed=SEED)
            means = [100 * sum(values) / len(values) for values in (before, after)]
            print(
                f"| {name} | {len(plain):,} | {measure}@{depth} | {means[0]:.1f} | {means[1]:.1f} "
                f"| {points(interval)} |",
                flush=True,
            )


def main(arguments: list[str]) -> None:
    """Print the table."""
    questions = read_questions(Path(arguments[0]))
    params = Params.load("search", arguments[1:]).section(SearchParams)
    index = Path(params.index)
    engines = []
    for kind in (EngineKind.EMBEDDED, EngineKind.HYBRID):
        engines.append(open_finder(kind, index, params.dense, params.fusion))
    print(f"{engines[0].num_passages:,} passages, fused with {params.fusion.second}")
    print("| data set | questions | measure | BM25 | fused | difference, points |")
    print("|---|---|---|---|---|---|")
    for name, asked in questions.items():
        show(name, ranks_of(engines[0], asked), ranks_of(engines[1], asked))


if __name__ == "__main__":
    main(sys.argv[1:])
