"""Published rows to those that touch an evaluation set.

The screen writes what it found (data/screen/excluded.parquet); none of those rows may be published. What it says is not
taken on trust alone: the question of every row is compared with every evaluation question here, too, for the same words
and for nearly the same. What the policy wrote is compared by the screen alone.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from coa import tables
from coa.exclusions import ExclusionReason
from coa.files import EXCLUDED, QUESTIONS
from coa.near_questions import NearQuestions, question_key
from coa.question import Question
from coa.sources import read_rows
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import collect, facts, scan

_ENDINGS = (".parquet", ".jsonl", ".csv")


class Overlap(NamedTuple):
    """A row that touches an evaluation set."""

    row_id: str
    detail: str


def screened_overlaps(name: SetName) -> list[Overlap]:
    """The rows of a set that the screen found and that are in it all the same.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    touched = scan(EXCLUDED, ["row_id", "reason", "detail"]).filter(
        pl.col("reason") != ExclusionReason.NEAR_DUPLICATE
    )
    rows = facts(name).select("row_id").join(touched, on="row_id", how="inner").sort("row_id")
    return [Overlap(*row) for row in collect(rows.select("row_id", "detail")).iter_rows()]


class EvaluationQuestions:
    """The questions that models are evaluated on, by their words."""

    def __init__(self, screen: Mapping[str, Any]) -> None:
        """`screen` is the section of that name in params.yaml: it names the evaluation files.

        Raises:
            InputError: a file is missing or broken.
            ConfigError: a file's format is unknown.
        """
        self._set_by_key: dict[str, str] = {}
        self._sets: list[str] = []
        questions: list[str] = []
        for name, question in _evaluation_questions(screen):
            self._set_by_key.setdefault(question_key(question), name)
            self._sets.append(name)
            questions.append(question)
        self._near = NearQuestions(questions, self._sets)

    def overlaps(self, name: SetName) -> Iterator[Overlap]:
        """The rows of a set that ask, or nearly ask, what an evaluation set asks."""
        for row_id, question in _questions(name):
            if found := self._set_by_key.get(question_key(question)):
                yield Overlap(row_id, f"asks a question of {found}")
            elif near := self._near.nearest(question):
                yield Overlap(row_id, f"nearly asks a question of {self._sets[near.place]}")


def _questions(name: SetName) -> Iterator[tuple[str, str]]:
    columns = {SetName.COT_A: ("pair_id", "question"), SetName.RL: ("question_id", "question")}
    for split in SPLITS:
        path = local_path(name, split)
        file = tables.open_parquet(path)
        wanted = columns.get(name)
        tables.require_columns(path, file.schema_arrow.names, wanted or ["trajectory"])
        for batch in tables.parquet_batches(path, file, list(wanted or ["trajectory"])):
            frame = pl.DataFrame(pl.from_arrow(batch))
            flat = frame if wanted else frame.unnest("trajectory")
            yield from flat.select(wanted or ("trajectory_id", "question")).iter_rows()


def _evaluation_questions(screen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for row in tables.read_table(QUESTIONS, Question):
        if row.split != "train":
            yield row.split, row.question
    more = Path(screen.get("evaluation", QUESTIONS))
    column = dict(screen.get("evaluation_columns", {})).get("question", "question")
    for path in [] if more == QUESTIONS else _files(more):
        for found in read_rows(path, {"question": column}):
            yield path.stem, str(found.values["question"])


def _files(path: Path) -> list[Path]:
    return (
        sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
        if path.is_dir()
        else [path]
    )
