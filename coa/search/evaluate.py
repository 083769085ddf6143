"""How well a search engine finds what questions need, and how fast, on any questions file.

    python -m coa.search.evaluate [questions=data/questions.parquet] [split=test]
        [search.engine=server ...]

The questions themselves are the queries. Recall is over the gold titles a question names, answer
recall over its gold answers; latencies are those of searches in turn. Prints a table; writes
metrics/search_evaluate.json.
"""

import asyncio
import html
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import ConfigError, InputError
from coa.factory import SearchParams, open_engine
from coa.files import QUESTIONS
from coa.grading import YES_NO, normalise
from coa.metrics import write_metrics
from coa.params import Params
from coa.progress import Progress
from coa.search import Hit, SearchEngine
from coa.sources import read_rows

"""Answers that stand in any text."""


@dataclass(frozen=True, slots=True)
class SearchEvaluateParams:
    """Which questions are searched for, and how deep."""

    questions: str = QUESTIONS.as_posix()
    """A .parquet, .jsonl or .csv file."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column (question, gold_titles, gold_answers, split) to the file's, where the names
    differ."""
    split: str = ""
    """Only questions of this split; empty: all."""
    num_questions: int = 0
    """The first so many; 0 takes all."""
    top_k: int = 10
    """How deep; recall is given at 1, 3, 5, ... up to it."""

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.num_questions < 0:
            raise ConfigError(
                "search_evaluate.top_k must be positive, and num_questions not negative"
            )


class Sought(NamedTuple):
    """A question as a query, and what shows that it was answered."""

    query: str
    gold_titles: frozenset[str]
    """Normalised; empty where the file names none."""
    gold_answers: tuple[str, ...]
    """Normalised, without yes and no; empty where none is left."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one search brought."""

    title_ranks: tuple[int, ...]
    """For each gold title the rank of its first passage, from 1; 0 where it was not found."""
    answer_rank: int | None
    """Of the first passage that holds an answer; 0 where none does, None where there is no
    telling."""
    seconds: float


def read_sought(params: SearchEvaluateParams) -> Iterator[Sought]:
    """The questions of the file.

    Raises:
        InputError: the file is missing or broken, or has no such questions.
    """
    names = ("question", "gold_titles", "gold_answers", *(["split"] if params.split else []))
    columns = {name: params.columns.get(name, name) for name in names}
    count = 0
    for row in read_rows(Path(params.questions), columns, optional=("gold_titles", "gold_answers")):
        if params.split and row.values["split"] != params.split:
            continue
        count += 1
        titles = frozenset(_plain(title) for title in _texts(row.values["gold_titles"]))
        answers = tuple(filter(None, map(_plain, _texts(row.values["gold_answers"]))))
        yield Sought(
            str(row.values["question"]),
            titles,
            tuple(item for item in answers if item not in YES_NO),
        )
        if count == params.num_questions:
            return
    if not count:
        raise InputError(
            f"{params.questions} has no questions", expected=f"split {params.split!r}", got="none"
        )


def _texts(value: Any) -> Sequence[str]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(map(str, value))


def _plain(text: str) -> str:
    return normalise(html.unescape(text))


def judge(sought: Sought, hits: Sequence[Hit], seconds: float) -> Found:
    """Where the gold titles and an answer stand among the hits."""
    titles = [_plain(hit.passage.title) for hit in hits]
    ranks = tuple(
        titles.index(title) + 1 if title in titles else 0 for title in sorted(sought.gold_titles)
    )
    if not sought.gold_answers:
        return Found(ranks, None, seconds)
    texts = (f" {_plain(f'{hit.passage.title} {hit.passage.text}')} " for hit in hits)
    holding = (
        rank
        for rank, text in enumerate(texts, 1)
        if any(f" {a} " in text for a in sought.gold_answers)
    )
    return Found(ranks, next(holding, 0), seconds)


async def search_all(engine: SearchEngine, sought: Sequence[Sought], top_k: int) -> list[Found]:
    """Search for each question in turn.

    Raises:
        ServiceError: the engine cannot be reached.
        SearchError: a search failed; nothing is measured on the rest.
    """
    found = []
    with Progress("search", len(sought), "questions") as progress:
        for item in sought:
            started = time.perf_counter()
            hits = await engine.search(item.query, top_k)
            found.append(judge(item, hits, time.perf_counter() - started))
            progress.add()
    return found


def summarise(found: Sequence[Found], top_k: int) -> dict[str, float | int]:
    """Recall at several depths, and latencies in milliseconds."""
    with_titles = [item.title_ranks for item in found if item.title_ranks]
    with_answers = [item.answer_rank for item in found if item.answer_rank is not None]
    summary: dict[str, float | int] = {"questions": len(found)}
    for depth in [k for k in (1, 3, 5, 10, 20, 50, 100) if k < top_k] + [top_k]:
        if with_titles:
            shares = [
                sum(0 < rank <= depth for rank in ranks) / len(ranks) for ranks in with_titles
            ]
            summary[f"recall@{depth}"] = round(statistics.mean(shares), 4)
            summary[f"all_titles@{depth}"] = round(
                statistics.mean(share == 1 for share in shares), 4
            )
        if with_answers:
            summary[f"answer@{depth}"] = round(
                statistics.mean(0 < rank <= depth for rank in with_answers), 4
            )
    seconds = sorted(item.seconds for item in found)
    for name, share in (("median", 0.5), ("p99", 0.99)):
        summary[f"{name}_ms"] = round(
            1000 * seconds[min(int(share * len(seconds)), len(seconds) - 1)], 2
        )
    return summary


def main(arguments: Sequence[str]) -> str:
    """Evaluate the engine that `search` describes; the summary line is returned."""
    params = Params.load("search_evaluate", arguments)
    own = params.section(SearchEvaluateParams)
    sought = list(read_sought(own))
    engine = open_engine(params.section(SearchParams, "search"))

    async def evaluate() -> list[Found]:
        try:
            return await search_all(engine, sought, own.top_k)
        finally:
            if close := getattr(engine, "aclose", None):
                await close()

    summary = summarise(asyncio.run(evaluate()), own.top_k)
    write_metrics("search_evaluate", {"fingerprint": engine.fingerprint, **summary})
    for name, value in summary.items():
        print(f"{name:16}{value:10,}")
    return f"metrics/search_evaluate.json: {len(sought):,} questions, {engine.fingerprint}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
