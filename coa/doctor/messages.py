"""Read what the messages of a chat say: the texts that a template should write, and their authors.

Messages are OpenAI's, with reasoning in any of its keys or inside the content.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from coa.doctor.findings import Fault
from coa.records import protocol
from coa.records.trajectory import Author

ASSISTANT = "assistant"
USER = "user"
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_TOOL_ROLES = ("tool", "function", "ipython", "observation", "environment")


class Part(NamedTuple):
    """A text of a message that the template should write."""

    spellings: tuple[str, ...]
    """The ways in which a template may write the text."""
    author: Author
    fault: Fault
    """What is wrong where the template does not write it."""

    @property
    def text(self) -> str:
        """The text as the message has it."""
        return self.spellings[0]


def plain_messages(value: Any) -> list[dict[str, Any]] | None:
    """Return messages without empty keys, which Arrow adds; None where they are no messages."""
    if not isinstance(value, list) or not value:
        return None
    messages = []
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return None
        messages.append(_without_nulls(message))
    return messages


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


def parts_of(message: Mapping[str, Any], *, is_answered: bool) -> list[Part]:
    """List the texts of a message in the order in which they should be written.

    If the assistant has already written (`is_answered`), a user's turn is what came back to it.
    """
    role = message["role"]
    contents = list(_contents(message.get("content")))
    if role == ASSISTANT:
        parts = list(_reasoning(message, contents))
        for content in contents:
            said = content.rpartition(protocol.THINK_CLOSE)[2].strip()
            if said:
                parts.append(Part((said,), Author.POLICY, Fault.CONTENT_DROPPED))
        return [*parts, *_arguments(message)]
    author = Author.SCAFFOLD
    if role in _TOOL_ROLES or (role == USER and is_answered):
        author = Author.ENVIRONMENT
    parts = []
    for content in contents:
        if content.strip():
            parts.append(Part((content.strip(),), author, Fault.CONTENT_DROPPED))
    return parts


def _contents(content: Any) -> Iterator[str]:
    """Yield the texts of a content, which is a text or a list of typed parts."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for item in content:
            if isinstance(item, dict) and isinstance(item.get("text"), str):
                yield item["text"]
    elif content is not None:
        yield json.dumps(content, ensure_ascii=False)


def _reasoning(message: Mapping[str, Any], contents: Sequence[str]) -> Iterator[Part]:
    """Yield the reasoning of a message: that of a key of its own, and that inside the content."""
    found = [message.get(key) for key in _REASONING_KEYS]
    for content in contents:
        inside, closing, _ = content.rpartition(protocol.THINK_CLOSE)
        if closing:
            found.append(inside.strip().removeprefix(protocol.THINK_OPEN))
    for text in found:
        if isinstance(text, str) and text.strip():
            yield Part((text.strip(),), Author.POLICY, Fault.REASONING_DROPPED)


def _arguments(message: Mapping[str, Any]) -> Iterator[Part]:
    """Yield the texts among the arguments of a message's calls."""
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        function = call.get("function", call) if isinstance(call, dict) else {}
        arguments = function.get("arguments") if isinstance(function, dict) else None
        if isinstance(arguments, str):
            with suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        for text in _texts(arguments):
            if text.strip():
                yield Part(_spelled(text), Author.POLICY, Fault.CONTENT_DROPPED)


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a JSON value, in order."""
    todo = [value]
    while todo:
        item = todo.pop(0)
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            todo = [*item.values(), *todo]
        elif isinstance(item, list):
            todo = [*item, *todo]


def _spelled(text: str) -> tuple[str, ...]:
    """Return the ways to write a text in JSON: plain, or inside a text that is itself JSON."""
    once = json.dumps(text, ensure_ascii=False)[1:-1]
    in_ascii = json.dumps(text)[1:-1]
    twice = json.dumps(once, ensure_ascii=False)[1:-1]
    ascii_twice = json.dumps(in_ascii)[1:-1]
    return tuple(dict.fromkeys((text, once, in_ascii, twice, ascii_twice)))
