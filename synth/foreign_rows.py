"""Read one row of a foreign file: its question, gold answers, steps and recorded grades.

Formats are recognised by their columns. To add one, add a member of `Format`, a reader, and an
entry in `_READERS`; its tags belong in coa/dialects.py.
"""

import hashlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from coa.dialects import (
    UnreadableError,
    UnreadableReason,
    read_r1_searcher,
    read_react_chat,
    read_react_text,
)
from coa.trajectory import Mode, Sampling, Step, StepKind


class Format(StrEnum):
    """The format of a foreign file, by its columns."""

    AUTO = "auto"
    """Found for each row from its columns."""
    R1_SEARCHER = "r1_searcher"
    """R1-Searcher's evaluation: question, answer, gen_text_store, pred_ans, gpt4o_output."""
    FIREACT_CHAT = "fireact_chat"
    """FireAct's runs of chat models: idx, gt, pred, em, f1, and `traj` as messages."""
    FIREACT_TEXT = "fireact_text"
    """FireAct's runs of Llama: the same, with `traj` as one text in Alpaca's template."""
    FIREACT_TRAINING = "fireact_training"
    """FireAct's training rows in Alpaca's columns: instruction, input, output; no gold answer."""
    FIREACT_TRAINING_CHAT = "fireact_training_chat"
    """The same rows as OpenAI's fine-tuning takes them: `messages`; no gold answer."""


class ForeignRow(NamedTuple):
    """A row that was read."""

    format: Format
    question_id: str
    """The file's own id; empty where it has none, or one with `/`."""
    question: str
    gold_answers: tuple[str, ...]
    """Empty where the file has none."""
    prompt: str
    """Empty where the file does not have it."""
    steps: tuple[Step, ...]
    mode: Mode
    sampling: Sampling
    search_fingerprint: str
    prediction: str | None = None
    exact_match: bool | None = None
    f1: float | None = None
    judge: bool | None = None


_GOOGLE = "google (SerpAPI): answer box or first snippet; date unknown"
_WIKIPEDIA = "unknown: R1-Searcher's retriever, five Wikipedia passages"
_UNKNOWN_SAMPLING = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)
"""No file says how its policy was sampled; no server accepts -1, so it is clearly no setting."""
_RESPONSE = "\n\n### Response:\n"
_INSTRUCTION = "### Instruction:\n"


def read_foreign_row(values: Mapping[str, Any], expected: Format = Format.AUTO) -> ForeignRow:
    """Read a row of any known format, or of the expected one.

    Raises:
        UnreadableError: the row has other columns, no question, or a text that its dialect does not
            allow.
    """
    found = tell_format(values)
    if found is None or expected not in (Format.AUTO, found):
        columns = ", ".join(sorted(values))[:200]
        detail = f"{found or 'no known format'}; columns {columns}"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    return _READERS[found](values)


def tell_format(values: Mapping[str, Any]) -> Format | None:
    """Recognise a row's format by its columns; None for an unknown one."""
    if isinstance(values.get("gen_text_store"), str):
        return Format.R1_SEARCHER
    if isinstance(values.get("traj"), list):
        return Format.FIREACT_CHAT
    if isinstance(values.get("traj"), str):
        return Format.FIREACT_TEXT
    if isinstance(values.get("output"), str) and "instruction" in values:
        return Format.FIREACT_TRAINING
    if isinstance(values.get("messages"), list):
        return Format.FIREACT_TRAINING_CHAT
    return None


def question_hash(question: str) -> str:
    """Make an id for a question without one: SHA-256 of its text, first 16 hex digits."""
    return hashlib.sha256(question.encode()).hexdigest()[:16]


def _read_r1_searcher(values: Mapping[str, Any]) -> ForeignRow:
    verdict = str(values.get("gpt4o_output")).strip().lower()
    return ForeignRow(
        format=Format.R1_SEARCHER,
        question_id=_identifier(values.get("id")),
        question=_question(values.get("question")),
        gold_answers=_golds(values.get("answer")),
        prompt="",
        steps=read_r1_searcher(values["gen_text_store"]),
        mode=Mode.COA,
        sampling=_UNKNOWN_SAMPLING,
        search_fingerprint=_WIKIPEDIA,
        prediction=_optional_text(values.get("pred_ans")),
        judge={"true": True, "false": False}.get(verdict),
    )


def _read_fireact_chat(values: Mapping[str, Any]) -> ForeignRow:
    prompt, turns = _chat(values["traj"])
    return _fireact(Format.FIREACT_CHAT, values, prompt, prompt, read_react_chat(turns))


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


def _read_fireact_text(values: Mapping[str, Any]) -> ForeignRow:
    text: str = values["traj"]
    head, response, body = text.partition(_RESPONSE)
    _, instruction, question = head.partition(_INSTRUCTION)
    if not response or not instruction:
        detail = "no instruction and response as Alpaca's template has them"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    return _fireact(Format.FIREACT_TEXT, values, question, head + response, read_react_text(body))


def _fireact(
    kind: Format, values: Mapping[str, Any], question: str, prompt: str, steps: tuple[Step, ...]
) -> ForeignRow:
    exact_match = values.get("em")
    f1 = values.get("f1")
    return ForeignRow(
        format=kind,
        question_id=_identifier(values.get("idx")),
        question=_question(question),
        gold_answers=_golds(values.get("gt")),
        prompt=prompt,
        steps=steps,
        mode=Mode.COA,
        sampling=_UNKNOWN_SAMPLING,
        search_fingerprint=_GOOGLE,
        prediction=_optional_text(values.get("pred")),
        exact_match=exact_match if isinstance(exact_match, bool) else None,
        f1=float(f1) if isinstance(f1, int | float) else None,
    )


def _read_fireact_training(values: Mapping[str, Any]) -> ForeignRow:
    texts = [_optional_text(values.get(name)) for name in ("instruction", "input")]
    asked = "\n".join(text for text in texts if text)
    steps = read_react_text(values["output"])
    return _fireact_training(Format.FIREACT_TRAINING, asked, steps)


def _read_fireact_training_chat(values: Mapping[str, Any]) -> ForeignRow:
    asked, turns = _chat(values["messages"])
    # GPT-4 wrote these rows as one text, into which the runtime wrote its labels.
    steps = read_react_chat(turns, was_text=True)
    return _fireact_training(Format.FIREACT_TRAINING_CHAT, asked, steps)


def _fireact_training(kind: Format, asked: str, steps: tuple[Step, ...]) -> ForeignRow:
    acts = any(step.kind is StepKind.ACTION for step in steps)
    return ForeignRow(
        format=kind,
        question_id="",
        question=_question(asked),
        gold_answers=(),
        prompt=asked,
        steps=steps,
        # The rows do not say which method wrote them. Those without a search are, except for a
        # handful, its CoT rows.
        mode=Mode.COA if acts else Mode.COT,
        sampling=_UNKNOWN_SAMPLING,
        search_fingerprint=_GOOGLE,
    )


def _question(value: Any) -> str:
    question = value.strip() if isinstance(value, str) else ""
    if not question:
        raise UnreadableError(UnreadableReason.NO_QUESTION, 0)
    return question


def _identifier(value: Any) -> str:
    text = str(value).strip() if isinstance(value, str | int) else ""
    return "" if "/" in text else text  # the separator within a trajectory's id


def _golds(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    texts = [item.strip() for item in items if isinstance(item, str)]
    return tuple(text for text in texts if text)


def _optional_text(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


_READERS: dict[Format, Callable[[Mapping[str, Any]], ForeignRow]] = {
    Format.R1_SEARCHER: _read_r1_searcher,
    Format.FIREACT_CHAT: _read_fireact_chat,
    Format.FIREACT_TEXT: _read_fireact_text,
    Format.FIREACT_TRAINING: _read_fireact_training,
    Format.FIREACT_TRAINING_CHAT: _read_fireact_training_chat,
}
