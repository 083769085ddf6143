"""Read rows that hold a chat: OpenAI's messages, prompt and completion, LLaMA-Factory's sharegpt.

The question is the column `question`, or else the last user's message before the policy's first.
The steps hold the texts of the file, in their order. `Step.transcribed` holds the arguments of a
call and the text of the answer, because our tags will be written around both.

A chat may hold a whole trajectory, with its observations, in one message of the policy: Search-R1's
and other texts with tags are published so. Their roles do not say who wrote what, but their tags
do, so such a row is read as a text (`text_rows.py`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from coa.foreign.autocoa import has_own_tags
from coa.foreign.messages import (
    Call,
    Message,
    Role,
    is_tool_response,
    leading_thought,
    read_call_text,
    read_message,
    refusal,
    role_name,
    without_tags,
)
from coa.foreign.react import is_react, read_react_chat
from coa.foreign.record import (
    ID_COLUMNS,
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    first_identifier,
    gold_answers_of,
    mode_of,
    optional_text,
    question_text,
)
from coa.foreign.step_makers import observation_step, thought_steps
from coa.foreign.tag_families import ANSWER_TAGS
from coa.foreign.tagged_text import find_tags
from coa.records.trajectory import Author, Mode, Outcome, Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason

UNKNOWN_TOOLS = "unknown: the file does not say what its tools searched"
_TOOL_COLUMNS = ("tools", "tool_defs")
_NOTHING = frozenset({"", "[]", "{}", "null"})
_POLICY, _USER = frozenset({"assistant", "gpt"}), frozenset({"user", "human"})
_FUNCTION_CALL = "function_call"


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


def to_row(chat: Chat) -> ForeignRow:
    """Read a chat.

    Raises:
        UnreadableError: There is no question or no answer, or the messages are out of order.
    """
    num_before = _num_before_policy(chat.messages)
    before = chat.messages[:num_before]
    asked = [message.content for message in before if message.role is Role.USER]
    question = question_text(chat.question or (asked[-1] if asked else None))
    steps = _steps(chat.messages[num_before:])
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
    """Count the messages before the policy's first; they are the runtime's and the user's."""
    for index, message in enumerate(messages):
        if message.role is Role.ASSISTANT:
            return index
        if message.role is Role.TOOL:
            detail = "a tool's message before the policy's first"
            raise refusal(UnreadableReason.WRONG_FORMAT, message.number, detail=detail)
    return len(messages)


def offers_tools(row: Mapping[str, Any]) -> bool:
    """Return whether a row says that tools were offered; the lists may be JSON texts."""
    for name in _TOOL_COLUMNS:
        value = row.get(name)
        is_empty_text = isinstance(value, str) and value.strip() in _NOTHING
        if value and not is_empty_text:
            return True
    return False


def chat_of(kind: Format, row: Mapping[str, Any], items: Sequence[Any]) -> Chat:
    """Read the messages of a row with what its columns say beside them.

    Raises:
        UnreadableError: A message cannot be read.
    """
    return Chat(
        format=kind,
        messages=tuple(read_message(item, number) for number, item in enumerate(items, 1)),
        question=optional_text(row.get("question")),
        question_id=first_identifier(row, ID_COLUMNS),
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


def is_react_chat(row: Mapping[str, Any]) -> bool:
    """Recognise messages with ReAct's turns: the policy's first one begins with their labels."""
    texts = _texts_of(chat_items(row) or [], _POLICY)
    return bool(texts) and is_react(texts[0])


def read_react_chat_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read messages with ReAct's turns; the first message asks the question.

    Raises:
        UnreadableError: It cannot be read.
    """
    chat = chat_of(Format.REACT, row, chat_items(row) or [])
    first, *turns = chat.messages
    if first.role is not Role.USER:
        detail = "the first message is not the user's"
        raise refusal(UnreadableReason.NO_QUESTION, first.number, detail=detail)
    steps = read_react_chat([(turn.role, turn.content) for turn in turns])
    return ForeignRow(
        format=Format.REACT,
        question_id=first_identifier(row, (*ID_COLUMNS, "id", "idx")),
        question=question_text(row.get("question") or first.content),
        gold_answers=chat.gold_answers,
        prompt=first.content,
        steps=steps,
        mode=mode_of(row, steps),
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=UNKNOWN_TOOLS,
    )


def is_sharegpt(row: Mapping[str, Any]) -> bool:
    """Recognise a row with `conversations`."""
    return isinstance(row.get("conversations"), list) and find_single_turn(row) is None


def read_sharegpt_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a row of sharegpt, whose turns are by human, gpt, function_call and observation.

    A turn of `function_call` holds the JSON of a call, before which a thought in tags may stand.

    Raises:
        UnreadableError: It cannot be read.
    """
    items = row["conversations"]
    chat = chat_of(Format.SHAREGPT, row, items)
    messages = []
    asked = optional_text(row.get("system"))
    if asked:
        messages.append(Message(0, Role.SYSTEM, asked))
    for item, message in zip(items, chat.messages, strict=True):
        is_call = role_name(item) == _FUNCTION_CALL
        messages.append(_with_call(message) if is_call else message)
    return to_row(replace(chat, messages=tuple(messages)))


def _with_call(message: Message) -> Message:
    """Read the call in the text of a `function_call` turn, and the thought before it."""
    thought, start = leading_thought(message)
    body = message.content[start:]
    call = read_call_text(_single(body, message), message.number, start, surface=body)
    thoughts = (thought,) if thought else ()
    return replace(message, content="", thoughts=thoughts, calls=(call,))


def _single(body: str, message: Message) -> str:
    """Return the JSON of the only call; LLaMA-Factory also takes a list of calls."""
    if not body.lstrip().startswith("["):
        return body
    try:
        calls = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if len(calls) > 1:
        detail = f"one turn made {len(calls)} calls"
        raise refusal(UnreadableReason.PARALLEL_CALLS, message.number, detail=detail)
    return json.dumps(calls[0], ensure_ascii=False) if calls else body


class SingleTurn(NamedTuple):
    """A chat with one message of the policy, whose text has the tags of a trajectory."""

    asked: str
    """The last message of the user."""
    text: str


def chat_items(row: Mapping[str, Any]) -> list[Any] | None:
    """Return the messages of a row; None where it has none."""
    for name in ("messages", "conversations", "traj"):
        found = row.get(name)
        if isinstance(found, list):
            return found
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, list) and isinstance(completion, list):
        return [*prompt, *completion]
    return None


def find_single_turn(row: Mapping[str, Any]) -> SingleTurn | None:
    """Find the only turn of the policy, if it holds calls in tags; None for any other row."""
    items = chat_items(row) or []
    texts = _texts_of(items, _POLICY)
    if len(texts) != 1 or not has_calls_in_tags(texts[0]):
        return None
    (text,) = texts
    is_last = _texts_of(items[-1:], _POLICY) == [text]
    if not is_last or items[-1].get("tool_calls"):
        return None
    asked = _texts_of(items, _USER)
    return SingleTurn(asked[-1] if asked else "", text)


def _texts_of(items: Sequence[Any], roles: frozenset[str]) -> list[str]:
    """Return the texts of the messages with one of these roles; empty where one is no text."""
    texts = []
    for item in items:
        name = role_name(item) if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in roles:
            continue
        text = item.get("content", item.get("value"))
        if not isinstance(text, str):
            return []
        texts.append(text)
    return texts


def has_calls_in_tags(text: str) -> bool:
    """Return whether a text has tags of a text format, other than those of an answer."""
    return bool(find_tags(text) - set(ANSWER_TAGS)) or has_own_tags(text)


def _steps(turns: Sequence[Message]) -> tuple[Step, ...]:
    """Read the messages after the prompt.

    The answer is the last message, which must be the policy's and call no tool. Of several calls in
    one turn the first is kept if only it was answered, as a chat server's teacher is run here.
    """
    steps: list[Step] = []
    waiting: tuple[Call, ...] = ()
    has_fields = any(message.calls or message.role is Role.TOOL for message in turns)
    for message in map(without_tags, turns):
        if message.role is Role.ASSISTANT:
            if not has_fields and has_calls_in_tags(message.content):
                detail = "a call in the tags of another format"
                raise refusal(UnreadableReason.MISPLACED_TAG, message.number, detail=detail)
            if waiting:
                detail = f"no response to the call of {waiting[0].name[:80]!r}"
                raise refusal(UnreadableReason.NO_OBSERVATION, message.number, detail=detail)
            is_last = message.number == turns[-1].number
            steps += _policy_steps(message, is_last=is_last)
            waiting = message.calls
        elif waiting and (message.role is Role.TOOL or is_tool_response(message)):
            _check_answers(message, waiting)
            step = observation_step(message.content, steps[-1].tool)
            steps.append(replace(step, outcome=Outcome.ERROR) if message.is_error else step)
            waiting = ()
        else:
            raise _misplaced(message, steps)
    if waiting:
        detail = f"no response to the call of {waiting[0].name[:80]!r}"
        raise refusal(UnreadableReason.NO_OBSERVATION, turns[-1].number, detail=detail)
    if not steps or steps[-1].kind is not StepKind.ANSWER:
        number = turns[-1].number if turns else 0
        detail = "the last message is not an answer of the policy"
        raise refusal(UnreadableReason.NO_ANSWER, number, detail=detail)
    return tuple(steps)


def _check_answers(message: Message, waiting: tuple[Call, ...]) -> None:
    """Check that a tool's message answers the first call of the turn."""
    first = waiting[0]
    if message.call_id and first.call_id:
        if message.call_id == first.call_id:
            return
        if message.call_id not in [call.call_id for call in waiting]:
            detail = f"the response to a call {message.call_id[:80]!r}, which was not made"
            raise refusal(UnreadableReason.WRONG_FORMAT, message.number, detail=detail)
    if len(waiting) > 1:
        detail = f"one turn made {len(waiting)} calls"
        raise refusal(UnreadableReason.PARALLEL_CALLS, message.number, detail=detail)


def _misplaced(message: Message, steps: Sequence[Step]) -> UnreadableError:
    """Make the error for a message of the user, the runtime or a tool where none may be."""
    is_second = len(steps) > 1 and bool(steps[-2].cut_calls)
    if message.role is Role.TOOL and is_second:
        detail = "a second call of one turn was answered"
        return refusal(UnreadableReason.PARALLEL_CALLS, message.number, detail=detail)
    if message.role is Role.USER:
        detail = "a user's message that is not wholly the response to a call"
        return refusal(UnreadableReason.UNKNOWN_AUTHOR, message.number, detail=detail)
    detail = f"a message of the role {message.role} where none is expected"
    return refusal(UnreadableReason.WRONG_FORMAT, message.number, detail=detail)


def _policy_steps(message: Message, *, is_last: bool) -> list[Step]:
    """Return the thoughts of a turn, and its call or the answer."""
    steps: list[Step] = []
    for thought in message.thoughts:
        steps += thought_steps(thought)
    if message.calls:
        steps += thought_steps(message.content)
        steps.append(_action(message))
    elif is_last and message.content.strip():
        answer = message.content
        steps.append(Step(StepKind.ANSWER, Author.POLICY, answer, transcribed=answer))
    else:
        steps += thought_steps(message.content)
    if not "".join(step.text for step in steps).strip():
        raise refusal(UnreadableReason.EMPTY_TURN, message.number)
    return steps


def _action(message: Message) -> Step:
    """Return the first call of a turn; the others are noted as cut."""
    call, *others = message.calls
    cut_calls = []
    for other in others:
        written = {"name": other.name, "arguments": other.arguments}
        cut_calls.append(json.dumps(written, ensure_ascii=False))
    return Step(
        StepKind.ACTION,
        Author.POLICY,
        call.surface or call.arguments,
        tool=call.name,
        argument=call.argument,
        transcribed=call.arguments,
        cut_calls=tuple(cut_calls),
    )
