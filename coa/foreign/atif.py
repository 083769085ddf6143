"""Read ATIF, Harbor's Agent Trajectory Interchange Format, version 1.x.

A step of the agent holds its message, its reasoning, its calls and what they returned. Errors name
steps by their position, from 1. ATIF has no place for a gold answer: it is read from an extra
column of the row, or else an earlier row must have it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from coa.foreign.chat_fields import read_message
from coa.foreign.chat_message import Message, refusal
from coa.foreign.chat_rows import Chat, gold_answers_of, to_row
from coa.foreign.record import ForeignRow, Format, optional_text
from coa.foreign.unreadable import UnreadableReason

_ROLES = {"system": "system", "user": "user", "agent": "assistant"}


def is_atif(row: Mapping[str, Any]) -> bool:
    """Recognise a trajectory of ATIF by the version of its schema."""
    version = row.get("schema_version")
    return isinstance(version, str) and version.startswith("ATIF-v1.")


def read_atif_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a trajectory of ATIF.

    Raises:
        UnreadableError: It cannot be read.
    """
    agent = row.get("agent")
    described = agent if isinstance(agent, dict) else {}
    steps = row.get("steps")
    messages: list[Message] = []
    for number, step in enumerate(steps if isinstance(steps, list) else (), 1):
        messages += _step_messages(step, number)
    chat = Chat(
        format=Format.ATIF,
        messages=tuple(messages),
        gold_answers=gold_answers_of(row),
        offers_tools=bool(described.get("tool_definitions")),
        model=optional_text(described.get("model_name")) or "",
    )
    return to_row(chat)


def _step_messages(step: Any, number: int) -> Iterator[Message]:
    """Yield the messages of a step: who acted, then what the calls returned."""
    if not isinstance(step, dict):
        raise refusal(UnreadableReason.WRONG_FORMAT, number, detail="a step that is not an object")
    source = step.get("source")
    role = _ROLES.get(source) if isinstance(source, str) else None
    if role is None:
        detail = f"the source {str(source)[:80]!r}"
        raise refusal(UnreadableReason.UNKNOWN_AUTHOR, number, detail=detail)
    yield read_message({**step, "role": role, "content": step.get("message")}, number)
    observation = step.get("observation")
    results = observation.get("results") if isinstance(observation, dict) else None
    for result in results if isinstance(results, list) else ():
        yield _result_message(result, number)


def _result_message(result: Any, number: int) -> Message:
    content = result.get("content") if isinstance(result, dict) else None
    if content is None:
        detail = "a result without content, such as the trajectory of another agent"
        raise refusal(UnreadableReason.NO_OBSERVATION, number, detail=detail)
    call_id = result.get("source_call_id")
    return read_message({"role": "tool", "content": content, "tool_call_id": call_id}, number)
