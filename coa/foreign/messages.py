"""Read one message of a chat in every spelling that is in use.

Roles and texts are in `role` and `content` (OpenAI) or in `from` and `value` (sharegpt).
Reasoning has a field of its own (`reasoning_content` of DeepSeek, Qwen and GLM, `reasoning`
of vLLM and OpenRouter, `thinking` of gpt-oss, `reasoning_details` of OpenRouter and MiniMax) or in
parts of the content (`reasoning` of Inspect, `thinking` of Anthropic). Calls are in fields, or as
JSON in tags inside the text: Tongyi DeepResearch and WebExplorer write them so into their turns,
and their runtime sends the result as a user's message in `<tool_response>`. Qwen's chat template
writes the same tags.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Any

from coa.foreign.tag_families import TOOL_CALL_TEXT
from coa.foreign.tool_call_json import argument_text, arguments_json, read_tool_call
from coa.policy.foreign_tags import hide_json
from coa.records.protocol import THINK_CLOSE, THINK_OPEN
from coa.records.unreadable import UnreadableError, UnreadableReason


class Role(StrEnum):
    """The author of a message, as its file names it."""

    SYSTEM = "system"
    """The runtime."""
    USER = "user"
    """Whoever asks: a person, or the runtime."""
    ASSISTANT = "assistant"
    """The policy."""
    TOOL = "tool"
    """The environment."""


_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "human": Role.USER,
    "assistant": Role.ASSISTANT,
    "gpt": Role.ASSISTANT,
    "function_call": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
    "observation": Role.TOOL,
}
_REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
_DETAILS = "reasoning_details"
_DETAIL_TEXT, _DETAIL_SUMMARY = "reasoning.text", "reasoning.summary"
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_REASONING_PARTS = frozenset({"reasoning", "thinking"})
_HIDDEN_PARTS = frozenset({"redacted_thinking"})
((_, (TOOL_CALL_OPEN, TOOL_CALL_CLOSE)),) = TOOL_CALL_TEXT.calls
TOOL_RESPONSE_OPEN, TOOL_RESPONSE_CLOSE = TOOL_CALL_TEXT.observation
_ANSWER_TAG = re.compile("</?answer>")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool."""

    name: str
    """The tool's name in the file."""
    argument: str
    """What our tags hold: the one text that is given, or else the arguments as JSON."""
    arguments: str
    """A JSON object as text: the file's own text, or one written after the object in the file."""
    call_id: str = ""
    """The id by which a tool's message names the call; empty where the file has none."""
    surface: str = ""
    """The call as the policy wrote it in its text; empty where the file has it in a field."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message."""

    number: int
    """The position among the messages of its row, from 1."""
    role: Role
    content: str
    thoughts: tuple[str, ...] = ()
    """The policy's reasoning, in its order, before the content."""
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    """In a tool's message: the id of the call that it answers; empty where the file has none."""
    is_error: bool = False
    """In a tool's message: whether the file says that the tool failed."""


def refusal(
    reason: UnreadableReason, number: int, character: int = 0, detail: str = ""
) -> UnreadableError:
    """Make the error for the message `number`, at a character of its text."""
    return UnreadableError(reason, character, f"message {number}: {detail}".removesuffix(": "))


def read_message(item: Any, number: int) -> Message:
    """Read one message of a chat; `number` is its position, from 1.

    Raises:
        UnreadableError: The role is unknown, or the content, the reasoning or a call is of no form
            that is read.
    """
    if not isinstance(item, dict):
        detail = f"a {type(item).__name__}, not an object"
        raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
    role = _role(item, number)
    reasoned, text = _content(item, number)
    if role is Role.TOOL:
        return _tool_message(item, text, number)
    if role is not Role.ASSISTANT:
        return Message(number, role, text)
    reasoning = _reasoning(item, number)
    if reasoning and reasoned and not _same_words(reasoning, reasoned):
        detail = "a field and a part of the content hold different reasoning"
        raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
    thought = reasoned or reasoning
    thoughts = (thought,) if thought else ()
    return Message(number, role, text, thoughts, _calls(item, number))


def role_name(item: Mapping[str, Any]) -> Any:
    """Return what a message names as its author."""
    return item.get("role", item.get("from"))


def _role(item: Mapping[str, Any], number: int) -> Role:
    name = role_name(item)
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise refusal(
            UnreadableReason.UNKNOWN_AUTHOR, number, detail=f"the role {str(name)[:80]!r}"
        )
    return role


def _tool_message(item: Mapping[str, Any], text: str, number: int) -> Message:
    error = item.get("error")
    if isinstance(error, dict) and not text:
        text = str(error.get("message") or "")
    call_id = str(item.get("tool_call_id") or "")
    return Message(number, Role.TOOL, text, call_id=call_id, is_error=bool(error))


def _content(item: Mapping[str, Any], number: int) -> tuple[str, str]:
    """Read the reasoning in a content, and its text: a text, a list of parts, or missing."""
    found = item.get("content", item.get("value"))
    if found is None:
        return "", ""
    if isinstance(found, str):
        return "", found
    if not isinstance(found, list):
        detail = f"a content that is a {type(found).__name__}"
        raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
    reasoning: list[str] = []
    texts: list[str] = []
    for part in found:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in _REASONING_PARTS | _HIDDEN_PARTS:
            if texts:
                detail = "reasoning after a text in the same content"
                raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
            reasoning.append(_reasoning_part(part))
        else:
            texts.append(_text_part(part, number))
    return "".join(reasoning), "".join(texts)


def _reasoning_part(part: Mapping[str, Any]) -> str:
    """Return the text of a part; empty where the provider hides it."""
    if part["type"] in _HIDDEN_PARTS or part.get("redacted"):
        return ""
    for name in (part["type"], "text", "content"):
        text = part.get(name)
        if isinstance(text, str):
            return text
    return ""


def _text_part(part: Any, number: int) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    if isinstance(part, dict) and kind in _TEXT_PARTS and isinstance(part.get("text"), str):
        return str(part["text"])
    detail = f"a part of the content that is no text: {str(kind)[:80]!r}"
    raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)


def _reasoning(item: Mapping[str, Any], number: int) -> str:
    """Read the reasoning in fields; where several hold it, they must hold the same."""
    found = _detailed_reasoning(item.get(_DETAILS), number)
    for name in _REASONING_FIELDS:
        text = item.get(name)
        if not text:
            continue
        if not isinstance(text, str):
            detail = f"{name} is a {type(text).__name__}"
            raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
        if found and not _same_words(found, text):
            detail = f"{name} and another field hold different reasoning"
            raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
        found = text
    return found


def _detailed_reasoning(details: Any, number: int) -> str:
    """Read the reasoning in `reasoning_details`; encrypted pieces are not shown to anyone."""
    texts: list[str] = []
    has_summary = False
    for piece in details if isinstance(details, list) else ():
        kind = piece.get("type") if isinstance(piece, dict) else None
        has_summary = has_summary or kind == _DETAIL_SUMMARY
        if kind == _DETAIL_TEXT:
            texts.append(str(piece.get("text") or ""))
    if has_summary and not any(texts):
        detail = "a summary of the reasoning, which the policy did not write"
        raise refusal(UnreadableReason.UNKNOWN_AUTHOR, number, detail=detail)
    return "".join(texts)


def _same_words(one: str, other: str) -> bool:
    """Return whether two texts differ in blanks at most."""
    return one == other or one.split() == other.split()


def _calls(item: Mapping[str, Any], number: int) -> tuple[Call, ...]:
    """Read the calls in the fields `tool_calls` and `function_call` of a message."""
    found = item.get("tool_calls") or []
    if not isinstance(found, list):
        raise refusal(UnreadableReason.BAD_CALL, number, detail="tool_calls is not a list")
    single = item.get("function_call")
    if single:
        found = [*found, single]
    return tuple(_read_call(call, number) for call in found)


def _read_call(call: Any, number: int) -> Call:
    """Read one call: OpenAI's, verifiers', Inspect's or ATIF's, which name the same fields apart.

    OpenAI's has its name and arguments in `function`; Inspect's has its name there.
    """
    if not isinstance(call, dict):
        raise refusal(UnreadableReason.BAD_CALL, number, detail="a call that is not an object")
    if call.get("parse_error"):
        raise refusal(UnreadableReason.BAD_CALL, number, detail=str(call["parse_error"])[:200])
    function = call.get("function")
    fields = function if isinstance(function, dict) else call
    name = fields.get("name") or fields.get("function_name") or function
    if not isinstance(name, str) or not name.strip():
        raise refusal(UnreadableReason.BAD_CALL, number, detail="a call without a name")
    given = fields.get("arguments")
    if isinstance(given, dict):
        # Tables add nulls for the arguments of other rows.
        given = {key: value for key, value in given.items() if value is not None}
    try:
        arguments = arguments_json(given)
        argument = argument_text(arguments)
    except UnreadableError as error:
        detail = f"arguments of {name[:80]!r}: {error.detail}"
        raise refusal(error.reason, number, error.character, detail) from error
    if not argument:
        detail = f"{name[:80]!r} is called with a blank argument"
        raise refusal(UnreadableReason.EMPTY_TURN, number, detail=detail)
    call_id = str(call.get("id") or call.get("tool_call_id") or "")
    return Call(name.strip(), argument, arguments, call_id)


def read_call_text(body: str, number: int, offset: int, *, surface: str) -> Call:
    """Read a call that is written as JSON inside the text of the message `number`, at `offset`.

    `surface` is what the policy wrote around the JSON, and the JSON.

    Raises:
        UnreadableError: It is not the JSON of a call.
    """
    try:
        call = read_tool_call(body, offset)
    except UnreadableError as error:
        raise refusal(error.reason, number, error.character, error.detail) from error
    return Call(call.tool, call.argument, call.arguments, surface=surface)


def without_tags(message: Message) -> Message:
    """Take the thought and the call out of an assistant's content, tags included.

    Joined, thoughts, content and the call's text give the content again.

    Raises:
        UnreadableError: A tag is unclosed, doubled or inside another one.
    """
    if message.role is not Role.ASSISTANT:
        return message
    thought, start = leading_thought(message)
    thoughts = message.thoughts
    bare = thought.strip().removeprefix(THINK_OPEN).removesuffix(THINK_CLOSE)
    repeats_field = bool(thoughts) and bare.split() == "".join(thoughts).split()
    if thought and not repeats_field:
        thoughts = (*thoughts, thought)
    content = message.content[start:]
    forged = hide_json(content).find(TOOL_RESPONSE_OPEN)
    if forged >= 0:
        detail = "an observation inside the policy's turn"
        raise refusal(UnreadableReason.NESTED_TAG, message.number, start + forged, detail)
    calls = message.calls
    if not calls:
        content, calls = _split_call(content, start, message.number)
    if not calls:
        _check_answer(content, start, message.number)
    return replace(message, content=content, thoughts=thoughts, calls=calls)


def leading_thought(message: Message) -> tuple[str, int]:
    """Return the thought at the start of a content, with its tags, and where it ends.

    The opening tag may be missing, since many templates write it into the prompt.
    """
    content = message.content
    searched = hide_json(content)
    closing = searched.find(THINK_CLOSE)
    if closing < 0:
        opening = searched.find(THINK_OPEN)
        if opening >= 0:
            raise refusal(UnreadableReason.UNCLOSED_TAG, message.number, opening, THINK_OPEN)
        return "", 0
    end = closing + len(THINK_CLOSE)
    opening = searched.rfind(THINK_OPEN, 0, closing)
    if opening >= 0 and content[:opening].strip():
        raise refusal(UnreadableReason.NESTED_TAG, message.number, opening, THINK_OPEN)
    for tag in (THINK_OPEN, THINK_CLOSE):
        second = searched.find(tag, end)
        if second >= 0:
            raise refusal(UnreadableReason.MISPLACED_TAG, message.number, second, tag)
    for tag in (TOOL_CALL_OPEN, TOOL_RESPONSE_OPEN):
        inner = searched.find(tag, 0, closing)
        if inner >= 0:
            raise refusal(UnreadableReason.NESTED_TAG, message.number, inner, tag)
    return content[:end], end


def _split_call(content: str, offset: int, number: int) -> tuple[str, tuple[Call, ...]]:
    """Split a content into the text before a call and the call; no call where there is none."""
    searched = hide_json(content)
    start = searched.find(TOOL_CALL_OPEN)
    end = searched.find(TOOL_CALL_CLOSE)
    if start < 0:
        if end >= 0:
            raise refusal(UnreadableReason.MISPLACED_TAG, number, offset + end, TOOL_CALL_CLOSE)
        return content, ()
    second = searched.find(TOOL_CALL_OPEN, start + 1)
    if second >= 0:
        detail = "a second call in one turn"
        raise refusal(UnreadableReason.PARALLEL_CALLS, number, offset + second, detail)
    if end < start:
        raise refusal(UnreadableReason.UNCLOSED_TAG, number, offset + start, TOOL_CALL_OPEN)
    body_start = start + len(TOOL_CALL_OPEN)
    body = content[body_start:end]
    after = end + len(TOOL_CALL_CLOSE)
    if content[after:].strip():
        detail = content[after : after + 80]
        raise refusal(UnreadableReason.TEXT_AFTER_ACTION, number, offset + after, detail)
    call = read_call_text(body, number, offset + body_start, surface=content[start:])
    return content[:start], (call,)


def _check_answer(content: str, offset: int, number: int) -> None:
    """Refuse an answer whose tags allow two readings."""
    tags = list(islice(_ANSWER_TAG.finditer(content), 3))
    names = [tag[0] for tag in tags]
    if names in ([], ["<answer>", "</answer>"]):
        return
    is_open = names == ["<answer>"]
    reason = UnreadableReason.UNCLOSED_TAG if is_open else UnreadableReason.MISPLACED_TAG
    raise refusal(reason, number, offset + tags[-1].start(), tags[-1][0])


def is_tool_response(message: Message) -> bool:
    """Return whether a user's message is wholly one response of a tool, in its tags."""
    if message.role is not Role.USER:
        return False
    text = message.content.strip()
    is_framed = text.startswith(TOOL_RESPONSE_OPEN) and text.endswith(TOOL_RESPONSE_CLOSE)
    searched = hide_json(text, TOOL_RESPONSE_OPEN, TOOL_RESPONSE_CLOSE)
    num_tags = searched.count(TOOL_RESPONSE_OPEN) + searched.count(TOOL_RESPONSE_CLOSE)
    return is_framed and num_tags == 2
