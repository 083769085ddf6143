"""Find the published rows that touch an evaluation set.

The screen writes what it found to data/screen/excluded.parquet; none of those rows may be
published. That file is not taken on trust alone: here the question of every row is compared with
every evaluation question again, for the same words and for nearly the same. Only the screen
compares what the policy wrote.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from coa import tables
from coa.exclusions import ExclusionReason
from coa.files import EVALUATION_SETS, EXCLUDED, QUESTIONS
from coa.near_questions import NearQuestions, question_key
from coa.question import Question, evaluation_set
from coa.sources import read_rows
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import collect, facts, scan

_ENDINGS = (".parquet", ".jsonl", ".csv")


class Overlap(NamedTuple):
    """A row that touches an evaluation set."""

    row_id: str
    detail: str


def screened_overlaps(name: SetName) -> list[Overlap]:
    """Return the rows of a set that the screen found and that are in the set all the same.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    excluded = scan(EXCLUDED, ["row_id", "reason", "detail"])
    touched = excluded.filter(pl.col("reason") != ExclusionReason.NEAR_DUPLICATE)
    rows = facts(name).select("row_id").join(touched, on="row_id", how="inner").sort("row_id")
    found = collect(rows.select("row_id", "detail"))
    return [Overlap(*row) for row in found.iter_rows()]


def num_compared() -> int:
    """Count the evaluation questions that the screen compared the rows with.

    Raises:
        InputError: the screen's file is broken or lacks a column.
    """
    return int(collect(scan(EVALUATION_SETS, ["num_questions"]))["num_questions"].sum())


class EvaluationQuestions:
    """The questions that models are evaluated on, by their words."""

    def __init__(self, screen: Mapping[str, Any]) -> None:
        """Read the evaluation questions.

        Args:
            screen: The section of that name in params.yaml, which names the evaluation files.

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

    def __len__(self) -> int:
        return len(self._sets)

    def overlaps(self, name: SetName) -> Iterator[Overlap]:
        """Yield the rows of a set that ask, or nearly ask, an evaluation question."""
        for row_id, question in _questions(name):
            asked_in = self._set_by_key.get(question_key(question))
            if asked_in:
                yield Overlap(row_id, f"asks a question of {asked_in}")
                continue
            near = self._near.nearest(question)
            if near:
                yield Overlap(row_id, f"nearly asks a question of {self._sets[near.place]}")


def _questions(name: SetName) -> Iterator[tuple[str, str]]:
    """Yield the id and the question of every row of a set."""
    flat_columns = {SetName.COT_A: ["pair_id", "question"], SetName.RL: ["question_id", "question"]}
    is_flat = name in flat_columns
    stored = flat_columns.get(name, ["trajectory"])
    wanted = flat_columns.get(name, ["trajectory_id", "question"])
    for split in SPLITS:
        path = local_path(name, split)
        file = tables.open_parquet(path)
        tables.require_columns(path, file.schema_arrow.names, stored)
        for batch in tables.parquet_batches(path, file, stored):
            frame = pl.DataFrame(pl.from_arrow(batch))
            if not is_flat:
                frame = frame.unnest("trajectory")
            yield from frame.select(wanted).iter_rows()


def _evaluation_questions(screen: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield every evaluation question after the name of its set."""
    for row in tables.read_table(QUESTIONS, Question):
        if row.split != "train":
            yield evaluation_set(row), row.question
    more = Path(screen.get("evaluation", QUESTIONS))
    if more == QUESTIONS:
        return
    column = dict(screen.get("evaluation_columns", {})).get("question", "question")
    for path in _files(more):
        for found in read_rows(path, {"question": column}):
            yield path.stem, str(found.values["question"])


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
