"""Questions from a local file into the project's own table, checked row by row.

    python -m synth.questions [path=FILE] [split=train]

Reads parquet, JSON lines or CSV; `questions.columns` says which of its columns holds what.
Writes data/questions.parquet.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coa import tables
from coa.errors import InputError
from coa.metrics import write_metrics
from coa.params import Params
from coa.question import Question
from coa.sources import Row, read_rows

OUT = Path("data/questions.parquet")
SPLITS = ("train", "validation", "test")
_OPTIONAL = ("question_type", "num_hops", "gold_titles", "split", "source")


@dataclass(frozen=True, slots=True)
class QuestionParams:
    """Where the questions come from."""

    path: str
    """A .parquet, .jsonl or .csv file."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column to the file's, where the names differ: {question_id: qid, gold_answers: answers}."""
    split: str = ""
    """The split of all rows, for a file without such a column."""
    source: str = ""
    """The name of the source, for a file without such a column."""
    answer_separator: str = ""
    """Splits a text of several accepted answers; empty where a text is one answer or the column holds lists."""
    limit: int = 0
    """Keep only the first so many; 0 keeps all."""


def read_questions(params: QuestionParams) -> Iterator[Question]:
    """The questions of the file, in its order.

    Raises:
        InputError: a row has no id, no text, no answer or an unknown split, or repeats an id; names file and row.
    """
    names = (*("question_id", "question", "gold_answers"), *_OPTIONAL)
    columns = {name: params.columns.get(name, name) for name in names}
    rows = read_rows(Path(params.path), columns, optional=_OPTIONAL)
    seen: set[str] = set()
    for count, row in enumerate(rows):
        if params.limit and count >= params.limit:
            return
        question = to_question(row, params)
        if question.question_id in seen:
            raise InputError(f"the question id {question.question_id!r} occurs twice", where=row.where, fix=_FIX)
        seen.add(question.question_id)
        yield question


def to_question(row: Row, params: QuestionParams) -> Question:
    """One row as a question.

    Raises:
        InputError: the row has no id, no text, no answer or an unknown split.
    """
    values = row.values
    question = Question(
        question_id=_text(values["question_id"]),
        question=_text(values["question"]),
        gold_answers=tuple(_texts(values["gold_answers"], params.answer_separator)),
        split=_text(values["split"]) or params.split,
        question_type=_text(values["question_type"]),
        num_hops=_whole(values["num_hops"], row.where),
        gold_titles=tuple(_texts(values["gold_titles"], "")),
        source=_text(values["source"]) or params.source,
    )
    if fault := _fault(question):
        raise InputError(fault, where=row.where, got=f"question id {question.question_id!r}", fix=_FIX)
    return question


_FIX = "mend or remove the row, or map the right column in params.yaml: questions.columns"


def _fault(question: Question) -> str:
    """What is wrong with a question; empty when nothing is."""
    if not question.question_id:
        return "the question id is empty"
    if "/" in question.question_id:
        return "the question id contains `/`, which separates the parts of a trajectory's id"
    if not question.question:
        return "the question is empty"
    if not question.gold_answers:
        return "there is no gold answer"
    if question.split not in SPLITS:
        return f"the split {question.split!r} is not one of {', '.join(SPLITS)}"
    return ""


def _whole(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        return int(value)
    except ValueError as error:
        raise InputError("the number of hops is not a number", where=where, got=repr(value), fix=_FIX) from error


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _texts(value: Any, separator: str) -> Iterable[str]:
    """A list of texts, or a text as a list of one (or of its parts)."""
    items = value if isinstance(value, list | tuple) else str(value or "").split(separator) if separator else [value]
    return [text for item in items if (text := _text(item))]


def main(arguments: Sequence[str]) -> str:
    """Read, check and write the questions; the summary line is returned."""
    params = Params.load("questions", arguments).section(QuestionParams)
    counts = dict.fromkeys(SPLITS, 0)
    with tables.TableWriter(OUT, Question) as table:
        for question in read_questions(params):
            table.write(question)
            counts[question.split] += 1
        if not table.num_rows:
            raise InputError(f"{params.path} holds no question", fix="check questions.path in params.yaml")
    write_metrics("questions", counts)
    return (
        f"{OUT}: {table.num_rows:,} questions from {params.path} ({', '.join(f'{v:,} {k}' for k, v in counts.items())})"
    )


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
