"""Read the calls in the fields of a chat's messages, and in JSON inside their text."""

from collections.abc import Mapping
from typing import Any

from coa.foreign.chat_message import Call, refusal
from coa.foreign.tool_call_json import argument_text, arguments_json, read_tool_call
from coa.foreign.unreadable import UnreadableError, UnreadableReason


def read_calls(item: Mapping[str, Any], number: int) -> tuple[Call, ...]:
    """Read the calls in the fields `tool_calls` and `function_call` of a message.

    Args:
        item: The message as its file has it.
        number: Its position, for errors.

    Raises:
        UnreadableError: A call has no name, or its arguments are not a JSON object.
    """
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
    try:
        arguments = arguments_json(_given(fields.get("arguments")))
        argument = argument_text(arguments)
    except UnreadableError as error:
        detail = f"arguments of {name[:80]!r}: {error.detail}"
        raise refusal(error.reason, number, error.character, detail) from error
    if not argument:
        detail = f"{name[:80]!r} is called with a blank argument"
        raise refusal(UnreadableReason.EMPTY_TURN, number, detail=detail)
    call_id = str(call.get("id") or call.get("tool_call_id") or "")
    return Call(name.strip(), argument, arguments, call_id)


def _given(arguments: Any) -> Any:
    """Leave out the nulls of an object: tables add them for the arguments of other rows."""
    if not isinstance(arguments, dict):
        return arguments
    return {name: value for name, value in arguments.items() if value is not None}


def read_call_text(body: str, number: int, offset: int, *, surface: str) -> Call:
    """Read a call that is written as JSON inside a message's text.

    Args:
        body: The JSON.
        number: The message, for errors.
        offset: Where the JSON begins in the message's text, for errors.
        surface: What the policy wrote around the JSON, and the JSON.

    Raises:
        UnreadableError: It is not the JSON of a call.
    """
    try:
        call = read_tool_call(body, offset)
    except UnreadableError as error:
        raise refusal(error.reason, number, error.character, error.detail) from error
    return Call(call.tool, call.argument, call.arguments, surface=surface)
