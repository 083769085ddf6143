"""Read LLaMA-Factory's sharegpt rows: `conversations` of human, gpt, function_call and observation.

A turn of `function_call` holds the JSON of a call, before which a thought in tags may stand. In
this project's own export the turns hold our tags (data_cards/formats/sharegpt.py): there they are
joined again to the text of a rollout.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from coa import protocol
from coa.foreign.autocoa import has_own_tags, read_autocoa
from coa.foreign.chat_as_text import find_single_turn
from coa.foreign.chat_calls import read_call_text
from coa.foreign.chat_fields import role_name
from coa.foreign.chat_message import Message, Role, refusal
from coa.foreign.chat_rows import chat_of, to_row
from coa.foreign.chat_tags import leading_thought
from coa.foreign.record import ForeignRow, Format, optional_text
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Author, Step

_FUNCTION_CALL = "function_call"


def is_sharegpt(row: Mapping[str, Any]) -> bool:
    """Recognise a row with `conversations`."""
    return isinstance(row.get("conversations"), list) and find_single_turn(row) is None


def read_sharegpt_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a row of sharegpt.

    Raises:
        UnreadableError: It cannot be read.
    """
    items = row["conversations"]
    chat = chat_of(Format.SHAREGPT, row, items)
    if _is_own(chat.messages):
        return to_row(chat, _own_steps)
    messages = []
    for item, message in zip(items, chat.messages, strict=True):
        is_call = role_name(item) == _FUNCTION_CALL
        messages.append(_with_call(message) if is_call else message)
    return to_row(replace(chat, messages=(*_system(row), *messages)))


def _system(row: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the column `system` as a message, which stands before the first."""
    text = optional_text(row.get("system"))
    return (Message(0, Role.SYSTEM, text),) if text else ()


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


def _is_own(messages: Sequence[Message]) -> bool:
    """Return whether the policy's turns hold our tags of calls, or our marker before an answer."""
    for message in messages:
        if message.role is Role.ASSISTANT:
            text = message.content
            if protocol.ANSWER_MARKER in text or has_own_tags(text):
                return True
    return False


def _own_steps(turns: Sequence[Message]) -> tuple[Step, ...]:
    """Read the turns as the text of one rollout, in which line breaks surround each observation.

    Raises:
        UnreadableError: The text cannot be read, or gives observations other than those turns say.
    """
    text = ""
    said: list[str] = []
    for turn in turns:
        if turn.role is Role.TOOL:
            said.append(f"\n{turn.content}\n")
            text += said[-1]
        elif turn.role is Role.ASSISTANT:
            text += turn.content
        else:
            detail = "a turn that is neither the policy's nor an observation"
            raise refusal(UnreadableReason.UNKNOWN_AUTHOR, turn.number, detail=detail)
    steps = read_autocoa(text.removeprefix(f"{protocol.THINK_OPEN}\n"))
    read = [step.text for step in steps if step.author is Author.ENVIRONMENT]
    if read != said:
        detail = "the tags and the turns do not agree on who wrote what"
        raise UnreadableError(UnreadableReason.UNKNOWN_AUTHOR, 0, detail)
    return steps
