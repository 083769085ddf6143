"""Read one file of questions: every row gives a question, or a reason why it gives none.

Each row is judged by itself here; synth/questions.py compares it with the rows of all files.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec

from coa.errors import ConfigError, InputError, unknown_name
from coa.records.question import Criterion, Question
from coa.store.sources import SourceRow, read_rows
from synth.question_formats import (
    BadRowError,
    QuestionFormat,
    RefusalReason,
    published_columns,
    read_question,
    whole_answers,
)

SPLITS = ("train", "validation", "test")
_REQUIRED = ("question_id", "question", "gold_answers")
_OPTIONAL = ("question_type", "num_hops", "gold_titles", "split", "source", "also_in", "rubric")
_SURROGATE = re.compile("[\ud800-\udfff]")
_Count = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """One file with questions, and how it is read."""

    path: str
    """A .parquet, .jsonl, .json or .csv file."""
    format: QuestionFormat = QuestionFormat.OWN_COLUMNS
    """The data set whose published rows the file contains; empty for your own columns."""
    reader: str = ""
    """A function of yours that reads the file instead, as `module:name`: it is given the path and
    yields rows, each a dict (examples/own_parts.py)."""
    columns: dict[str, str] = field(default_factory=dict)
    """The file's name of each of our columns, where the names differ: {question_id: qid,
    gold_answers: answers}."""
    split: str = ""
    """The split of the rows that name none."""
    source: str = ""
    """The source of the rows that name none; with a format, of all rows in place of its own."""
    names_source: bool = False
    """Put the source before each id: for a file of several sources that count their rows alike."""
    answer_separator: str = ""
    """Separates several accepted answers in a text; empty where a text is one answer or the column
    contains lists."""
    keeps: tuple[str, ...] = ()
    """Names of the sources to keep, for a file that mixes several; empty keeps all."""
    num_questions: _Count = 0
    """Number of questions to keep, from the first; 0 keeps all. Dropped rows do not count."""
    num_validation: _Count = 0
    """Number of its train questions to set aside for validation, chosen by `questions.seed` and
    their ids."""


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


class JudgedRow(NamedTuple):
    """What a row gives, judged by itself."""

    where: str
    """File and row, or line; both count from 1."""
    outcome: Question | LeftOut | DroppedQuestion


def read_file(file: QuestionFile, *, drops_bad_rows: bool) -> Iterator[JudgedRow]:
    """Yield what each row of a file gives, in order; `limit` is the caller's to apply.

    Raises:
        InputError: the file is missing or broken, no row of it gives a question, or it lacks a
            source that should be kept. Unless bad rows are dropped, also if a row gives no
            question; the error names file, row and reason.
        ConfigError: the file's ending is not known, or both a format and columns are set.
    """
    absent_sources = set(file.keeps)
    first_dropped: DroppedQuestion | None = None
    num_read = 0
    for row in _rows(file, drops_bad_rows=drops_bad_rows):
        outcome = _judge(row, file, drops_bad_rows=drops_bad_rows)
        if isinstance(outcome, DroppedQuestion):
            first_dropped = first_dropped or outcome
            absent_sources.discard("")
        else:
            absent_sources.discard(outcome.source)
        num_read += isinstance(outcome, Question)
        yield JudgedRow(row.where, outcome)
    if absent_sources:
        raise InputError(
            f"no question is of the source {min(absent_sources)!r}",
            where=file.path,
            fix="check the file's `keeps` and which column holds the source: `columns`",
        )
    if not num_read:
        raise no_question(file, first_dropped)


def no_question(file: QuestionFile, first_dropped: DroppedQuestion | None) -> InputError:
    """Return the error for a file of which no row gives a question that is kept."""
    got = ""
    if first_dropped:
        got = f"first reason, {first_dropped.where}: {first_dropped.detail}"
    return InputError(
        f"{file.path} holds no question",
        got=got,
        fix="check path, format, columns and split of the file in questions.files",
    )


def _judge(
    row: SourceRow, params: QuestionFile, *, drops_bad_rows: bool
) -> Question | LeftOut | DroppedQuestion:
    """Read one row, or say why it is left out or dropped."""
    try:
        if params.format is QuestionFormat.OWN_COLUMNS:
            # First of all: faults in rows of sources that are not kept must not stop the run.
            source = _source(row.values, params)
            if not _is_kept(source, params):
                return LeftOut(source)
        question = to_question(row, params)
    except BadRowError as error:
        identifier = _shown_id(row)
        if not drops_bad_rows:
            got = f"question id {identifier!r}"
            fix = _fix(error.reason, params)
            raise InputError(error.detail, where=row.where, got=got, fix=fix) from error
        return DroppedQuestion(row.where, identifier, error.reason, error.detail)
    return question if _is_kept(question.source, params) else LeftOut(question.source)


def _is_kept(source: str, params: QuestionFile) -> bool:
    return not params.keeps or source in params.keeps


def _source(values: Mapping[str, Any], params: QuestionFile) -> str:
    return _text(values["source"]) or params.source


def _fix(reason: RefusalReason, params: QuestionFile) -> str:
    """Say what to do about a bad row."""
    if reason is RefusalReason.UNKNOWN_SPLIT:
        known = ", ".join(SPLITS)
        fix = f"set `split:` to one of {known} in the entry of {params.path} in questions.files"
        if params.format is QuestionFormat.OWN_COLUMNS:
            fix += '; a split that rows name comes first, unless `columns: {split: ""}` hides it'
        return fix
    return (
        "mend or remove the row, check format and columns of the file in questions.files, "
        "or leave such rows out: questions.drops_bad_rows"
    )


def _rows(params: QuestionFile, *, drops_bad_rows: bool) -> Iterator[SourceRow]:
    if params.format is QuestionFormat.OWN_COLUMNS:
        names: tuple[str, ...] = (*_REQUIRED, *_OPTIONAL)
        optional = names if drops_bad_rows else _OPTIONAL
        if params.columns.get("gold_answers") == "":
            optional = (*optional, "gold_answers")  # a file of open-ended questions
        for name in params.columns:
            if name not in names:
                where = f"questions.files, columns of {params.path}"
                raise unknown_name("column", name, names, where=where)
        columns = {name: params.columns.get(name, name) for name in names}
        return read_rows(Path(params.path), columns, optional, params.reader)
    if params.columns:
        raise ConfigError(
            "columns has no meaning beside format",
            where=f"questions.files, {params.path}",
            got=params.columns,
            fix="leave out the file's columns, or its format",
        )
    names = published_columns(params.format)
    return read_rows(Path(params.path), {name: name for name in names}, names, params.reader)


def to_question(row: SourceRow, params: QuestionFile) -> Question:
    """Read one row as a question, with text and answers in NFC, like observations.

    Raises:
        BadRowError: the row gives no question.
    """
    if params.format is QuestionFormat.OWN_COLUMNS:
        question = _from_columns(row.values, params)
    else:
        question = read_question(row.values, params.format)
        question = replace(question, source=params.source or question.source)
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
    source = _source(values, params)
    identifier = _text(values["question_id"])
    if params.names_source and identifier:
        identifier = f"{source}-{identifier}"
    return Question(
        question_id=identifier,
        question=_text(values["question"]),
        gold_answers=_answers(values["gold_answers"], params.answer_separator),
        split=_text(values["split"]),
        question_type=_text(values["question_type"]),
        num_hops=_whole(values["num_hops"]),
        gold_titles=_texts(values["gold_titles"]),
        source=source,
        also_in=_texts(values["also_in"]),
        rubric=_rubric(values["rubric"]),
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
    if not (question.gold_answers or question.rubric):
        return RefusalReason.NO_ANSWER, "there is no gold answer"
    if question.gold_answers and question.rubric:
        return RefusalReason.BAD_RUBRIC, "a rubric stands beside gold answers: one of them decides"
    if question.split not in SPLITS:
        detail = f"the split {question.split!r} is not one of {', '.join(SPLITS)}"
        return RefusalReason.UNKNOWN_SPLIT, detail
    return None


def _all_texts(question: Question) -> Iterator[str]:
    for name in question.__slots__:
        value = getattr(question, name)
        if name == "rubric":
            yield from (criterion.text for criterion in question.rubric)
        elif isinstance(value, tuple):
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


def _rubric(value: Any) -> tuple[Criterion, ...]:
    """Read a list of criteria, `{text, weight}` each, or the same as JSON text (as in CSV)."""
    if value is None or value == "":
        return ()
    try:
        listed = msgspec.json.decode(value) if isinstance(value, str) else value
        rubric = msgspec.convert(listed, tuple[Criterion, ...])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise BadRowError(
            RefusalReason.BAD_RUBRIC, f"the rubric cannot be read: {error}"
        ) from error
    criteria = []
    for criterion in rubric:
        text = unicodedata.normalize("NFC", criterion.text.strip())
        if not text or not 0 < criterion.weight < math.inf:
            detail = "a criterion of the rubric has no text, or its weight is not above 0"
            raise BadRowError(RefusalReason.BAD_RUBRIC, detail)
        criteria.append(Criterion(text, criterion.weight))
    return tuple(criteria)


def _shown_id(row: SourceRow) -> str:
    """Return the row's id, cut short and without what cannot be encoded."""
    identifier: Any = ""
    for name in ("question_id", "id", "_id"):
        if row.values.get(name):
            identifier = row.values[name]
            break
    return str(identifier)[:80].encode(errors="replace").decode()
