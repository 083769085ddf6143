"""Turn a published row of a public data set into a question.

`COLUMNS` says where each data set keeps the parts of a question: in the form of the Hub
repositories in synth/fetch.py and of the original JSON files (HotpotQA, 2WikiMultihopQA, MuSiQue:
arXiv 1809.09600, 2011.01060, 2108.00573). Besides its own form, each is read in FlashRAG's
(2405.13576). To add a data set, add a member of `QuestionFormat`, its entry in `COLUMNS`, and its
smallest row in tests/test_question_formats.py.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import msgspec
from msgspec import Struct

from coa.errors import InputError
from coa.records.question import Question


class QuestionFormat(StrEnum):
    """The form of the rows of a question file."""

    OWN_COLUMNS = ""
    """Our own columns, under our names or those in the file's `columns`."""
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
    FRAMES = "frames"
    """FRAMES; an id is made from the question's text."""
    SIMPLEQA = "simpleqa"
    """SimpleQA; an id is made from the question's text."""
    BROWSECOMP_PLUS = "browsecomp_plus"
    """BrowseComp-Plus as its script decrypts it; ids stay, so that its grader knows them."""
    AUTOCOA = "autocoa"
    """The parquet files of AutoCoA's release, in verl's columns; the prompt around the question is
    removed."""


class RefusalReason(StrEnum):
    """A reason why a row gives no question."""

    WRONG_FORMAT = "wrong_format"
    """A column is missing, or its values differ from its format."""
    NOT_UNICODE = "not_unicode"
    """A text contains half of a surrogate pair."""
    NO_ID = "no_id"
    """The id is missing or blank."""
    BAD_ID = "bad_id"
    """The id contains `/`, which separates the parts of a trajectory's id."""
    REPEATED_ID = "repeated_id"
    """Another row has the same id: an earlier one, or one for validation or test."""
    NO_QUESTION = "no_question"
    """The question is missing or blank."""
    NO_ANSWER = "no_answer"
    """There is no gold answer, or the row is marked as unanswerable."""
    BAD_RUBRIC = "bad_rubric"
    """The rubric cannot be read, or stands beside gold answers."""
    SPELT_ANSWER = "spelt_answer"
    """The list of answers has single characters only: a text was split into letters."""
    UNKNOWN_SPLIT = "unknown_split"
    """The split is not train, validation or test."""
    EVALUATION_QUESTION = "evaluation_question"
    """A validation or test question asks the same."""


class BadRowError(InputError):
    """A row gives no question, for this reason."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


_HOPS_OF_TYPE = {"comparison": 2, "compositional": 2, "inference": 2, "bridge_comparison": 4}
"""The types of 2WikiMultihopQA (arXiv 2011.01060); `bridge_comparison` takes two hops a side."""
_MUSIQUE_TYPE = re.compile(r"(?P<type>(?P<hops>\d)hop\d?)__")
_COUNTED_ID = re.compile(r"(?:train|dev|validation|test)_\d+")
"""FlashRAG numbers its rows: such an id is unique within one data set only."""
_UNKNOWN_ANSWER = "<unk>"
"""The answer in TriviaQA's test rows."""
_PROMPT_END = "please answer the user's question below:"
"""AutoCoA's prompt (evaluation/eval_retrieval.py) ends with this line; the question follows."""
_ANSWER_SEPARATOR = "<ans_split>"
"""The text between the accepted answers of a training row of AutoCoA."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the rows of a data set keep the parts of a question; a dot leads into a struct."""

    question: str = "question"
    answers: tuple[str, ...] = ("answer",)
    """Their texts and lists of texts together are the accepted answers."""
    ids: tuple[str, ...] = ()
    """The first one that is not blank counts; without any, an id is made from the text."""
    needs_id: bool = False
    """Whether a row without the first of `ids` has another format."""
    kind: str = ""
    """The type of the question; empty: none is published."""
    titles: str = ""
    """The supporting facts; empty: none are published."""
    hops: int | None = None
    """Of all questions; None where they differ, or where it is not known."""
    others: tuple[str, ...] = ()
    """Further columns, which the reader of this data set alone understands."""


COLUMNS = {
    QuestionFormat.HOTPOTQA: Columns(
        ids=("id", "_id"), kind="type", titles="supporting_facts", hops=2
    ),
    QuestionFormat.TWO_WIKI: Columns(ids=("id", "_id"), kind="type", titles="supporting_facts"),
    QuestionFormat.MUSIQUE: Columns(
        answers=("answer", "answer_aliases"),
        ids=("id",),
        needs_id=True,
        others=("answerable", "paragraphs", "question_decomposition"),
    ),
    QuestionFormat.NQ: Columns(),
    QuestionFormat.TRIVIAQA: Columns(
        answers=("answer.value", "answer.aliases"), ids=("question_id",), needs_id=True
    ),
    QuestionFormat.BAMBOOGLE: Columns(question="Question", answers=("Answer",), hops=2),
    QuestionFormat.FRAMES: Columns(question="Prompt", answers=("Answer",), kind="reasoning_types"),
    QuestionFormat.SIMPLEQA: Columns(question="problem"),
    QuestionFormat.BROWSECOMP_PLUS: Columns(question="query", ids=("query_id",), needs_id=True),
    QuestionFormat.AUTOCOA: Columns(
        answers=("reward_model.ground_truth",),
        ids=("id", "extra_info.id"),
        others=("prompt", "source_file", "data_source"),
    ),
}
_FLASHRAG = Columns(answers=("golden_answers",), ids=("id",), others=("metadata",))
_FLASHRAG_METADATA = Columns(kind="metadata.type", titles="metadata.supporting_facts")


class _Titles(Struct, frozen=True):
    """Supporting facts in the Hub's form: one struct of lists."""

    title: tuple[str, ...] = ()


class _SupportingFact(Struct, frozen=True):
    """A supporting fact in the form of newer uploads: one struct each."""

    title: str


_Id = str | int
_Texts = str | tuple[str, ...]
_Facts = _Titles | tuple[tuple[str, int | str] | _SupportingFact, ...]
"""Supporting facts; the original files have a list of pairs, title and sentence."""


class _Paragraph(Struct, frozen=True):
    """A passage that MuSiQue gives with its question."""

    title: str
    idx: int
    is_supporting: bool = False


class _Hop(Struct, frozen=True):
    """One step of MuSiQue's decomposition, with the paragraph that answers it."""

    paragraph_support_idx: int | None = None


class _Message(Struct, frozen=True):
    """A message of AutoCoA's prompt."""

    role: str
    content: str


class _Target(Struct, frozen=True):
    """An accepted answer in Search-R1's form."""

    target: str | tuple[str, ...]


def read_question(values: Mapping[str, Any], form: QuestionFormat) -> Question:
    """Read a published row as a question; the split, which rows do not tell, is left empty.

    Raises:
        BadRowError: the row lacks the columns of its format, or its answers were split into
            letters.
    """
    if form is QuestionFormat.AUTOCOA:
        return _read_autocoa(values)
    if values.get("golden_answers") is not None:
        return _read_flashrag(values, form)
    question = _read(values, form, COLUMNS[form])
    return _with_steps(question, values) if form is QuestionFormat.MUSIQUE else question


def published_columns(form: QuestionFormat) -> tuple[str, ...]:
    """List the columns that are read; others, such as a row's passages, are not loaded."""
    forms = [COLUMNS[form]]
    if form is not QuestionFormat.AUTOCOA:
        forms.append(_FLASHRAG)
    names: list[str] = []
    for columns in forms:
        paths = (columns.question, *columns.answers, *columns.ids, columns.kind, columns.titles)
        names += [path.partition(".")[0] for path in (*paths, *columns.others) if path]
    return tuple(dict.fromkeys(names))


def _read(values: Mapping[str, Any], form: QuestionFormat, columns: Columns) -> Question:
    """Read a row whose parts stand where `columns` says."""
    text = _value(values, columns.question, str)
    if text is None:
        raise _other_format(f"there is no column `{columns.question}`")
    if columns.needs_id and _value(values, columns.ids[0], _Id) is None:
        raise _other_format(f"there is no column `{columns.ids[0]}`")
    answers: list[str] = []
    for path in columns.answers:
        found = _value(values, path, _Texts)
        answers += [found] if isinstance(found, str) else whole_answers(found or ())
    kind = _kind(values, columns)
    hops = _HOPS_OF_TYPE.get(kind) if form is QuestionFormat.TWO_WIKI else columns.hops
    return _question(
        form,
        text,
        answers=[answer for answer in answers if answer != _UNKNOWN_ANSWER],
        identifier=_identifier(values, columns),
        kind=kind,
        hops=hops,
        titles=_titles(values, columns),
    )


def _read_flashrag(values: Mapping[str, Any], form: QuestionFormat) -> Question:
    question = _read(values, form, replace(_FLASHRAG, hops=COLUMNS[form].hops))
    try:
        kind = _kind(values, _FLASHRAG_METADATA)
        titles = _titles(values, _FLASHRAG_METADATA)
    except BadRowError:
        # Every data set keeps other things there; the question is complete without them.
        return question
    hops = question.num_hops
    if form is QuestionFormat.TWO_WIKI:
        hops = _HOPS_OF_TYPE.get(kind)
    return replace(question, question_type=kind, num_hops=hops, gold_titles=titles)


def _with_steps(question: Question, values: Mapping[str, Any]) -> Question:
    """Add the hops and titles of MuSiQue's decomposition, in reading order.

    Without a decomposition the titles are those of the supporting paragraphs.
    """
    if _value(values, "answerable", bool) is False:
        raise BadRowError(RefusalReason.NO_ANSWER, "the row is marked as unanswerable")
    paragraphs = _value(values, "paragraphs", tuple[_Paragraph, ...]) or ()
    hops = _value(values, "question_decomposition", tuple[_Hop, ...]) or ()
    title_of = {paragraph.idx: paragraph.title for paragraph in paragraphs}
    titles = []
    for hop in hops:
        if hop.paragraph_support_idx in title_of:
            titles.append(title_of[hop.paragraph_support_idx])
    if not titles:
        titles = [paragraph.title for paragraph in paragraphs if paragraph.is_supporting]
    named = _MUSIQUE_TYPE.match(question.question_id)
    return replace(
        question,
        question_type=named["type"] if named else "",
        num_hops=int(named["hops"]) if named else len(hops) or None,
        gold_titles=tuple(dict.fromkeys(titles)),
    )


def _read_autocoa(values: Mapping[str, Any]) -> Question:
    columns = COLUMNS[QuestionFormat.AUTOCOA]
    file = _value(values, "source_file", str) or _value(values, "data_source", str) or ""
    text = _value(values, "question", str) or _value(values, "extra_info.question", str)
    truth = _value(values, columns.answers[0], str | tuple[str, ...] | _Target) or ()
    target = truth.target if isinstance(truth, _Target) else truth
    if isinstance(target, str):
        answers = tuple(target.split(_ANSWER_SEPARATOR))
    else:
        answers = whole_answers(target)
    return _question(
        PurePosixPath(file).stem or QuestionFormat.AUTOCOA,
        text or _unwrapped(_value(values, "prompt", str | tuple[_Message, ...]) or ""),
        answers=answers,
        identifier=_identifier(values, columns),
    )


def _unwrapped(prompt: str | tuple[_Message, ...]) -> str:
    """Find the question at the end of AutoCoA's prompt."""
    if isinstance(prompt, str):
        asked = prompt
    else:
        contents = [message.content for message in prompt if message.role == "user"]
        asked = contents[-1] if contents else ""
    _, found, question = asked.partition(_PROMPT_END)
    if not found:
        raise BadRowError(RefusalReason.WRONG_FORMAT, f"the prompt lacks the line {_PROMPT_END!r}")
    return question


def _value(values: Mapping[str, Any], path: str, kind: Any) -> Any:
    """Return what stands at a path, checked to be of a kind; None where there is nothing."""
    found: Any = values
    for name in path.split("."):
        if found is None:
            return None
        if not isinstance(found, Mapping):
            raise _other_format(f"`{path}` is not in a struct")
        found = found.get(name)
    if found is None:
        return None
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        raise _other_format(f"`{path}`: {error}") from error


def _other_format(detail: str) -> BadRowError:
    return BadRowError(RefusalReason.WRONG_FORMAT, f"the row has another format: {detail}")


def _identifier(values: Mapping[str, Any], columns: Columns) -> str:
    """Return the first published id that is not blank; empty for none."""
    for path in columns.ids:
        identifier = _value(values, path, _Id)
        if identifier is not None and identifier != "":
            return str(identifier).strip()
    return ""


def _kind(values: Mapping[str, Any], columns: Columns) -> str:
    if not columns.kind:
        return ""
    kind = _value(values, columns.kind, _Texts) or ""
    return kind if isinstance(kind, str) else " | ".join(kind)


def _titles(values: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    """List the titles of supporting facts, each once, in their order."""
    if not columns.titles:
        return ()
    facts = _value(values, columns.titles, _Facts) or ()
    if isinstance(facts, _Titles):
        titles = list(facts.title)
    else:
        titles = [fact.title if isinstance(fact, _SupportingFact) else fact[0] for fact in facts]
    return tuple(dict.fromkeys(titles))


def _question(
    source: str,
    question: str,
    answers: Iterable[str],
    identifier: str = "",
    kind: str = "",
    *,
    hops: int | None = None,
    titles: tuple[str, ...] = (),
) -> Question:
    text = question.strip()
    stripped = [answer.strip() for answer in answers]
    distinct = dict.fromkeys(answer for answer in stripped if answer)  # in order
    return Question(
        question_id=_own_id(source, identifier, text),
        question=text,
        gold_answers=tuple(distinct),
        split="",
        question_type=kind,
        num_hops=hops,
        gold_titles=titles,
        source=source,
    )


def _own_id(source: str, identifier: str, question: str) -> str:
    """Make the question's id from the published one.

    An id that only counts rows gets the data set's name; a missing one is made from the text. The
    row's position is never used: ids must stay the same in a new version of the file.
    """
    if not identifier:
        digest = hashlib.sha256(question.encode(errors="replace")).hexdigest()[:16]
        return f"{source}-{digest}"
    if _COUNTED_ID.fullmatch(identifier):
        return f"{source}-{identifier}"
    return identifier


def whole_answers(answers: Iterable[str]) -> tuple[str, ...]:
    """Return the answers of a list, unless it is a text split into its letters, as ["n", "o"].

    Raises:
        BadRowError: every answer of several is a single character.
    """
    items = tuple(answer for answer in answers if answer)
    spelt = "".join(items)
    if len(items) > 1 and len(spelt) == len(items) and not spelt.isspace():
        detail = f"the gold answers are the letters of {spelt[:80]!r}"
        raise BadRowError(RefusalReason.SPELT_ANSWER, detail)
    return items
