"""One row of a public data set, as it is published, into a question.

The columns stand in synth/question_rows.py; besides its own form each data set is read in FlashRAG's: id, question,
golden_answers, metadata. To add a format: a member of `QuestionFormat`, the struct of its row, a reader, entries in
`_ROWS` and `_READERS`, and its smallest row in tests/test_question_formats.py.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from coa.errors import InputError
from coa.question import Question
from synth.question_rows import (
    AutocoaRow,
    BamboogleRow,
    Facts,
    FlashRagRow,
    HopRow,
    Id,
    Message,
    Metadata,
    MusiqueRow,
    NqRow,
    SupportingFact,
    Target,
    Titles,
    TriviaRow,
)


class QuestionFormat(StrEnum):
    """The form of the rows of a question file."""

    OWN_COLUMNS = ""
    """Our columns, under our names or those in `questions.columns`."""
    HOTPOTQA = "hotpotqa"
    """HotpotQA, distractor or fullwiki."""
    TWO_WIKI = "2wikimultihopqa"
    """2WikiMultihopQA; its separate file of aliases is not read."""
    MUSIQUE = "musique"
    """MuSiQue; rows marked as unanswerable are bad rows."""
    NQ = "nq"
    """Natural Questions as nq_open has it; an id is made from the question's text."""
    TRIVIAQA = "triviaqa"
    """TriviaQA, any configuration."""
    BAMBOOGLE = "bamboogle"
    """Bamboogle; an id is made from the question's text."""
    AUTOCOA = "autocoa"
    """The parquet files of AutoCoA's release, in verl's columns; the prompt around the question is taken off."""


class RefusalReason(StrEnum):
    """Why a row gives no question."""

    WRONG_FORMAT = "wrong_format"
    """A column is missing or holds something else than its format says."""
    NOT_UNICODE = "not_unicode"
    """A text holds half of a surrogate pair."""
    NO_ID = "no_id"
    """The id is missing or blank."""
    BAD_ID = "bad_id"
    """The id contains `/`, which separates the parts of a trajectory's id."""
    REPEATED_ID = "repeated_id"
    """The id stood in an earlier row."""
    NO_QUESTION = "no_question"
    """The question is missing or blank."""
    NO_ANSWER = "no_answer"
    """There is no gold answer, or the row is marked as unanswerable."""
    SPELT_ANSWER = "spelt_answer"
    """The list of answers holds single characters only: somebody made a list of a text."""
    UNKNOWN_SPLIT = "unknown_split"
    """The split is not train, validation or test."""


class BadRowError(InputError):
    """A row that gives no question; says why."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


_Row = TypeVar("_Row", bound=Struct)
_HOPS_OF_TYPE = {"comparison": 2, "compositional": 2, "inference": 2, "bridge_comparison": 4}
"""2WikiMultihopQA's types (arXiv 2011.01060): a bridge comparison takes two hops on either side."""
_MUSIQUE_TYPE = re.compile(r"(?P<type>(?P<hops>\d)hop\d?)__")
_COUNTED_ID = re.compile(r"(?:train|dev|validation|test)_\d+")
"""FlashRAG numbers its rows: such an id is unique within one data set only."""
_UNKNOWN_ANSWER = "<unk>"
"""What TriviaQA's test rows have for an answer."""
_PROMPT_END = "please answer the user's question below:"
"""AutoCoA's prompt (evaluation/eval_retrieval.py) ends with this line; the question follows."""
_ANSWER_SEPARATOR = "<ans_split>"
"""AutoCoA's, between the accepted answers of a training row."""


def read_question(values: Mapping[str, Any], form: QuestionFormat) -> Question:
    """A published row as a question; the split, which rows do not tell, is left empty.

    Raises:
        BadRowError: the row has not the columns of its format, or its answers were split into letters.
    """
    given = {name: value for name, value in values.items() if value is not None}
    if "golden_answers" in given and form is not QuestionFormat.AUTOCOA:
        return _read_flashrag(given, form)
    return _READERS[form](given)


def published_columns(form: QuestionFormat) -> tuple[str, ...]:
    """The columns that are read; all others, such as a row's passages, are left in the file."""
    structs = (_ROWS[form],) if form is QuestionFormat.AUTOCOA else (_ROWS[form], FlashRagRow)
    return tuple(
        dict.fromkeys(
            item.encode_name for struct in structs for item in msgspec.structs.fields(struct)
        )
    )


def _convert(values: Mapping[str, Any], row: type[_Row]) -> _Row:
    try:
        return msgspec.convert(values, row)
    except msgspec.ValidationError as error:
        raise BadRowError(
            RefusalReason.WRONG_FORMAT, f"the row has another format: {error}"
        ) from error


def _read_hotpotqa(values: Mapping[str, Any]) -> Question:
    row = _convert(values, HopRow)
    return _question(
        QuestionFormat.HOTPOTQA,
        row.question,
        (row.answer,),
        row.id or row.original_id,
        row.type,
        hops=2,
        titles=_titles(row.supporting_facts),
    )


def _read_two_wiki(values: Mapping[str, Any]) -> Question:
    row = _convert(values, HopRow)
    return _question(
        QuestionFormat.TWO_WIKI,
        row.question,
        (row.answer,),
        row.id or row.original_id,
        row.type,
        hops=_HOPS_OF_TYPE.get(row.type),
        titles=_titles(row.supporting_facts),
    )


def _read_musique(values: Mapping[str, Any]) -> Question:
    row = _convert(values, MusiqueRow)
    if not row.answerable:
        raise BadRowError(RefusalReason.NO_ANSWER, "the row is marked as unanswerable")
    named = _MUSIQUE_TYPE.match(row.id)
    hops = int(named["hops"]) if named else len(row.question_decomposition) or None
    title_of = {paragraph.idx: paragraph.title for paragraph in row.paragraphs}
    steps = (hop.paragraph_support_idx for hop in row.question_decomposition)
    titles = tuple(title_of[step] for step in steps if step in title_of)
    supporting = tuple(paragraph.title for paragraph in row.paragraphs if paragraph.is_supporting)
    answers = (row.answer, *whole_answers(row.answer_aliases))
    return _question(
        QuestionFormat.MUSIQUE,
        row.question,
        answers,
        row.id,
        named["type"] if named else "",
        hops=hops,
        titles=titles or supporting,
    )


def _read_nq(values: Mapping[str, Any]) -> Question:
    row = _convert(values, NqRow)
    return _question(QuestionFormat.NQ, row.question, whole_answers(row.answer))


def _read_triviaqa(values: Mapping[str, Any]) -> Question:
    row = _convert(values, TriviaRow)
    answers = (row.answer.value, *whole_answers(row.answer.aliases))
    known = tuple(answer for answer in answers if answer != _UNKNOWN_ANSWER)
    return _question(QuestionFormat.TRIVIAQA, row.question, known, row.question_id)


def _read_bamboogle(values: Mapping[str, Any]) -> Question:
    row = _convert(values, BamboogleRow)
    return _question(QuestionFormat.BAMBOOGLE, row.question, (row.answer,), hops=2)


def _read_flashrag(values: Mapping[str, Any], form: QuestionFormat) -> Question:
    row = _convert(values, FlashRagRow)
    try:
        metadata = msgspec.convert(row.metadata or {}, Metadata)
    except msgspec.ValidationError:
        metadata = (
            Metadata()
        )  # every data set keeps other things there; the question stands without them
    kind = metadata.type or ""
    two = form in (QuestionFormat.HOTPOTQA, QuestionFormat.BAMBOOGLE)
    hops = 2 if two else _HOPS_OF_TYPE.get(kind) if form is QuestionFormat.TWO_WIKI else None
    titles = _titles(metadata.supporting_facts or ())
    return _question(
        form,
        row.question,
        whole_answers(row.golden_answers),
        row.id,
        kind,
        hops=hops,
        titles=titles,
    )


def _read_autocoa(values: Mapping[str, Any]) -> Question:
    row = _convert(values, AutocoaRow)
    source = PurePosixPath(row.source_file or row.data_source).stem or QuestionFormat.AUTOCOA
    question = row.question or row.extra_info.question or _unwrapped(row.prompt)
    return _question(
        source,
        question,
        _accepted(row.reward_model.ground_truth),
        row.id or row.extra_info.id or "",
    )


def _unwrapped(prompt: str | tuple[Message, ...]) -> str:
    """The question at the end of AutoCoA's prompt."""
    asked = (
        [prompt]
        if isinstance(prompt, str)
        else [item.content for item in prompt if item.role == "user"]
    )
    _, found, question = (asked[-1] if asked else "").partition(_PROMPT_END)
    if not found:
        raise BadRowError(RefusalReason.WRONG_FORMAT, f"the prompt lacks the line {_PROMPT_END!r}")
    return question


def _accepted(truth: str | tuple[str, ...] | Target) -> tuple[str, ...]:
    target = truth.target if isinstance(truth, Target) else truth
    return (
        tuple(target.split(_ANSWER_SEPARATOR)) if isinstance(target, str) else whole_answers(target)
    )


def _question(
    source: str,
    question: str,
    answers: Iterable[str],
    identifier: Id = "",
    kind: str = "",
    *,
    hops: int | None = None,
    titles: tuple[str, ...] = (),
) -> Question:
    text = question.strip()
    return Question(
        question_id=_own_id(source, str(identifier).strip(), text),
        question=text,
        gold_answers=tuple(dict.fromkeys(kept for answer in answers if (kept := answer.strip()))),
        split="",
        question_type=kind,
        num_hops=hops,
        gold_titles=tuple(dict.fromkeys(titles)),
        source=source,
    )


def _own_id(source: str, identifier: str, question: str) -> str:
    """The published id; with the data set's name where it only counts rows, or made from the text where it is missing.

    Never the row's position: ids must outlive a new version of the file.
    """
    if not identifier:
        digest = hashlib.sha256(question.encode(errors="replace")).hexdigest()[:16]
        return f"{source}-{digest}"
    return f"{source}-{identifier}" if _COUNTED_ID.fullmatch(identifier) else identifier


def whole_answers(answers: Iterable[str]) -> tuple[str, ...]:
    """The answers of a list, unless it is a text that was split into its letters, as ["n", "o"].

    Raises:
        BadRowError: every answer of several is a single character.
    """
    items = tuple(answer for answer in answers if answer)
    spelt = "".join(items)
    if len(items) > 1 and len(spelt) == len(items) and not spelt.isspace():
        raise BadRowError(
            RefusalReason.SPELT_ANSWER, f"the gold answers are the letters of {spelt[:80]!r}"
        )
    return items


def _titles(facts: Facts) -> tuple[str, ...]:
    """The titles of supporting facts, in their order."""
    if isinstance(facts, Titles):
        return facts.title
    return tuple(fact.title if isinstance(fact, SupportingFact) else fact[0] for fact in facts)


_ROWS: dict[QuestionFormat, type[Struct]] = {
    QuestionFormat.HOTPOTQA: HopRow,
    QuestionFormat.TWO_WIKI: HopRow,
    QuestionFormat.MUSIQUE: MusiqueRow,
    QuestionFormat.NQ: NqRow,
    QuestionFormat.TRIVIAQA: TriviaRow,
    QuestionFormat.BAMBOOGLE: BamboogleRow,
    QuestionFormat.AUTOCOA: AutocoaRow,
}
_READERS: dict[QuestionFormat, Callable[[Mapping[str, Any]], Question]] = {
    QuestionFormat.HOTPOTQA: _read_hotpotqa,
    QuestionFormat.TWO_WIKI: _read_two_wiki,
    QuestionFormat.MUSIQUE: _read_musique,
    QuestionFormat.NQ: _read_nq,
    QuestionFormat.TRIVIAQA: _read_triviaqa,
    QuestionFormat.BAMBOOGLE: _read_bamboogle,
    QuestionFormat.AUTOCOA: _read_autocoa,
}
