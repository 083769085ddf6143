"""Read rows that hold a chat as OpenAI's messages, whole or as prompt and completion.

The question is the column `question`, or else the last user's message before the policy's first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coa.foreign.chat_as_text import chat_items, find_single_turn
from coa.foreign.chat_fields import read_message
from coa.foreign.chat_message import Message, Role, refusal
from coa.foreign.chat_steps import chat_steps
from coa.foreign.record import (
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    identifier,
    optional_text,
    question_text,
)
from coa.foreign.unreadable import UnreadableReason
from coa.trajectory import Mode, Step, StepKind

UNKNOWN_TOOLS = "unknown: the file does not say what its tools searched"
_ID_COLUMNS = ("question_id", "qid", "query_id")
_TOOL_COLUMNS = ("tools", "tool_defs")
_GOLD_COLUMNS = (
    "gold_answers",
    "golden_answers",
    "gold_answer",
    "gold",
    "ground_truths",
    "ground_truth",
    "targets",
    "target",
    "answers",
    "answer",
)
_GOLD_OBJECTS = ("reward_model", "reward_spec", "info", "extra_info")
"""Objects that may hold such a column, as in verl, SkyRL and prime-rl."""
_NOTHING = frozenset({"", "[]", "{}", "null"})


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat with what its row says beside it."""

    format: Format
    messages: tuple[Message, ...]
    question: str | None = None
    """None: the last user's message before the policy's first."""
    question_id: str = ""
    gold_answers: tuple[str, ...] = ()
    offers_tools: bool = False
    model: str = ""
    """Empty where the row does not say, or says it in the column `model`."""


def to_row(
    chat: Chat, read: Callable[[Sequence[Message]], tuple[Step, ...]] = chat_steps
) -> ForeignRow:
    """Read a chat.

    Args:
        chat: The chat.
        read: Reads the messages from the policy's first on.

    Raises:
        UnreadableError: There is no question or no answer, or the messages are out of order.
    """
    num_before = _num_before_policy(chat.messages)
    before = chat.messages[:num_before]
    question = question_text(chat.question or _last_user_text(before))
    steps = read(chat.messages[num_before:])
    acts = any(step.kind is StepKind.ACTION for step in steps)
    return ForeignRow(
        format=chat.format,
        question_id=chat.question_id,
        question=question,
        gold_answers=chat.gold_answers,
        prompt="\n\n".join(message.content for message in before),
        steps=steps,
        mode=Mode.COA if acts or chat.offers_tools else Mode.COT,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=UNKNOWN_TOOLS,
        model=chat.model,
    )


def _num_before_policy(messages: Sequence[Message]) -> int:
    """Count the messages before the policy's first; they are the runtime's and the user's.

    Raises:
        UnreadableError: A tool's message is among them.
    """
    for index, message in enumerate(messages):
        if message.role is Role.ASSISTANT:
            return index
        if message.role is Role.TOOL:
            detail = "a tool's message before the policy's first"
            raise refusal(UnreadableReason.WRONG_FORMAT, message.number, detail=detail)
    return len(messages)


def _last_user_text(before: Sequence[Message]) -> str | None:
    for message in reversed(before):
        if message.role is Role.USER:
            return message.content
    return None


def _read_messages(items: Sequence[Any]) -> tuple[Message, ...]:
    return tuple(read_message(item, number) for number, item in enumerate(items, 1))


def gold_answers_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Find the gold answers of a row: in the first column that holds any, then in its objects."""
    places = [row]
    for name in _GOLD_OBJECTS:
        inner = row.get(name)
        if isinstance(inner, dict):
            places.append(inner)
    for place in places:
        for name in _GOLD_COLUMNS:
            found = _answers(place.get(name))
            if found:
                return found
    return ()


def _answers(value: Any) -> tuple[str, ...]:
    """Read one answer or several; Search-R1 has them in an object's `target`."""
    if isinstance(value, dict):
        value = value.get("target")
    texts: list[str] = []
    for item in value if isinstance(value, list) else [value]:
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        if isinstance(item, str) or is_number:
            texts.append(str(item).strip())
    return tuple(text for text in texts if text)


def offers_tools(row: Mapping[str, Any]) -> bool:
    """Return whether a row says that tools were offered; the lists may be JSON texts."""
    for name in _TOOL_COLUMNS:
        value = row.get(name)
        is_empty_text = isinstance(value, str) and value.strip() in _NOTHING
        if value and not is_empty_text:
            return True
    return False


def question_id_of(row: Mapping[str, Any]) -> str:
    """Return the question's id; a column `id` is not read, for it may be the trajectory's."""
    for name in _ID_COLUMNS:
        found = identifier(row.get(name))
        if found:
            return found
    return ""


def chat_of(kind: Format, row: Mapping[str, Any], items: Sequence[Any]) -> Chat:
    """Read the messages of a row with what its columns say beside them.

    Raises:
        UnreadableError: A message cannot be read.
    """
    return Chat(
        format=kind,
        messages=_read_messages(items),
        question=optional_text(row.get("question")),
        question_id=question_id_of(row),
        gold_answers=gold_answers_of(row),
        offers_tools=offers_tools(row),
    )


def is_messages(row: Mapping[str, Any]) -> bool:
    """Recognise a row of OpenAI's messages, or of a prompt and a completion of messages."""
    has_messages = "conversations" not in row and chat_items(row) is not None
    return has_messages and find_single_turn(row) is None


def read_messages_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a row of OpenAI's messages, or of a prompt and a completion.

    Raises:
        UnreadableError: It cannot be read.
    """
    return to_row(chat_of(Format.MESSAGES, row, chat_items(row) or []))
