"""Write trajectories as chat messages with tool calls, as TRL, verl and chat templates read them.

A thought stands in the `content` of its message, between the tags of thinking: Qwen2.5's and
Llama's chat templates leave out a `reasoning_content`, while those of reasoning models find the
thought in the content. Arguments are an object where all calls of a set have the same parameters,
because Qwen2.5's template writes a text as a text in quotes. Elsewhere they are JSON text: Arrow
would join their schemas and give every call the parameters of all tools.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from coa import protocol
from coa.trajectory import Step, StepKind
from data_cards.formats.turns import Turn, call_arguments, tool_schemas, turns_of


@dataclass(frozen=True, slots=True)
class CallForm:
    """How the calls of a set are written: one form for all rows of both splits."""

    tools: tuple[str, ...]
    """The tools that are called, sorted."""
    parameters: tuple[str, ...] | None
    """The parameters of every call; None where calls differ and arguments are JSON text."""

    @property
    def tools_json(self) -> str:
        """The tools' schemas as JSON text."""
        return json.dumps(tool_schemas(self.tools))

    @property
    def schema(self) -> pa.DataType:
        """The type of a list of messages."""
        fields = [("role", pa.string()), ("content", pa.string())]
        if not self.tools:
            return pa.list_(pa.struct(fields))
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
    """Return the messages of a trajectory.

    Args:
        content: The user's message.
        steps: The steps after the prompt.
        form: How calls are written.
    """
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    for turn in turns_of(steps):
        messages += _turn_messages(turn, form)
    return messages


def _turn_messages(turn: Turn, form: CallForm) -> list[dict[str, Any]]:
    thought = thought_block(turn.thought)
    if turn.call is None:
        blank = "\n\n" if thought and turn.answer else ""
        return [{"role": "assistant", "content": f"{thought}{blank}{turn.answer}"}]
    function = {"name": turn.call.tool, "arguments": form.arguments(turn.call)}
    call = {"type": "function", "function": function}
    said = {"role": "assistant", "content": thought, "tool_calls": [call]}
    messages: list[dict[str, Any]] = [said]
    if turn.result is not None:
        messages.append({"role": "tool", "name": turn.call.tool, "content": turn.result})
    return messages


def thought_block(thought: str) -> str:
    """Put a thought between the tags of thinking; empty where there is none."""
    text = thought.strip()
    return f"{protocol.THINK_OPEN}\n{text}\n{protocol.THINK_CLOSE}" if text else ""
