"""Write trajectories as turns, and turns as chat messages with tool calls.

A turn is what the policy thought, the call that it made, and what came back. Formats with a message
for every call are written from turns. Our tags are left out there, and a marker that the scaffold
inserted counts as the policy's.

In messages a thought is in the `content`, between the tags of thinking: Qwen2.5's and Llama's
chat templates leave out a `reasoning_content`, while those of reasoning models find the thought in
the content. Arguments are an object where all calls of a run's sets have the same parameters,
because Qwen2.5's template writes a text as a text in quotes. Elsewhere they are JSON text: Arrow
would join their schemas and give every call the parameters of all tools. Messages without calls
have an empty list of them, so all sets of a run have one schema and can be concatenated.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from coa.records import protocol
from coa.records.protocol import observation_body
from coa.records.trajectory import Step, StepKind

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


@dataclass(frozen=True, slots=True)
class CallForm:
    """How calls are written: one form for all rows of all sets of a run."""

    tools: tuple[str, ...]
    """The tools that are called in one set, sorted."""
    parameters: tuple[str, ...] | None
    """The parameters of every call in any set; None where calls differ, or there are none, and
    arguments are JSON text."""

    @property
    def tools_json(self) -> str:
        """The tools' schemas as JSON text."""
        return json.dumps(tool_schemas(self.tools))

    @property
    def schema(self) -> pa.DataType:
        """The type of a list of messages."""
        fields = [("role", pa.string()), ("content", pa.string())]
        arguments: pa.DataType = pa.string()
        if self.parameters is not None:
            arguments = pa.struct([(name, pa.string()) for name in self.parameters])
        function = pa.struct([("name", pa.string()), ("arguments", arguments)])
        call = pa.struct([("type", pa.string()), ("function", function)])
        fields += [("name", pa.string()), ("tool_calls", pa.list_(call))]
        return pa.list_(pa.struct(fields))

    def arguments(self, call: Step) -> dict[str, Any] | str:
        """Return the arguments of a call."""
        found = call_arguments(call.tool or "", call.argument or "")
        return json.dumps(found, ensure_ascii=False) if self.parameters is None else found


PLAIN_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
"""The type of a prompt that is one message."""


def call_form(trajectories: Iterable[Sequence[Step]]) -> CallForm:
    """Find the form that holds the calls of all these trajectories."""
    tools: set[str] = set()
    shapes: set[tuple[str, ...]] = set()
    is_text = True
    for steps in trajectories:
        for step in steps:
            if step.kind is not StepKind.ACTION:
                continue
            tools.add(step.tool or "")
            arguments = call_arguments(step.tool or "", step.argument or "")
            shapes.add(tuple(arguments))
            is_text = is_text and all(isinstance(value, str) for value in arguments.values())
    has_one_shape = len(shapes) == 1 and is_text and shapes != {()}
    return CallForm(tuple(sorted(tools)), next(iter(shapes)) if has_one_shape else None)


def user_content(question: str) -> str:
    """Return a question as the user's message: on one line, without tags that could act."""
    return " ".join(protocol.neutralise(question).split())


def chat_messages(content: str, steps: Sequence[Step], form: CallForm) -> list[dict[str, Any]]:
    """Return the messages of a trajectory."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    for turn in turns_of(steps):
        thought = thought_block(turn.thought)
        if turn.call is None:
            blank = "\n\n" if thought and turn.answer else ""
            messages.append({"role": "assistant", "content": f"{thought}{blank}{turn.answer}"})
            continue
        function = {"name": turn.call.tool, "arguments": form.arguments(turn.call)}
        call = {"type": "function", "function": function}
        messages.append({"role": "assistant", "content": thought, "tool_calls": [call]})
        if turn.result is not None:
            messages.append({"role": "tool", "name": turn.call.tool, "content": turn.result})
    return messages


def table_messages(content: str, steps: Sequence[Step], form: CallForm) -> list[dict[str, Any]]:
    """Return the messages of a trajectory as tables have them: each with a list of calls."""
    messages = chat_messages(content, steps, form)
    for message in messages:
        message.setdefault("tool_calls", [])
    return messages


def thought_block(thought: str) -> str:
    """Put a thought between the tags of thinking; empty where there is none."""
    text = thought.strip()
    return f"{protocol.THINK_OPEN}\n{text}\n{protocol.THINK_CLOSE}" if text else ""
