"""Write trajectories as session traces, which the Hub's viewer shows turn by turn.

The format is the Hub's own (huggingface.co/docs/hub/session-traces-format): one file of JSON lines
for each session, a header and then messages. A thought becomes the reasoning of a turn, an action
its tool call, an observation the tool's message, and the answer the last turn's text.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Step, Trajectory
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.formats.messages import call_arguments, turns_of

HARNESS = "coa-toolkit"


def trace_files(name: SetName, count: int) -> dict[str, bytes]:
    """Return the first validation rows of a set as trace files, by their path in its repository."""
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
    for message in (question, *_messages(trajectory.steps)):
        lines.append({"type": "message", "message": message})
    return "".join(json.dumps(line) + "\n" for line in lines)


def _messages(steps: Sequence[Step]) -> Iterator[dict[str, Any]]:
    """Yield the messages after the question."""
    num_calls = 0
    for turn in turns_of(steps):
        if turn.call is None:
            yield {
                "role": "assistant",
                "content": turn.answer,
                "reasoningContent": turn.thought.strip(),
            }
            continue
        num_calls += 1
        yield {
            "role": "assistant",
            "content": "",
            "reasoningContent": turn.thought.strip(),
            "toolCalls": [_tool_call(turn.call, num_calls)],
        }
        if turn.result is not None:
            yield {"role": "tool", "content": turn.result, "toolCallId": f"call-{num_calls}"}


def _tool_call(step: Step, number: int) -> dict[str, Any]:
    arguments = step.transcribed
    if arguments is None:
        arguments = json.dumps(call_arguments(step.tool or "", step.argument or ""))
    function = {"name": step.tool, "arguments": arguments}
    return {"id": f"call-{number}", "type": "function", "function": function}
