"""Trajectories to session traces, which the Hub's viewer shows turn by turn: JSON lines, one file a session.

The format is the Hub's own (huggingface.co/docs/hub/session-traces-format): a header, then messages. A thought becomes
the reasoning of a turn, an action its tool call, an observation the tool's message, the answer the last turn's text.
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
"""What the parameter of another tool is called where the call does not name it."""


def trace_files(name: SetName, count: int) -> dict[str, bytes]:
    """The first validation rows of a set of trajectories as files of its repository, by path.

    Raises:
        InputError: the set's file is missing or broken.
    """
    rows = islice(tables.read_table(local_path(name, "validation"), GradedTrajectory), count)
    return {
        f"traces/{name}/{position:04}.jsonl": trace(row.trajectory).encode()
        for position, row in enumerate(rows)
    }


def trace(trajectory: Trajectory) -> str:
    """One trajectory as a session."""
    header = {
        "type": "session",
        "harness": HARNESS,
        "id": trajectory.trajectory_id,
        "name": trajectory.question,
        "model": trajectory.model,
    }
    messages = [{"role": "user", "content": trajectory.question}, *_turns(trajectory.steps)]
    lines = [header, *({"type": "message", "message": message} for message in messages)]
    return "".join(json.dumps(line) + "\n" for line in lines)


def _turns(steps: Sequence[Step]) -> Iterator[dict[str, Any]]:
    reasoning, calls = "", 0
    for step in steps:
        if step.kind is StepKind.ACTION:
            calls += 1
            arguments = json.dumps(call_arguments(step.tool or "", step.argument or ""))
            function = {"name": step.tool, "arguments": arguments}
            call = {"id": f"call-{calls}", "type": "function", "function": function}
            yield {
                "role": "assistant",
                "content": "",
                "reasoningContent": reasoning.strip(),
                "toolCalls": [call],
            }
            reasoning = ""
        elif step.kind is StepKind.OBSERVATION:
            yield {
                "role": "tool",
                "content": observation_body(step).strip(),
                "toolCallId": f"call-{calls}",
            }
        elif not protocol.closes_thinking(step):
            reasoning += step.text
    answer = protocol.answer_text(steps).replace(protocol.THINK_CLOSE, "").strip()
    yield {"role": "assistant", "content": answer, "reasoningContent": reasoning.strip()}


def call_arguments(tool: str, argument: str) -> dict[str, Any]:
    """The arguments of a call by their names.

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
    """What a tool returned, without the tags around it."""
    opening, closing = protocol.observation_text(step.tool or "", "\0").split("\0")
    return step.text.removeprefix(opening).removesuffix(closing)
