"""Measure how well and how fast a search engine finds what questions need.

    coa search evaluate [questions=data/questions.parquet] [split=test]
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
from coa.progress import Progress
from coa.records.grading import YES_NO, normalise
from coa.search import Hit, SearchEngine
from coa.search.factory import open_engine
from coa.search.settings import SearchParams
from coa.settings.params import Params
from coa.store.files import QUESTIONS
from coa.store.metrics import write_metrics
from coa.store.sources import read_rows

_DEPTHS = (1, 3, 5, 10, 20, 50, 100)
"""Numbers of passages at which recall is given, up to `top_k`."""


@dataclass(frozen=True, slots=True)
class SearchEvaluateParams:
    """Settings of the evaluation: which questions are searched for, and how deep."""

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
    """A question as a query, with the titles and answers that a good search finds."""

    query: str
    gold_titles: frozenset[str]
    """Normalised; empty where the file names none."""
    gold_answers: tuple[str, ...]
    """Normalised, without yes and no; empty where none is left."""


@dataclass(frozen=True, slots=True)
class Found:
    """The ranks of what one search was looking for, and how long it took."""

    title_ranks: tuple[int, ...]
    """For each gold title the rank of its first passage, from 1; 0 where it was not found."""
    answer_rank: int | None
    """Rank of the first passage that holds an answer; 0 where none does, None where the question
    names no answers."""
    seconds: float


def read_sought(params: SearchEvaluateParams) -> Iterator[Sought]:
    """Read the questions of the file.

    Raises:
        InputError: the file is missing or broken, or has no such questions.
    """
    names = ["question", "gold_titles", "gold_answers"]
    if params.split:
        names.append("split")
    columns = {name: params.columns.get(name, name) for name in names}
    count = 0
    for row in read_rows(Path(params.questions), columns, optional=("gold_titles", "gold_answers")):
        if params.split and row.values["split"] != params.split:
            continue
        count += 1
        titles = frozenset(_plain(title) for title in _texts(row.values["gold_titles"]))
        answers = []
        for text in _texts(row.values["gold_answers"]):
            answer = _plain(text)
            if answer and answer not in YES_NO:  # yes and no are words of any text
                answers.append(answer)
        yield Sought(str(row.values["question"]), titles, tuple(answers))
        if count == params.num_questions:
            return
    if not count:
        raise InputError(
            f"{params.questions} has no questions", expected=f"split {params.split!r}", got="none"
        )


def _texts(value: Any) -> Sequence[str]:
    if value is None:
        return ()
    if isinstance(value, str):
        return (value,)
    return tuple(str(item) for item in value)


def _plain(text: str) -> str:
    return normalise(html.unescape(text))


def judge(sought: Sought, hits: Sequence[Hit], seconds: float) -> Found:
    """Find the ranks of the gold titles and of an answer among the hits."""
    titles = [_plain(hit.passage.title) for hit in hits]
    ranks = []
    for title in sorted(sought.gold_titles):
        rank = titles.index(title) + 1 if title in titles else 0
        ranks.append(rank)
    return Found(tuple(ranks), _answer_rank(sought.gold_answers, hits), seconds)


def _answer_rank(answers: Sequence[str], hits: Sequence[Hit]) -> int | None:
    """Return the rank of the first passage that holds an answer, as `Found` does."""
    if not answers:
        return None
    for rank, hit in enumerate(hits, start=1):
        text = f" {_plain(f'{hit.passage.title} {hit.passage.text}')} "
        if any(f" {answer} " in text for answer in answers):
            return rank
    return 0


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
    """Compute recall at several depths, and latencies in milliseconds."""
    title_ranks = [item.title_ranks for item in found if item.title_ranks]
    answer_ranks = [item.answer_rank for item in found if item.answer_rank is not None]
    summary: dict[str, float | int] = {"questions": len(found)}
    depths = [depth for depth in _DEPTHS if depth < top_k]
    for depth in [*depths, top_k]:
        if title_ranks:
            shares = []
            for ranks in title_ranks:
                num_found = sum(0 < rank <= depth for rank in ranks)
                shares.append(num_found / len(ranks))
            complete = [share == 1 for share in shares]
            summary[f"recall@{depth}"] = round(statistics.mean(shares), 4)
            summary[f"all_titles@{depth}"] = round(statistics.mean(complete), 4)
        if answer_ranks:
            are_found = [0 < rank <= depth for rank in answer_ranks]
            summary[f"answer@{depth}"] = round(statistics.mean(are_found), 4)
    seconds = sorted(item.seconds for item in found)
    for name, share in (("median", 0.5), ("p99", 0.99)):
        position = min(int(share * len(seconds)), len(seconds) - 1)
        summary[f"{name}_ms"] = round(1000 * seconds[position], 2)
    return summary


def main(arguments: Sequence[str]) -> str:
    """Evaluate the engine that `search` describes and return the summary line."""
    params = Params.load("search_evaluate", arguments)
    own = params.section(SearchEvaluateParams)
    sought = list(read_sought(own))
    engine = open_engine(params.section(SearchParams, "search"))

    async def evaluate() -> list[Found]:
        try:
            return await search_all(engine, sought, own.top_k)
        finally:
            close = getattr(engine, "aclose", None)
            if close:
                await close()

    summary = summarise(asyncio.run(evaluate()), own.top_k)
    write_metrics("search_evaluate", {"fingerprint": engine.fingerprint, **summary})
    for name, value in summary.items():
        print(f"{name:16}{value:10,}")
    return f"metrics/search_evaluate.json: {len(sought):,} questions, {engine.fingerprint}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
