"""Read FireAct's rows: runs with recorded grades, and training rows without gold answers."""

from collections.abc import Mapping
from typing import Any

from coa.foreign.react import read_react_chat, read_react_text
from coa.foreign.record import (
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    gold_answers,
    identifier,
    optional_text,
    question_text,
)
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Mode, Step, StepKind

_GOOGLE = "google (SerpAPI): answer box or first snippet; date unknown"
_RESPONSE = "\n\n### Response:\n"
_INSTRUCTION = "### Instruction:\n"


def read_chat_run(values: Mapping[str, Any]) -> ForeignRow:
    """Read a run of a chat model: `traj` is a list of messages."""
    prompt, turns = _chat(values["traj"])
    return _run(Format.FIREACT_CHAT, values, prompt, prompt, read_react_chat(turns))


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


def read_text_run(values: Mapping[str, Any]) -> ForeignRow:
    """Read a run of Llama: `traj` is one text in Alpaca's template."""
    text: str = values["traj"]
    head, response, body = text.partition(_RESPONSE)
    _, instruction, question = head.partition(_INSTRUCTION)
    if not response or not instruction:
        detail = "no instruction and response as Alpaca's template has them"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    return _run(Format.FIREACT_TEXT, values, question, head + response, read_react_text(body))


def _run(
    kind: Format, values: Mapping[str, Any], question: str, prompt: str, steps: tuple[Step, ...]
) -> ForeignRow:
    exact_match = values.get("em")
    f1 = values.get("f1")
    return ForeignRow(
        format=kind,
        question_id=identifier(values.get("idx")),
        question=question_text(question),
        gold_answers=gold_answers(values.get("gt")),
        prompt=prompt,
        steps=steps,
        mode=Mode.COA,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=_GOOGLE,
        prediction=optional_text(values.get("pred")),
        exact_match=exact_match if isinstance(exact_match, bool) else None,
        f1=float(f1) if isinstance(f1, int | float) else None,
    )


def read_training(values: Mapping[str, Any]) -> ForeignRow:
    """Read a training row in Alpaca's columns."""
    texts = [optional_text(values.get(name)) for name in ("instruction", "input")]
    asked = "\n".join(text for text in texts if text)
    steps = read_react_text(values["output"])
    return _training_row(Format.FIREACT_TRAINING, asked, steps)


def is_training_chat(values: Mapping[str, Any]) -> bool:
    """Recognise a training row in `messages`: ReAct text in the policy's first message."""
    messages = values.get("messages")
    for item in messages if isinstance(messages, list) else ():
        if isinstance(item, dict) and item.get("role") == "assistant":
            content = item.get("content")
            if not isinstance(content, str) or item.get("tool_calls"):
                return False
            return content.lstrip().startswith(("Thought:", "Action:"))
    return False


def read_training_chat(values: Mapping[str, Any]) -> ForeignRow:
    """Read a training row in `messages`, as OpenAI's fine-tuning takes it."""
    asked, turns = _chat(values["messages"])
    # GPT-4 wrote these rows as one text, into which the runtime wrote its labels.
    steps = read_react_chat(turns, was_text=True)
    return _training_row(Format.FIREACT_TRAINING_CHAT, asked, steps)


def _training_row(kind: Format, asked: str, steps: tuple[Step, ...]) -> ForeignRow:
    acts = any(step.kind is StepKind.ACTION for step in steps)
    return ForeignRow(
        format=kind,
        question_id="",
        question=question_text(asked),
        gold_answers=(),
        prompt=asked,
        steps=steps,
        # The rows do not say which method wrote them. Those without a search are, except for a
        # handful, its CoT rows.
        mode=Mode.COA if acts else Mode.COT,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=_GOOGLE,
    )
