"""Write trajectories as JSON lines: logs of agents in the forms ATIF and ADP.

The schemas are Harbor's `Trajectory` (harbor 0.25) and neulab's `Trajectory` (agent-data-protocol
1.3 to 1.5).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from coa.records.trajectory import Trajectory
from data_cards.catalogue import SetName
from data_cards.formats.messages import Turn, call_arguments, tool_schemas, turns_of
from data_cards.formats.published_rows import call_form_of
from data_cards.formats.source import Row, Source, Table
from data_cards.formats.traces import HARNESS

ATIF_VERSION = "ATIF-v1.8"
ADP_VERSION = "1.3.0"
"""The oldest version whose calls name their results; later ones up to 1.5.0 read it."""
RowWriter = Callable[[Trajectory, str, Sequence[str]], dict[str, Any]]
"""Makes a row of a trajectory, the user's message and the tools of the set."""


def atif_row(trajectory: Trajectory, asked: str, tools: Sequence[str]) -> dict[str, Any]:
    """Make a trajectory of ATIF: a step for each turn, with its reasoning, call and result."""
    steps: list[dict[str, Any]] = [{"step_id": 1, "source": "user", "message": asked}]
    for step_id, turn in enumerate(turns_of(trajectory.steps), 2):
        steps.append({"step_id": step_id, "source": "agent", **_atif_turn(turn, step_id - 1)})
    agent: dict[str, Any] = {
        "name": trajectory.origin or HARNESS,
        "version": trajectory.prompt_hash or "unknown",
        "model_name": trajectory.model,
    }
    if tools:
        agent["tool_definitions"] = tool_schemas(tools)
    return {
        "schema_version": ATIF_VERSION,
        "session_id": trajectory.trajectory_id,
        "trajectory_id": trajectory.trajectory_id,
        "agent": agent,
        "steps": steps,
        "extra": _details(trajectory),
    }


def _atif_turn(turn: Turn, number: int) -> dict[str, Any]:
    """Return what a step of ATIF says of a turn."""
    step: dict[str, Any] = {"message": turn.answer}
    thought = turn.thought.strip()
    if thought:
        step["reasoning_content"] = thought
    if turn.call is None:
        return step
    call = {
        "tool_call_id": f"call_{number}",
        "function_name": turn.call.tool,
        "arguments": call_arguments(turn.call.tool or "", turn.call.argument or ""),
    }
    step["tool_calls"] = [call]
    if turn.result is not None:
        result = {"source_call_id": call["tool_call_id"], "content": turn.result}
        step["observation"] = {"results": [result]}
    return step


def adp_row(trajectory: Trajectory, asked: str, tools: Sequence[str]) -> dict[str, Any]:
    """Make a trajectory of ADP, where `tools` have no place: actions and what was observed."""
    content: list[dict[str, Any]] = [
        {"class_": "text_observation", "content": asked, "source": "user"}
    ]
    for number, turn in enumerate(turns_of(trajectory.steps), 1):
        content += _adp_turn(turn, number)
    return {
        "schema_version": ADP_VERSION,
        "id": trajectory.trajectory_id,
        "content": content,
        "details": {"model": trajectory.model, **_details(trajectory)},
    }


def _adp_turn(turn: Turn, number: int) -> list[dict[str, Any]]:
    """Return a turn's action, and its result; both name the call where there is a result."""
    thought = turn.thought.strip() or None
    if turn.call is None:
        said = {"class_": "message_action", "content": turn.answer, "reasoning_content": thought}
        return [said]
    action: dict[str, Any] = {
        "class_": "api_action",
        "function": turn.call.tool,
        "kwargs": call_arguments(turn.call.tool or "", turn.call.argument or ""),
        "reasoning_content": thought,
    }
    if turn.result is None:
        return [action]
    call_id = f"call_{number}"
    action["tool_call_id"] = call_id
    seen = {
        "class_": "text_observation",
        "tool_call_id": call_id,
        "content": turn.result,
        "source": "environment",
    }
    return [action, seen]


def _details(trajectory: Trajectory) -> dict[str, str]:
    """Return what is known of a trajectory beside its steps."""
    return {
        "question_id": trajectory.question_id,
        "origin": trajectory.origin,
        "license": trajectory.license,
    }


def atif(source: Source, name: SetName) -> Table:
    """Make each trajectory a log of ATIF."""
    return _logs(source, name, atif_row)


def adp(source: Source, name: SetName) -> Table:
    """Make each trajectory a log of ADP."""
    return _logs(source, name, adp_row)


def _logs(source: Source, name: SetName, row_of: RowWriter) -> Table:
    tools = call_form_of(name).tools

    def rows(split: str) -> Iterator[Row]:
        for trajectory in source.trajectories(name, split):
            yield row_of(trajectory, source.asked(trajectory.question), tools)

    return Table(rows)
