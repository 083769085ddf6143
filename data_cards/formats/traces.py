"""Write trajectories as session traces, which the Hub's viewer shows turn by turn.

The format is the Hub's own (huggingface.co/docs/hub/session-traces-format): one file of JSON lines
for each session, a header and then messages. A thought becomes the reasoning of a turn, an action
its tool call, an observation the tool's message, and the answer the last turn's text.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from coa import protocol, tables
from coa.graded import GradedTrajectory
from coa.trajectory import Step, StepKind, Trajectory
from data_cards.catalogue import SetName, local_path

HARNESS = "coa-toolkit"
_PARAMETERS = {"search": "query", "open": "url", "calculate": "expression"}
"""The one parameter of each tool of this project."""
_UNNAMED = "argument"
"""The name for the parameter of another tool, where the call does not name it."""


def trace_files(name: SetName, count: int) -> dict[str, bytes]:
    """Return the first validation rows of a set as trace files, by their path in its repository.

    Raises:
        InputError: the set's file is missing or broken.
    """
    rows = tables.read_table(local_path(name, "validation"), GradedTrajectory)
    files = {}
    for position, row in enumerate(islice(rows, count)):
        files[f"traces/{name}/{position:04}.jsonl"] = trace(row.trajectory).encode()
    return files


def trace(trajectory: Trajectory) -> str:
    """Write one trajectory as a session; a native call keeps its own arguments."""
    lines: list[dict[str, Any]] = [
        {
            "type": "session",
            "harness": HARNESS,
            "id": trajectory.trajectory_id,
            "name": trajectory.question,
            "model": trajectory.model,
        }
    ]
    question = {"role": "user", "content": trajectory.question}
    for message in (question, *_turns(trajectory.steps)):
        lines.append({"type": "message", "message": message})
    return "".join(json.dumps(line) + "\n" for line in lines)


def _turns(steps: Sequence[Step]) -> Iterator[dict[str, Any]]:
    """Yield the messages after the question."""
    reasoning = ""
    num_calls = 0
    for step in steps:
        if step.kind is StepKind.ACTION:
            num_calls += 1
            yield {
                "role": "assistant",
                "content": "",
                "reasoningContent": reasoning.strip(),
                "toolCalls": [_tool_call(step, num_calls)],
            }
            reasoning = ""
        elif step.kind is StepKind.OBSERVATION:
            yield {
                "role": "tool",
                "content": observation_body(step).strip(),
                "toolCallId": f"call-{num_calls}",
            }
        elif not protocol.closes_thinking(step):
            reasoning += step.text
    answer = protocol.answer_text(steps).replace(protocol.THINK_CLOSE, "").strip()
    yield {"role": "assistant", "content": answer, "reasoningContent": reasoning.strip()}


def _tool_call(step: Step, number: int) -> dict[str, Any]:
    arguments = step.transcribed
    if arguments is None:
        arguments = json.dumps(call_arguments(step.tool or "", step.argument or ""))
    function = {"name": step.tool, "arguments": arguments}
    return {"id": f"call-{number}", "type": "function", "function": function}


def call_arguments(tool: str, argument: str) -> dict[str, Any]:
    """Return the arguments of a call by their names.

    A tool of an MCP server is given either a JSON object, which names them, or the value of its one
    parameter, whose name no trajectory holds.
    """
    if tool in _PARAMETERS:
        return {_PARAMETERS[tool]: argument}
    try:
        given = json.loads(argument)
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {_UNNAMED: argument}


def observation_body(step: Step) -> str:
    """Return what a tool answered, without the tags around it."""
    opening, closing = protocol.observation_text(step.tool or "", "\0").split("\0")
    return step.text.removeprefix(opening).removesuffix(closing)
