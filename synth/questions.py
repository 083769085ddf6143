"""Questions from a local file into the project's own table, checked row by row.

    python -m synth.questions [path=FILE] [format=hotpotqa] [split=train]

Reads parquet, JSON lines or CSV: rows of a public data set as published (`questions.format`, synth/question_formats.py;
synth/fetch.py downloads them), or one's own, with `questions.columns` saying which column holds what.
Writes data/questions.parquet and data/questions_dropped.parquet.
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
class QuestionParams:
    """Where the questions come from."""

    path: str
    """A .parquet, .jsonl or .csv file."""
    format: QuestionFormat = QuestionFormat.OWN_COLUMNS
    """The data set whose published rows the file holds; empty for columns of one's own."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our column to the file's, where the names differ: {question_id: qid, gold_answers: answers}."""
    split: str = ""
    """The split of the rows that name none."""
    source: str = ""
    """The source of the rows that name none; a format names its own."""
    answer_separator: str = ""
    """Splits a text of several accepted answers; empty where a text is one answer or the column holds lists."""
    keeps: tuple[str, ...] = ()
    """Names of sources, for a file that mixes several; empty keeps all."""
    drops_bad_rows: bool = False
    """Write rows that give no question to data/questions_dropped.parquet, with the reason, and go on."""
    limit: int = 0
    """Keep only the first so many; 0 keeps all."""


@dataclass(frozen=True, slots=True)
class DroppedQuestion:
    """A row that gave no question."""

    where: str
    """File and row, or line; both count from 1."""
    question_id: str
    """As far as the row has one."""
    reason: RefusalReason
    detail: str


class LeftOut(NamedTuple):
    """A question whose source is not among those that are kept."""

    source: str


def read_questions(params: QuestionParams) -> Iterator[Question]:
    """The questions of the file, in its order, without what `read_outcomes` leaves out or drops.

    Raises:
        InputError: see `read_outcomes`.
        ConfigError: see `read_outcomes`.
    """
    return (outcome for outcome in read_outcomes(params) if isinstance(outcome, Question))


def read_outcomes(params: QuestionParams) -> Iterator[Question | LeftOut | DroppedQuestion]:
    """What became of each row, in order; of all that was read only the ids are kept, so that none occurs twice.

    Raises:
        InputError: the file is missing or broken, no row of it gives a question, or a source that is to be kept is
            not in it; or, unless bad rows are dropped, a row gives no question: names file, row and reason.
        ConfigError: the file's ending is not known, or both a format and columns are set.
    """
    seen: set[str] = set()
    absent = set(params.keeps)
    first: DroppedQuestion | None = None
    for row in _decoded_rows(params):
        if params.limit and len(seen) >= params.limit:
            return
        outcome = _judge(row, params, seen)
        if isinstance(outcome, Question):
            seen.add(outcome.question_id)
        elif isinstance(outcome, DroppedQuestion):
            first = first or outcome
        absent.discard(outcome.source if isinstance(outcome, Question | LeftOut) else "")
        yield outcome
    if absent:
        fix = "check questions.keeps and which column holds the source: questions.columns"
        raise InputError(
            f"no question is of the source {min(absent)!r}", where=params.path, fix=fix
        )
    if not seen:
        got = f"first reason, {first.where}: {first.detail}" if first else ""
        raise InputError(
            f"{params.path} holds no question",
            got=got,
            fix="check questions.path, .format and .columns",
        )


def _judge(
    row: SourceRow, params: QuestionParams, seen: set[str]
) -> Question | LeftOut | DroppedQuestion:
    try:
        if params.format is QuestionFormat.OWN_COLUMNS and not _is_kept(
            source := _source(row.values, params), params
        ):
            return LeftOut(source)  # before anything else: faults of what nobody wants stop no run
        question = to_question(row, params)
        if not _is_kept(question.source, params):
            return LeftOut(question.source)
        if question.question_id in seen:
            detail = f"the question id {question.question_id!r} occurs twice"
            raise BadRowError(RefusalReason.REPEATED_ID, detail)
        return question
    except BadRowError as error:
        identifier = _shown_id(row)
        if not params.drops_bad_rows:
            got = f"question id {identifier!r}"
            raise InputError(error.detail, where=row.where, got=got, fix=_FIX) from error
        return DroppedQuestion(row.where, identifier, error.reason, error.detail)


def _is_kept(source: str, params: QuestionParams) -> bool:
    return not params.keeps or source in params.keeps


def _source(values: Mapping[str, Any], params: QuestionParams) -> str:
    return _text(values["source"]) or params.source


_FIX = (
    "mend or remove the row, check questions.format or questions.columns in params.yaml, or leave such rows out: "
    "questions.drops_bad_rows"
)


def _decoded_rows(params: QuestionParams) -> Iterator[SourceRow]:
    """The rows; text in a parquet file that is not UTF-8 surfaces only when its batch is decoded."""
    where = f"{params.path}, row 0"
    try:
        for row in _rows(params):
            where = row.where
            yield row
    except UnicodeDecodeError as error:
        fix = "write the file again with UTF-8 text"
        raise InputError(
            f"{params.path} is not UTF-8", where=f"after {where}", got=error, fix=fix
        ) from error


def _rows(params: QuestionParams) -> Iterator[SourceRow]:
    if params.format is QuestionFormat.OWN_COLUMNS:
        names: tuple[str, ...] = (*_REQUIRED, *_OPTIONAL)
        optional = names if params.drops_bad_rows else _OPTIONAL
        return read_rows(
            Path(params.path), {name: params.columns.get(name, name) for name in names}, optional
        )
    if params.columns:
        fix = "leave questions.columns empty, or questions.format"
        raise ConfigError(
            "questions.columns has no meaning beside questions.format", got=params.columns, fix=fix
        )
    names = published_columns(params.format)
    return read_rows(Path(params.path), {name: name for name in names}, names)


def to_question(row: SourceRow, params: QuestionParams) -> Question:
    """Read one row as a question, its text and answers composed to NFC, as observations are.

    Raises:
        BadRowError: the row gives no question.
    """
    if params.format is QuestionFormat.OWN_COLUMNS:
        question = _from_columns(row.values, params)
    else:
        question = read_question(row.values, params.format)
    question = replace(question, split=question.split or params.split)
    if fault := _fault(question):
        raise BadRowError(*fault)
    answers = (unicodedata.normalize("NFC", answer) for answer in question.gold_answers)
    return replace(
        question,
        question=unicodedata.normalize("NFC", question.question),
        gold_answers=tuple(dict.fromkeys(answers)),
    )


def _from_columns(values: Mapping[str, Any], params: QuestionParams) -> Question:
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
    """What is wrong with a question; None when nothing is."""
    if any(_SURROGATE.search(text) for text in _all_texts(question)):
        return RefusalReason.NOT_UNICODE, "a text holds half of a surrogate pair"
    if not question.question_id:
        return RefusalReason.NO_ID, "the question id is empty"
    if "/" in question.question_id:
        return (
            RefusalReason.BAD_ID,
            "the question id contains `/`, which separates the parts of a trajectory's id",
        )
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
        yield from value if isinstance(value, tuple) else (str(value),)


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
        raise BadRowError(
            RefusalReason.WRONG_FORMAT, f"a {type(value).__name__} stands where a text should"
        )
    return "" if value is None else str(value).strip()


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or a text as a list of one; without blank ones."""
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(text for item in items if (text := _text(item)))


def _answers(value: Any, separator: str) -> tuple[str, ...]:
    """A list of answers, or a text as a list of one (or of its parts)."""
    if isinstance(value, list | tuple):
        whole_answers(str(item) for item in value)
        return _texts(value)
    return _texts(str(value or "").split(separator) if separator else value)


def _shown_id(row: SourceRow) -> str:
    """What the row calls itself, cut short and safe to write."""
    named = next(
        (row.values[name] for name in ("question_id", "id", "_id") if row.values.get(name)), ""
    )
    return str(named)[:80].encode(errors="replace").decode()


def main(arguments: Sequence[str]) -> str:
    """Read, check and write the questions; the summary line is returned."""
    params = Params.load("questions", arguments).section(QuestionParams)
    counts = dict.fromkeys(SPLITS, 0)
    reasons, left_out = Counter[RefusalReason](), 0
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
    shown += [f"{left_out:,} of other sources left out"] if params.keeps else []
    shown += [f"{count:,} dropped: {reason}" for reason, count in reasons.items()]
    return f"{OUT}: {table.num_rows:,} questions from {params.path} ({', '.join(shown)})"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
