"""Read the fields of a chat's messages in every spelling that is in use.

Roles and texts stand in `role` and `content` (OpenAI) or in `from` and `value` (sharegpt).
Reasoning stands in a field of its own (`reasoning_content` of DeepSeek, Qwen and GLM, `reasoning`
of vLLM and OpenRouter, `thinking` of gpt-oss, `reasoning_details` of OpenRouter and MiniMax) or in
parts of the content (`reasoning` of Inspect, `thinking` of Anthropic).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from coa.foreign.chat_calls import read_calls
from coa.foreign.chat_message import Message, Role, refusal
from coa.foreign.unreadable import UnreadableReason

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


def read_message(item: Any, number: int) -> Message:
    """Read one message of a chat.

    Args:
        item: The message as its file has it.
        number: Its position, from 1.

    Raises:
        UnreadableError: The role is unknown, or the content, the reasoning or a call is of no form
            that is read.
    """
    if not isinstance(item, dict):
        detail = f"a {type(item).__name__}, not an object"
        raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
    role = _role(item, number)
    content = _content(item, number)
    if role is Role.TOOL:
        return _tool_message(item, content, number)
    if role is not Role.ASSISTANT:
        return Message(number, role, content.text)
    reasoning = _reasoning(item, number)
    if reasoning and content.reasoning:
        if _same_words(reasoning, content.reasoning):
            reasoning = ""
        else:
            detail = "a field and a part of the content hold different reasoning"
            raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
    thoughts = tuple(text for text in (reasoning, content.reasoning) if text)
    calls = read_calls(item, number)
    return Message(number, role, content.text, thoughts, calls)


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


def _tool_message(item: Mapping[str, Any], content: "_Content", number: int) -> Message:
    text = content.text
    error = item.get("error")
    if isinstance(error, dict) and not text:
        text = str(error.get("message") or "")
    call_id = str(item.get("tool_call_id") or "")
    return Message(number, Role.TOOL, text, call_id=call_id, is_error=bool(error))


class _Content(NamedTuple):
    """The content of a message."""

    reasoning: str
    text: str


def _content(item: Mapping[str, Any], number: int) -> _Content:
    """Read a content that is a text, a list of parts, or missing."""
    found = item.get("content", item.get("value"))
    if found is None:
        return _Content("", "")
    if isinstance(found, str):
        return _Content("", found)
    if not isinstance(found, list):
        detail = f"a content that is a {type(found).__name__}"
        raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
    reasoning: list[str] = []
    texts: list[str] = []
    for part in found:
        if _is_reasoning(part):
            if texts:
                detail = "reasoning after a text in the same content"
                raise refusal(UnreadableReason.WRONG_FORMAT, number, detail=detail)
            reasoning.append(_reasoning_part(part))
        else:
            texts.append(_text_part(part, number))
    return _Content("".join(reasoning), "".join(texts))


def _is_reasoning(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _REASONING_PARTS | _HIDDEN_PARTS


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
    """Read the reasoning in `reasoning_details`; encrypted pieces are not shown to anyone.

    Raises:
        UnreadableError: There is only a summary: the provider wrote it, not the policy.
    """
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
