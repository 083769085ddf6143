"""Read a call of a tool that is written as JSON: `{"name": .., "arguments": {..}}`.

Qwen's, Tongyi's, ReCall's and most chat templates write calls so, between tags of their own or in
a message's `tool_calls`.
"""

import json
from typing import Any, NamedTuple

from coa.foreign.files import storable
from coa.policy.foreign_tags import CODE_CLOSE, CODE_OPEN, end_of_json
from coa.records.unreadable import UnreadableError, UnreadableReason

_ARGUMENTS = ("arguments", "parameters")
"""The names under which templates write the arguments; Llama's templates write the second."""


class ToolCall(NamedTuple):
    """A call that was read."""

    tool: str
    """The tool's name, as written."""
    argument: str
    """The arguments as our record has them: see `argument_text`."""
    arguments: str
    """The arguments as the text of a JSON object: the policy's own text where it wrote one."""
    verbatim: str
    """The whole text that was read."""


def read_tool_call(text: str, offset: int = 0) -> ToolCall:
    """Read the JSON of one call, perhaps followed by the code of a Python call in its tags.

    `offset` is where it begins in the whole text, for errors.

    Raises:
        UnreadableError: it is no JSON object, names no tool or a key twice, has no arguments, or
            continues after them.
    """
    written, code = _cut_code(text, offset)
    fields = _decode(written, offset)
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip():
        raise _not_a_call(offset, "a call without a name", text)
    given = [key for key in _ARGUMENTS if key in fields]
    if len(given) != 1:
        raise _not_a_call(offset, "a call without arguments, or with two sets of them", text)
    arguments = arguments_json({"code": code} if code else fields[given[0]], offset)
    argument = code or argument_text(arguments, offset)
    if not argument:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset, text[:80])
    return ToolCall(name.strip(), argument, arguments, text)


def arguments_json(arguments: Any, offset: int = 0) -> str:
    """Return a call's arguments, a text or an object, as the text of a JSON object.

    Raises:
        UnreadableError: the object holds a value that JSON has not, or is nested too deep.
    """
    if isinstance(arguments, str) and arguments.strip():
        return arguments
    try:
        return json.dumps(arguments or {}, ensure_ascii=False)
    except (RecursionError, TypeError) as error:
        raise _not_a_call(offset, "arguments that JSON cannot hold", str(error)) from error


def argument_text(arguments: Any, offset: int = 0) -> str:
    """Return a call's one text if it has just one argument, else its arguments as JSON.

    A null says that an argument is not given. A text that is itself a JSON object stays in its
    object, or it would be read as one that names arguments.

    Raises:
        UnreadableError: the arguments are not an object, or their JSON cannot be read, or holds a
            character that no table can hold.
    """
    fields = _decode(arguments, offset) if isinstance(arguments, str) else arguments
    if not isinstance(fields, dict):
        raise _not_a_call(offset, "arguments that are not an object", repr(arguments))
    values = [value for value in fields.values() if value is not None]
    if len(values) == 1 and isinstance(values[0], str) and not _is_json_object(values[0]):
        try:
            return storable(values[0]).strip()
        except UnreadableError as error:
            # Its own characters are not those of its JSON: the error names the JSON.
            raise UnreadableError(error.reason, offset, error.detail) from error
    if isinstance(arguments, str):
        return arguments.strip()
    return json.dumps(arguments, ensure_ascii=False)


def _is_json_object(text: str) -> bool:
    if not text.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (RecursionError, ValueError):
        return False


def _cut_code(text: str, offset: int) -> tuple[str, str]:
    """Cut the code of a Python call off; it is empty where there is none."""
    start = text.find(CODE_OPEN, max(end_of_json(text, 0), 0))
    if start < 0 or not text.rstrip().endswith(CODE_CLOSE):
        return text, ""
    code = text[start + len(CODE_OPEN) : text.rindex(CODE_CLOSE)].strip()
    if not code:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset + start, "empty code")
    return text[:start], code


def _decode(text: str, offset: int) -> dict[str, Any]:
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _not_a_call(offset + error.pos, error.msg, text) from error
    except (RecursionError, ValueError) as error:  # ValueError: a key twice, a too long integer
        raise _not_a_call(offset, str(error), text) from error
    if not isinstance(found, dict):
        raise _not_a_call(offset, "not an object", text)
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a key stands twice")
    return fields


def _not_a_call(position: int, what: str, text: str) -> UnreadableError:
    return UnreadableError(UnreadableReason.BAD_CALL, position, f"{what}: {text[:80]}")
