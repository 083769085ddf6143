"""Cut a trajectory into turns: what the policy thought, the call it made, and what came back.

Formats with a message for every call (TRL, OpenAI, ATIF, session traces) are written from turns.
Our tags are left out there, and a marker that the scaffold inserted counts as the policy's.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coa import protocol
from coa.protocol import observation_body
from coa.trajectory import Step, StepKind

PARAMETERS = {"search": "query", "open": "url", "calculate": "expression"}
"""The one parameter of each tool of this project."""
_DESCRIPTIONS = {
    "search": "Search for passages.",
    "open": "Read a page.",
    "calculate": "Evaluate an arithmetic expression.",
}
_UNNAMED = "argument"
"""The name for the parameter of another tool, where the call does not name it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The part of a trajectory up to a result, or up to its end."""

    thought: str
    """What the policy thought, without our tags."""
    call: Step | None
    """The action; None in the last turn of a trajectory that ends with its answer."""
    result: str | None
    """What the tool answered, without the tags around it; None where nothing came back."""
    answer: str
    """The text after the end of the thinking, in the last turn."""


def turns_of(steps: Sequence[Step]) -> Iterator[Turn]:
    """Yield the turns of a trajectory; one with an answer, perhaps an empty one, is the last."""
    thought = ""
    call: Step | None = None
    for step in steps:
        if call is not None and step.kind is not StepKind.OBSERVATION:
            yield Turn(thought, call, None, "")
            thought = ""
            call = None
        if step.kind is StepKind.ACTION:
            call = step
        elif step.kind is StepKind.OBSERVATION:
            yield Turn(thought, call, observation_body(step).strip(), "")
            thought = ""
            call = None
        elif step.kind is not StepKind.MARKER and not protocol.closes_thinking(step):
            thought += step.text
    if call is not None:
        yield Turn(thought, call, None, "")
        thought = ""
    answer = protocol.answer_text(steps).replace(protocol.THINK_CLOSE, "").strip()
    yield Turn(thought, None, None, answer)


def call_arguments(tool: str, argument: str) -> dict[str, Any]:
    """Return the arguments of a call by their names.

    A tool of an MCP server is given either a JSON object, which names them, or the value of its one
    parameter, whose name no trajectory holds.
    """
    if tool in PARAMETERS:
        return {PARAMETERS[tool]: argument}
    try:
        given = json.loads(argument)
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {_UNNAMED: argument}


def tool_schemas(tools: Sequence[str]) -> list[dict[str, Any]]:
    """Describe tools as chat templates and servers read them: a JSON schema for each.

    A tool of another maker takes any argument, because no trajectory holds its parameters.
    """
    found = []
    for tool in tools:
        parameter = PARAMETERS.get(tool)
        properties = {}
        if parameter:
            properties[parameter] = {"type": "string"}
        parameters = {
            "type": "object",
            "properties": properties,
            "required": list(properties),
        }
        function = {
            "name": tool,
            "description": _DESCRIPTIONS.get(tool, f"The tool {tool}."),
            "parameters": parameters,
        }
        found.append({"type": "function", "function": function})
    return found
