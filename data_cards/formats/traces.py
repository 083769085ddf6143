"""Write trajectories as session traces, which the Hub's viewer shows turn by turn.

The format is the Hub's own (huggingface.co/docs/hub/session-traces-format): one file of JSON lines
for each session, a header and then messages. A thought becomes the reasoning of a turn, an action
its tool call, an observation the tool's message, and the answer the last turn's text.
"""

import json
from itertools import islice
from typing import Any

from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Trajectory
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
    messages: list[dict[str, Any]] = [{"role": "user", "content": trajectory.question}]
    for number, turn in enumerate(turns_of(trajectory.steps), 1):
        said = {"role": "assistant", "content": turn.answer}
        said["reasoningContent"] = turn.thought.strip()
        messages.append(said)
        if turn.call is None:
            continue
        arguments = turn.call.transcribed
        if arguments is None:
            given = call_arguments(turn.call.tool or "", turn.call.argument or "")
            arguments = json.dumps(given)
        function = {"name": turn.call.tool, "arguments": arguments}
        call_id = f"call-{number}"
        messages[-1]["toolCalls"] = [{"id": call_id, "type": "function", "function": function}]
        if turn.result is not None:
            messages.append({"role": "tool", "content": turn.result, "toolCallId": call_id})
    lines: list[dict[str, Any]] = [
        {
            "type": "session",
            "harness": HARNESS,
            "id": trajectory.trajectory_id,
            "name": trajectory.question,
            "model": trajectory.model,
        }
    ]
    lines += [{"type": "message", "message": message} for message in messages]
    return "".join(json.dumps(line) + "\n" for line in lines)
