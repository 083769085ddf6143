"""Read the rows that FireAct, AutoAct and R1-Searcher released: known text in columns of their own.

`_COLUMNS` says which column of a format holds what; only where a format keeps the question and the
turns differs in more than names.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from coa.foreign.react import NUMBERED_LABEL, read_numbered_react, read_react_chat, read_react_text
from coa.foreign.record import (
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    gold_answers,
    identifier,
    optional_text,
    question_text,
)
from coa.foreign.tag_families import R1_SEARCHER
from coa.foreign.tagged_text import read_tagged_text
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.records.trajectory import Mode, Step, StepKind

_GOOGLE = "google (SerpAPI): answer box or first snippet; date unknown"
_BING = "unknown: AutoAct's Bing search, Wikipedia pages and their sentences"
_WIKIPEDIA = "unknown: R1-Searcher's retriever, five Wikipedia passages"
_RESPONSE = "\n\n### Response:\n"
_INSTRUCTION = "### Instruction:\n"


class _Columns(NamedTuple):
    """The names of a format's columns; empty for what its files do not have."""

    search: str
    """The search that the runs used, as the format's authors describe it."""
    question_id: str = ""
    gold_answers: str = ""
    prediction: str = ""
    exact_match: str = ""
    f1: str = ""
    judge: str = ""


_FIREACT_RUNS = _Columns(
    _GOOGLE, question_id="idx", gold_answers="gt", prediction="pred", exact_match="em", f1="f1"
)
_COLUMNS = {
    Format.FIREACT_CHAT: _FIREACT_RUNS,
    Format.FIREACT_TEXT: _FIREACT_RUNS,
    Format.FIREACT_TRAINING: _Columns(_GOOGLE),
    Format.FIREACT_TRAINING_CHAT: _Columns(_GOOGLE),
    Format.AUTOACT: _Columns(_BING, gold_answers="answer", exact_match="correct"),
    Format.R1_SEARCHER: _Columns(
        _WIKIPEDIA,
        question_id="id",
        gold_answers="answer",
        prediction="pred_ans",
        judge="gpt4o_output",
    ),
}


def read_r1_searcher_row(values: Mapping[str, Any]) -> ForeignRow:
    """Read a row of R1-Searcher's evaluation; the prompt is not in the released files."""
    question = question_text(values.get("question"))
    steps = read_tagged_text(values["gen_text_store"], R1_SEARCHER)
    return _row(Format.R1_SEARCHER, values, question, "", steps)


def read_fireact_chat(values: Mapping[str, Any]) -> ForeignRow:
    """Read a run of a chat model by FireAct: `traj` is a list of messages."""
    prompt, turns = _chat(values["traj"])
    return _row(Format.FIREACT_CHAT, values, prompt, prompt, read_react_chat(turns))


def read_fireact_text(values: Mapping[str, Any]) -> ForeignRow:
    """Read a run of Llama by FireAct: `traj` is one text in Alpaca's template."""
    text: str = values["traj"]
    head, response, body = text.partition(_RESPONSE)
    _, instruction, question = head.partition(_INSTRUCTION)
    if not response or not instruction:
        detail = "no instruction and response as Alpaca's template has them"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    steps = read_react_text(body)
    return _row(Format.FIREACT_TEXT, values, question, head + response, steps)


def read_fireact_training(values: Mapping[str, Any]) -> ForeignRow:
    """Read a training row of FireAct in Alpaca's columns; it has no gold answer."""
    texts = [optional_text(values.get(name)) for name in ("instruction", "input")]
    asked = "\n".join(text for text in texts if text)
    steps = read_react_text(values["output"])
    row = _row(Format.FIREACT_TRAINING, values, asked, asked, steps)
    return row._replace(mode=_training_mode(steps))


def is_fireact_training_chat(values: Mapping[str, Any]) -> bool:
    """Recognise a training row in `messages`: ReAct text in the policy's first message."""
    messages = values.get("messages")
    for item in messages if isinstance(messages, list) else ():
        if isinstance(item, dict) and item.get("role") == "assistant":
            content = item.get("content")
            if not isinstance(content, str) or item.get("tool_calls"):
                return False
            return content.lstrip().startswith(("Thought:", "Action:"))
    return False


def read_fireact_training_chat(values: Mapping[str, Any]) -> ForeignRow:
    """Read a training row of FireAct in `messages`, as OpenAI's fine-tuning takes it."""
    asked, turns = _chat(values["messages"])
    # GPT-4 wrote these rows as one text, into which the runtime wrote its labels.
    steps = read_react_chat(turns, was_text=True)
    row = _row(Format.FIREACT_TRAINING_CHAT, values, asked, asked, steps)
    return row._replace(mode=_training_mode(steps))


def is_autoact(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has the columns of AutoAct's released runs."""
    return isinstance(row.get("prompt"), str) and {"question", "reward", "halted"} <= row.keys()


def read_autoact_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a row of AutoAct: its `prompt` holds the instruction, the question and the turns.

    Raises:
        UnreadableError: the question is not in the prompt, or the turns cannot be read.
    """
    question = question_text(row.get("question"))
    head, asked, body = row["prompt"].rpartition(f"Question: {row['question']}")
    first = NUMBERED_LABEL.search(body)
    if not asked or first is None:
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, "no question before the turns")
    prompt = head + asked + body[: first.start()]
    steps = read_numbered_react(body[first.start() :])
    return _row(Format.AUTOACT, row, question, prompt, steps)


def _row(
    form: Format, values: Mapping[str, Any], question: str, prompt: str, steps: tuple[Step, ...]
) -> ForeignRow:
    """Make a row of what was read and of the columns that the format has."""
    columns = _COLUMNS[form]

    def value(column: str) -> Any:
        return values.get(column) if column else None

    exact_match = value(columns.exact_match)
    f1 = value(columns.f1)
    verdict = str(value(columns.judge)).strip().lower()
    return ForeignRow(
        format=form,
        question_id=identifier(value(columns.question_id)),
        question=question_text(question),
        gold_answers=gold_answers(value(columns.gold_answers)),
        prompt=prompt,
        steps=steps,
        mode=Mode.COA,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=columns.search,
        prediction=optional_text(value(columns.prediction)),
        exact_match=exact_match if isinstance(exact_match, bool) else None,
        f1=float(f1) if isinstance(f1, int | float) else None,
        judge={"true": True, "false": False}.get(verdict),
    )


def _training_mode(steps: tuple[Step, ...]) -> Mode:
    """Tell the mode of a training row, which does not say which method wrote it.

    Those without a search are, except for a handful, FireAct's CoT rows.
    """
    acts = any(step.kind is StepKind.ACTION for step in steps)
    return Mode.COA if acts else Mode.COT


def _chat(items: list[Any]) -> tuple[str, list[tuple[str, str]]]:
    """Split a chat into the question and the (role, content) pairs that follow it."""
    messages = [_message(item) for item in items]
    if not messages or messages[0][0] != "user":
        detail = "the first message is not the user's"
        raise UnreadableError(UnreadableReason.NO_QUESTION, 0, detail)
    _, question = messages[0]
    return question, messages[1:]


def _message(item: Any) -> tuple[str, str]:
    """Read the role and the content of a message."""
    if isinstance(item, dict):
        role = item.get("role")
        content = item.get("content")
        if isinstance(role, str) and isinstance(content, str):
            return role, content
    raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, "a message without role or content")
