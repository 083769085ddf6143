"""Read questions from a local file into the project's own table, and check every row.

    python -m synth.questions

Reads parquet, JSON lines or CSV, one file of `questions.files` after another. The rows of a file
are those of a public data set as published (`format`, synth/question_formats.py; synth/fetch.py
downloads them), or your own, for which `columns` names the columns. Writes data/questions.parquet
and data/questions_dropped.parquet.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from coa import tables
from coa.errors import ConfigError, InputError
from coa.files import QUESTIONS
from coa.metrics import write_metrics
from coa.params import Params
from coa.question import Question
from coa.sources import SourceRow, read_rows
from synth.question_formats import (
    BadRowError,
    QuestionFormat,
    RefusalReason,
    published_columns,
    read_question,
    whole_answers,
)

OUT = QUESTIONS
DROPPED = Path("data/questions_dropped.parquet")
SPLITS = ("train", "validation", "test")
_REQUIRED = ("question_id", "question", "gold_answers")
_OPTIONAL = ("question_type", "num_hops", "gold_titles", "split", "source", "also_in")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """One file with questions, and how it is read."""

    path: str
    """A .parquet, .jsonl or .csv file."""
    format: QuestionFormat = QuestionFormat.OWN_COLUMNS
    """The data set whose published rows the file contains; empty for your own columns."""
    columns: dict[str, str] = field(default_factory=dict)
    """The file's name of each of our columns, where the names differ: {question_id: qid,
    gold_answers: answers}."""
    split: str = ""
    """The split of the rows that name none."""
    source: str = ""
    """The source of the rows that name none; a format names its own."""
    answer_separator: str = ""
    """Separates several accepted answers in a text; empty where a text is one answer or the column
    contains lists."""
    keeps: tuple[str, ...] = ()
    """Names of the sources to keep, for a file that mixes several; empty keeps all."""
    limit: int = 0
    """Number of questions to keep, from the first; 0 keeps all."""
    num_validation: int = 0
    """Number of its train questions to set aside for validation, chosen by `questions.seed`."""


@dataclass(frozen=True, slots=True)
class QuestionParams:
    """The files that questions are read from, each with its own form, split and source."""

    files: tuple[QuestionFile, ...]
    """One file after another, into one table."""
    drops_bad_rows: bool = False
    """Write rows that give no question to data/questions_dropped.parquet, with the reason, and
    continue."""
    seed: int = 0
    """Chooses the questions that are set aside for validation."""


@dataclass(frozen=True, slots=True)
class DroppedQuestion:
    """A row that gave no question."""

    where: str
    """File and row, or line; both count from 1."""
    question_id: str
    """The row's id, if it has one."""
    reason: RefusalReason
    detail: str


class LeftOut(NamedTuple):
    """A question whose source is not among those that are kept."""

    source: str


def read_questions(params: QuestionParams) -> Iterator[Question]:
    """Yield the questions of all files in order, without those left out or dropped.

    Raises:
        InputError: see `read_outcomes`.
        ConfigError: see `read_outcomes`.
    """
    return (outcome for outcome in read_outcomes(params) if isinstance(outcome, Question))


def read_outcomes(params: QuestionParams) -> Iterator[Question | LeftOut | DroppedQuestion]:
    """Yield the outcome of each row of each file, in order.

    Only the ids are kept in memory, so that no id occurs twice.

    Raises:
        InputError: a file is missing or broken, no row of it gives a question, or it lacks a
            source that should be kept. Unless bad rows are dropped, also if a row gives no
            question; the error names file, row and reason.
        ConfigError: the file's ending is not known, or both a format and columns are set.
    """
    seen: set[str] = set()
    for file in params.files:
        yield from _read_file(file, seen, drops_bad_rows=params.drops_bad_rows)


def _read_file(
    file: QuestionFile, seen: set[str], *, drops_bad_rows: bool
) -> Iterator[Question | LeftOut | DroppedQuestion]:
    """Yield the outcome of each row of one file; `seen` are the ids so far."""
    absent_sources = set(file.keeps)
    first_dropped: DroppedQuestion | None = None
    num_read = 0
    for row in _decoded_rows(file, drops_bad_rows=drops_bad_rows):
        if file.limit and num_read >= file.limit:
            return
        outcome = _judge(row, file, seen, drops_bad_rows=drops_bad_rows)
        if isinstance(outcome, DroppedQuestion):
            first_dropped = first_dropped or outcome
            absent_sources.discard("")
        else:
            absent_sources.discard(outcome.source)
        if isinstance(outcome, Question):
            seen.add(outcome.question_id)
            num_read += 1
        yield outcome
    if absent_sources:
        raise InputError(
            f"no question is of the source {min(absent_sources)!r}",
            where=file.path,
            fix="check the file's `keeps` and which column holds the source: `columns`",
        )
    if not num_read:
        got = ""
        if first_dropped:
            got = f"first reason, {first_dropped.where}: {first_dropped.detail}"
        raise InputError(
            f"{file.path} holds no question",
            got=got,
            fix="check path, format and columns of the file in questions.files",
        )


def _judge(
    row: SourceRow, params: QuestionFile, seen: set[str], *, drops_bad_rows: bool
) -> Question | LeftOut | DroppedQuestion:
    """Read one row, or say why it is left out or dropped."""
    try:
        if params.format is QuestionFormat.OWN_COLUMNS:
            # First of all: faults in rows of sources that are not kept must not stop the run.
            source = _source(row.values, params)
            if not _is_kept(source, params):
                return LeftOut(source)
        question = to_question(row, params)
        if not _is_kept(question.source, params):
            return LeftOut(question.source)
        if question.question_id in seen:
            detail = f"the question id {question.question_id!r} occurs twice"
            raise BadRowError(RefusalReason.REPEATED_ID, detail)
        return question
    except BadRowError as error:
        identifier = _shown_id(row)
        if not drops_bad_rows:
            got = f"question id {identifier!r}"
            raise InputError(error.detail, where=row.where, got=got, fix=_FIX) from error
        return DroppedQuestion(row.where, identifier, error.reason, error.detail)


def _is_kept(source: str, params: QuestionFile) -> bool:
    return not params.keeps or source in params.keeps


def _source(values: Mapping[str, Any], params: QuestionFile) -> str:
    return _text(values["source"]) or params.source


_FIX = (
    "mend or remove the row, check questions.format or questions.columns in params.yaml, "
    "or leave such rows out: questions.drops_bad_rows"
)


def _decoded_rows(params: QuestionFile, *, drops_bad_rows: bool) -> Iterator[SourceRow]:
    """Read the rows; in a parquet file, text that is not UTF-8 fails only when it is decoded."""
    where = f"{params.path}, row 0"
    try:
        for row in _rows(params, drops_bad_rows=drops_bad_rows):
            where = row.where
            yield row
    except UnicodeDecodeError as error:
        raise InputError(
            f"{params.path} is not UTF-8",
            where=f"after {where}",
            got=error,
            fix="write the file again with UTF-8 text",
        ) from error


def _rows(params: QuestionFile, *, drops_bad_rows: bool) -> Iterator[SourceRow]:
    if params.format is QuestionFormat.OWN_COLUMNS:
        names: tuple[str, ...] = (*_REQUIRED, *_OPTIONAL)
        optional = names if drops_bad_rows else _OPTIONAL
        columns = {name: params.columns.get(name, name) for name in names}
        return read_rows(Path(params.path), columns, optional)
    if params.columns:
        raise ConfigError(
            "questions.columns has no meaning beside questions.format",
            got=params.columns,
            fix="leave questions.columns empty, or questions.format",
        )
    names = published_columns(params.format)
    return read_rows(Path(params.path), {name: name for name in names}, names)


def to_question(row: SourceRow, params: QuestionFile) -> Question:
    """Read one row as a question, with text and answers in NFC, like observations.

    Raises:
        BadRowError: the row gives no question.
    """
    if params.format is QuestionFormat.OWN_COLUMNS:
        question = _from_columns(row.values, params)
    else:
        question = read_question(row.values, params.format)
    question = replace(question, split=question.split or params.split)
    fault = _fault(question)
    if fault is not None:
        reason, detail = fault
        raise BadRowError(reason, detail)
    answers = [unicodedata.normalize("NFC", answer) for answer in question.gold_answers]
    return replace(
        question,
        question=unicodedata.normalize("NFC", question.question),
        gold_answers=tuple(dict.fromkeys(answers)),
    )


def _from_columns(values: Mapping[str, Any], params: QuestionFile) -> Question:
    return Question(
        question_id=_text(values["question_id"]),
        question=_text(values["question"]),
        gold_answers=_answers(values["gold_answers"], params.answer_separator),
        split=_text(values["split"]),
        question_type=_text(values["question_type"]),
        num_hops=_whole(values["num_hops"]),
        gold_titles=_texts(values["gold_titles"]),
        source=_source(values, params),
        also_in=_texts(values["also_in"]),
    )


def _fault(question: Question) -> tuple[RefusalReason, str] | None:
    """Find what is wrong with a question; None when nothing is."""
    if any(_SURROGATE.search(text) for text in _all_texts(question)):
        return RefusalReason.NOT_UNICODE, "a text holds half of a surrogate pair"
    if not question.question_id:
        return RefusalReason.NO_ID, "the question id is empty"
    if "/" in question.question_id:
        detail = "the question id contains `/`, which separates the parts of a trajectory's id"
        return RefusalReason.BAD_ID, detail
    if not question.question:
        return RefusalReason.NO_QUESTION, "the question is empty"
    if not question.gold_answers:
        return RefusalReason.NO_ANSWER, "there is no gold answer"
    if question.split not in SPLITS:
        detail = f"the split {question.split!r} is not one of {', '.join(SPLITS)}"
        return RefusalReason.UNKNOWN_SPLIT, detail
    return None


def _all_texts(question: Question) -> Iterator[str]:
    for name in question.__slots__:
        value = getattr(question, name)
        if isinstance(value, tuple):
            yield from value
        else:
            yield str(value)


def _whole(value: Any) -> int | None:
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (ValueError, TypeError, OverflowError) as error:
        detail = f"the number of hops is not a number: {value!r:.80}"
        raise BadRowError(RefusalReason.WRONG_FORMAT, detail) from error


def _text(value: Any) -> str:
    if isinstance(value, list | tuple | dict):
        detail = f"a {type(value).__name__} stands where a text should"
        raise BadRowError(RefusalReason.WRONG_FORMAT, detail)
    return "" if value is None else str(value).strip()


def _texts(value: Any) -> tuple[str, ...]:
    """Read a list of texts, or a text as a list of one, without blank ones."""
    items = value if isinstance(value, list | tuple) else [value]
    texts = [_text(item) for item in items]
    return tuple(text for text in texts if text)


def _answers(value: Any, separator: str) -> tuple[str, ...]:
    """Read a list of answers, or a text as one answer (or as several, with a separator)."""
    if isinstance(value, list | tuple):
        whole_answers(str(item) for item in value)  # raises where they are single letters
        return _texts(value)
    if separator:
        return _texts(str(value or "").split(separator))
    return _texts(value)


def _shown_id(row: SourceRow) -> str:
    """Return the row's id, cut short and without what cannot be encoded."""
    identifier: Any = ""
    for name in ("question_id", "id", "_id"):
        if row.values.get(name):
            identifier = row.values[name]
            break
    return str(identifier)[:80].encode(errors="replace").decode()


def _listed(params: QuestionParams) -> str:
    names = [file.path for file in params.files]
    return names[0] if len(names) == 1 else f"{len(names)} files"


def main(arguments: Sequence[str]) -> str:
    """Read, check and write the questions; return the summary line."""
    params = Params.load("questions", arguments).section(QuestionParams)
    counts = dict.fromkeys(SPLITS, 0)
    reasons = Counter[RefusalReason]()
    left_out = 0
    with (
        tables.TableWriter(OUT, Question) as table,
        tables.TableWriter(DROPPED, DroppedQuestion) as dropped,
    ):
        for outcome in read_outcomes(params):
            if isinstance(outcome, Question):
                table.write(outcome)
                counts[outcome.split] += 1
            elif isinstance(outcome, DroppedQuestion):
                dropped.write(outcome)
                reasons[outcome.reason] += 1
            else:
                left_out += 1
    by_reason = {str(reason): reasons[reason] for reason in RefusalReason}
    write_metrics("questions", {**counts, "of_other_sources": left_out, "dropped": by_reason})
    shown = [f"{count:,} {split}" for split, count in counts.items()]
    if left_out:
        shown.append(f"{left_out:,} of other sources left out")
    shown += [f"{count:,} dropped: {reason}" for reason, count in reasons.items()]
    return f"{OUT}: {table.num_rows:,} questions from {_listed(params)} ({', '.join(shown)})"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
