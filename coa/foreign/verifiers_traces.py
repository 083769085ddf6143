"""Read the traces of verifiers v1 (`traces.jsonl`): a tree of messages that says what was sampled.

A trace with several leaves holds several conversations (a compacted context, another agent), and
nothing says which of them answers the question: it is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from coa.foreign.chat_fields import read_message
from coa.foreign.chat_message import Message, Role, refusal
from coa.foreign.chat_rows import Chat, gold_answers_of, offers_tools, to_row
from coa.foreign.record import ForeignRow, Format, optional_text
from coa.foreign.unreadable import UnreadableReason


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
    task = _task_data(row)
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
    """Check that each node follows the one before it.

    Raises:
        UnreadableError: A node is no object, or follows another one.
    """
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


def _task_data(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the row of the task, which stands in `task.data` or in `task` itself."""
    task = row.get("task")
    if not isinstance(task, dict):
        return {}
    data = task.get("data")
    return data if isinstance(data, dict) else task


def _model(row: Mapping[str, Any]) -> str:
    """Return the model of the first call that names one."""
    calls = row.get("calls")
    for call in calls if isinstance(calls, list) else ():
        model = optional_text(call.get("model")) if isinstance(call, dict) else None
        if model:
            return model
    return ""
