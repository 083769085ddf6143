"""Read what other clients log: Harbor's ATIF, the traces of verifiers and the logs of Inspect.

ATIF (Agent Trajectory Interchange Format, version 1.x): a step of the agent holds its message, its
reasoning, its calls and what they returned. Errors name steps by their position, from 1. ATIF has
no place for a gold answer: it is read from an extra column of the row, or else an earlier row must
have it.

verifiers v1 (`traces.jsonl`): a tree of messages that says what was sampled. A trace with several
leaves holds several conversations (a compacted context, another agent), and nothing says which of
them answers the question: it is refused.

Inspect: the samples of an evaluation log; coa/foreign/files.py opens a log.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from coa.foreign.chats import Chat, chat_of, offers_tools, to_row
from coa.foreign.messages import Message, Role, read_message, refusal, role_name
from coa.foreign.record import (
    ForeignRow,
    Format,
    gold_answers_of,
    identifier,
    optional_text,
)
from coa.records.unreadable import UnreadableReason

_ROLES = {"system": "system", "user": "user", "agent": "assistant"}
"""Who acts in a step of ATIF, by its source."""


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
        content = result.get("content") if isinstance(result, dict) else None
        if content is None:
            detail = "a result without content, such as the trajectory of another agent"
            raise refusal(UnreadableReason.NO_OBSERVATION, number, detail=detail)
        call_id = result.get("source_call_id")
        yield read_message({"role": "tool", "content": content, "tool_call_id": call_id}, number)


def is_trace(row: Mapping[str, Any]) -> bool:
    """Recognise a trace: a list `nodes` whose items hold a message."""
    nodes = row.get("nodes")
    first = nodes[0] if isinstance(nodes, list) and nodes else None
    return isinstance(first, dict) and "message" in first


def read_trace_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a trace.

    Raises:
        UnreadableError: It cannot be read.
    """
    nodes: Sequence[Any] = row["nodes"]
    _check_single_path(nodes)
    messages = tuple(_node_message(node, number) for number, node in enumerate(nodes, 1))
    task = row.get("task")
    task = task if isinstance(task, dict) else {}
    data = task.get("data")  # the row of the task, which other versions have in `task` itself
    task = data if isinstance(data, dict) else task
    chat = Chat(
        format=Format.VERIFIERS,
        messages=messages,
        question=optional_text(task.get("question")),
        gold_answers=gold_answers_of(task),
        offers_tools=offers_tools(row),
        model=_model(row),
    )
    return to_row(chat)


def _check_single_path(nodes: Sequence[Any]) -> None:
    """Check that each node follows the one before it."""
    for index, node in enumerate(nodes):
        expected = index - 1 if index else None
        if not isinstance(node, dict):
            detail = "a node that is not an object"
            raise refusal(UnreadableReason.WRONG_FORMAT, index + 1, detail=detail)
        if node.get("parent") != expected:
            detail = f"its parent is {str(node.get('parent'))[:20]}: the trace has several branches"
            raise refusal(UnreadableReason.WRONG_FORMAT, index + 1, detail=detail)


def _node_message(node: Mapping[str, Any], number: int) -> Message:
    message = read_message(node.get("message"), number)
    is_sampled = node.get("sampled") is True
    if is_sampled is not (message.role is Role.ASSISTANT):
        detail = f"a message of the role {message.role} with sampled={str(is_sampled).lower()}"
        raise refusal(UnreadableReason.UNKNOWN_AUTHOR, number, detail=detail)
    return message


def _model(row: Mapping[str, Any]) -> str:
    """Return the model of the first call that names one."""
    calls = row.get("calls")
    for call in calls if isinstance(calls, list) else ():
        model = optional_text(call.get("model")) if isinstance(call, dict) else None
        if model:
            return model
    return ""


def is_sample(row: Mapping[str, Any]) -> bool:
    """Recognise a sample by its columns."""
    has_columns = all(name in row for name in ("id", "epoch", "input", "target"))
    return has_columns and isinstance(row.get("messages"), list)


def read_sample_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a sample.

    Raises:
        UnreadableError: It cannot be read.
    """
    items = row["messages"]
    for number, item in enumerate(items, 1):
        is_policys = isinstance(item, dict) and role_name(item) == Role.ASSISTANT
        if is_policys and item.get("source") == "input":
            detail = "an assistant's message that is part of the input"
            raise refusal(UnreadableReason.UNKNOWN_AUTHOR, number, detail=detail)
    chat = chat_of(Format.INSPECT, row, items)
    output = row.get("output")
    model = optional_text(output.get("model")) if isinstance(output, dict) else None
    return to_row(
        replace(
            chat,
            question=optional_text(row["input"]),
            question_id=identifier(row["id"]),
            model=model or "",
        )
    )
