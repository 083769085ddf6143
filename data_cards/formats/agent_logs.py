"""Write trajectories as JSON lines: for OpenAI fine-tuning, slime, prime-rl, as ATIF and ADP.

The schemas are OpenAI's FineTuneChatRequestInput (openai-openapi), what slime's
MultiTurnLossMaskGenerator and prime-rl's `SFTDataset` read, Harbor's `Trajectory` (harbor 0.25)
and neulab's `Trajectory` (agent-data-protocol 1.3 to 1.5).
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from coa.trajectory import Trajectory
from data_cards.catalogue import SPLITS
from data_cards.formats.messages import CallForm, chat_messages
from data_cards.formats.row_files import write_lines
from data_cards.formats.source import Source
from data_cards.formats.traces import HARNESS
from data_cards.formats.turns import Turn, call_arguments, tool_schemas, turns_of

ATIF_VERSION = "ATIF-v1.8"
ADP_VERSION = "1.3.0"
"""The oldest version whose calls name their results; later ones up to 1.5.0 read it."""
RowWriter = Callable[[Trajectory, str, Sequence[str]], dict[str, Any]]
"""Makes a row of a trajectory, the user's message and the tools of the set."""


def openai_row(trajectory: Trajectory, asked: str, tools: Sequence[str]) -> dict[str, Any]:
    """Make a row for OpenAI's supervised fine-tuning: calls and results name each other by id."""
    messages = _messages_with_json(trajectory, asked, tools)
    call_id = ""
    num_calls = 0
    for message in messages:
        for call in message.get("tool_calls", ()):
            num_calls += 1
            call_id = _call_id(num_calls)
            call["id"] = call_id
        if message["role"] == "tool":
            del message["name"]
            message["tool_call_id"] = call_id
    row: dict[str, Any] = {"messages": messages}
    if tools:
        row["tools"] = tool_schemas(tools)
        row["parallel_tool_calls"] = False
    return row


def prime_rl_row(trajectory: Trajectory, asked: str, tools: Sequence[str]) -> dict[str, Any]:
    """Make prime-rl's row: arguments and `tools` as JSON text, which it decodes."""
    row: dict[str, Any] = {"id": trajectory.trajectory_id}
    row["messages"] = _messages_with_json(trajectory, asked, tools)
    if tools:
        row["tools"] = json.dumps(tool_schemas(tools))
    return row


def slime_row(trajectory: Trajectory, asked: str, tools: Sequence[str]) -> dict[str, Any]:
    """Make slime's row: `step_loss_mask` is 1 for what the policy said, `metadata` has the tools.

    Arguments are objects, because chat templates write a text as a text in quotes.
    """
    form = CallForm(tuple(tools), parameters=())
    messages = chat_messages(asked, trajectory.steps, form)
    for message in messages:
        message["step_loss_mask"] = int(message["role"] == "assistant")
    metadata: dict[str, Any] = {"id": trajectory.trajectory_id}
    if tools:
        metadata["tools"] = tool_schemas(tools)
    return {"messages": messages, "metadata": metadata}


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
        "tool_call_id": _call_id(number),
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
    call_id = _call_id(number)
    action["tool_call_id"] = call_id
    seen = {
        "class_": "text_observation",
        "tool_call_id": call_id,
        "content": turn.result,
        "source": "environment",
    }
    return [action, seen]


def _details(trajectory: Trajectory) -> dict[str, str]:
    """Return what is told of a trajectory beside its steps."""
    return {
        "question_id": trajectory.question_id,
        "origin": trajectory.origin,
        "license": trajectory.license,
    }


def _messages_with_json(
    trajectory: Trajectory, asked: str, tools: Sequence[str]
) -> list[dict[str, Any]]:
    """Return a trajectory's messages with the arguments of calls as JSON text."""
    return chat_messages(asked, trajectory.steps, CallForm(tuple(tools), None))


def _call_id(number: int) -> str:
    return f"call_{number}"


def _write(family: str, row_of: RowWriter, folder: Path, source: Source) -> dict[str, int]:
    """Write each set with trajectories to a folder of its own, a file for each split.

    Raises:
        InputError: a set is missing or broken.
    """
    counts = {}
    for name in source.with_trajectories:
        tools = source.call_form(name).tools
        for split in SPLITS:
            trajectories = source.trajectories(name, split)
            rows = (row_of(one, source.asked(one.question), tools) for one in trajectories)
            path = folder / name / f"{split}.jsonl"
            counts[f"{family}/{name}/{split}"] = write_lines(path, rows)
    return counts


write_openai = partial(_write, "openai", openai_row)
write_prime_rl = partial(_write, "prime_rl", prime_rl_row)
write_slime = partial(_write, "slime", slime_row)
write_atif = partial(_write, "atif", atif_row)
write_adp = partial(_write, "adp", adp_row)
