"""Read the questions that models will be evaluated on, and find those that a question asks.

Two questions are equal when their `question_key` is, and near as `coa.questions.near_questions`
says. A file is one evaluation set, named by its stem. The validation and test questions of the
project's own are sets too, one for each source and split: `musique test`.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from coa.errors import InputError
from coa.questions.near_questions import NearQuestions, question_key
from coa.records.question import Question, evaluation_set
from coa.store import tables
from coa.store.sources import read_rows

_FORMATS = (".parquet", ".jsonl", ".csv")
_COLUMNS = ("question_id", "question")


class EvaluationQuestion(NamedTuple):
    """A question that a model will be evaluated on."""

    set_name: str
    question_id: str
    question: str


class NearQuestion(NamedTuple):
    """An evaluation question that a question nearly asks."""

    question: EvaluationQuestion
    similarity: float


class EvaluationQuestions:
    """Evaluation questions, which are found by the words of a question."""

    def __init__(self, questions: Iterable[EvaluationQuestion]) -> None:
        """Index the questions; of equal ones, the first one given is found."""
        self._questions = list(questions)
        self._by_key: dict[str, EvaluationQuestion] = {}
        for question in self._questions:
            key = question_key(question.question)
            if key:
                self._by_key.setdefault(key, question)
        texts = [question.question for question in self._questions]
        self._near = NearQuestions(texts, [question.set_name for question in self._questions])
        # Several trajectories answer the same question.
        self._nearest = lru_cache(maxsize=65_536)(self._near.nearest)

    def __len__(self) -> int:
        return len(self._questions)

    @property
    def min_similarity(self) -> dict[str, float]:
        """Return, for each set, the similarity from which on a question is near one of the set."""
        return self._near.min_similarity

    def equal(self, question: str) -> EvaluationQuestion | None:
        """Find the evaluation question that asks the same in the same words."""
        return self._by_key.get(question_key(question))

    def near(self, question: str) -> NearQuestion | None:
        """Find the evaluation question that differs in few words, or in their order."""
        found = self._nearest(question)
        if found is None:
            return None
        return NearQuestion(self._questions[found.place], found.similarity)


def read_evaluation(
    own: Path, more: Path, columns: Mapping[str, str]
) -> Iterator[EvaluationQuestion]:
    """Read the validation and test questions of `own`, then all of `more`, a file or a folder.

    `more` is `own` where there are no other evaluation sets; `columns` maps `question_id` and
    `question` to its columns, where the names differ.

    Raises:
        InputError: a file is missing, broken or empty, a folder holds none, or a row has no
            question.
        ConfigError: a file's format is unknown.
    """
    tables.require_columns(Path("screen.evaluation_columns"), _COLUMNS, columns)
    for row in tables.read_table(own, Question):
        if row.split != "train":
            yield EvaluationQuestion(evaluation_set(row), row.question_id, row.question)
    if more == own:
        return
    for path in _files(more, own):
        yield from _read_file(path, columns)


def _files(path: Path, own: Path) -> list[Path]:
    """List the files at a path."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in _FORMATS)
    if not files:
        fix = f"put the files there, or set screen.evaluation to {own}, which adds none"
        raise InputError(
            f"{path} holds no evaluation set",
            expected=f"files ending in {', '.join(_FORMATS)}",
            fix=fix,
        )
    return files


def _read_file(path: Path, columns: Mapping[str, str]) -> Iterator[EvaluationQuestion]:
    position = 0
    names = {name: columns.get(name, name) for name in _COLUMNS}
    for position, (where, values) in enumerate(read_rows(path, names, ("question_id",)), start=1):
        question = values["question"]
        if not isinstance(question, str) or not question.strip():
            raise InputError(
                "an evaluation question is not text", where=where, got=repr(question)[:80]
            )
        row_id = values["question_id"]
        question_id = f"row {position}" if row_id is None else str(row_id)
        yield EvaluationQuestion(path.stem, question_id, question)
    if not position:
        raise InputError(
            f"{path} holds no question",
            fix="fill the file, or remove it: nothing is screened against it",
        )
