"""Rebuild a chat policy's own messages from the record of a trajectory, to continue it.

A message that was sent back is known in full only while its rollout runs. The record keeps the
thought, the call's own arguments and the further calls (`Step.transcribed`, `Step.cut_calls`). From
these a message is rebuilt to the character, but for the ids of its calls, which are ours. Where
something is missing, the reason is said, and nothing is guessed.

`mark_transcribed` writes that record: our tags around thoughts, calls and answers are transcribed,
so the meaning of a call is the policy's, and its characters are not (docs/protocol.md).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from coa.policy import Native
from coa.policy.chat.families import DETAILS, ChatFamily
from coa.records import protocol
from coa.records.trajectory import Step, StepKind

_BROKEN = "‹"  # noqa: RUF001
"""What `protocol.break_tags` leaves of a tag."""


class Unforkable(StrEnum):
    """The reason why a chat policy cannot continue from a point of a trajectory."""

    NO_WAY = "no_way"
    """The family of its server has no way to take the other arm."""
    OPAQUE_STATE = "opaque_state"
    """The server wants signed or encrypted fields of earlier turns back, which no record keeps."""
    NOT_NATIVE = "not_native"
    """An earlier call was written in tags: it has no native arguments."""
    NOT_VERBATIM = "not_verbatim"
    """A thought holds more than reasoning, or tags of ours that were broken: its own text is not
    in the record."""


class UnforkableError(Exception):
    """The messages before a point cannot be rebuilt; `reason` says why."""

    def __init__(self, reason: Unforkable) -> None:
        super().__init__(reason)
        self.reason = reason


class Turn(NamedTuple):
    """One turn of a policy that ended in a call."""

    start: int
    """Where it begins: a character offset into the steps' text."""
    thoughts: tuple[Step, ...]
    """The steps before the call."""
    call: Step


def acting_turns(steps: Sequence[Step]) -> list[Turn]:
    """Find the turns that ended in a call, in their order."""
    turns: list[Turn] = []
    start = 0
    position = 0
    thoughts: list[Step] = []
    for step in steps:
        position += len(step.text)
        if step.kind is StepKind.ACTION:
            turns.append(Turn(start, tuple(thoughts), step))
        elif step.kind is not StepKind.OBSERVATION:
            thoughts.append(step)
            continue
        start = position
        thoughts = []
    return turns


def rebuild_messages(steps: Sequence[Step], family: ChatFamily) -> tuple[str, ...]:
    """Rebuild the policy's message of each turn that ended in a call, as it was sent back.

    Where something is not in the record, it is an `UnforkableError`.
    """
    messages = []
    for number, turn in enumerate(acting_turns(steps)):
        if DETAILS in family.returns:
            raise UnforkableError(Unforkable.OPAQUE_STATE)
        message = _rebuild(turn, number, family)
        messages.append(msgspec.json.encode(message).decode())
    return tuple(messages)


def begun_thought(steps: Sequence[Step]) -> str:
    """Return the thought at the end of the steps, to continue; empty where there is none."""
    if not steps or steps[-1].kind is not StepKind.THOUGHT:
        return ""
    if steps[-1].transcribed is not None:
        raise UnforkableError(Unforkable.NOT_VERBATIM)
    return steps[-1].text


def _rebuild(turn: Turn, number: int, family: ChatFamily) -> dict[str, Any]:
    call = turn.call
    is_in_tags = any(step.kind is not StepKind.THOUGHT for step in turn.thoughts)
    if call.transcribed is None or is_in_tags:
        raise UnforkableError(Unforkable.NOT_NATIVE)
    reasoning, content = "", ""
    for thought in turn.thoughts:
        reasoning, content = _parts(thought)
    message: dict[str, Any] = {"role": "assistant", "content": content}
    for name in family.returns:
        if reasoning:
            message[name] = reasoning
    functions = [{"name": call.tool, "arguments": call.transcribed}]
    for further in call.cut_calls:
        functions.append(msgspec.json.decode(further))
    message["tool_calls"] = []
    for position, function in enumerate(functions):
        call_id = f"call_{number}_{position}"
        message["tool_calls"].append({"id": call_id, "type": "function", "function": function})
    return message


def _parts(thought: Step) -> tuple[str, str]:
    """Take a thought apart into the reasoning and what was said beside the call."""
    own = thought.transcribed
    if own is None:
        return thought.text, ""
    if protocol.break_tags(own) == thought.text:
        return own, ""
    said = thought.text[len(own) :]
    # Between two texts without blanks a blank line was written by us; only other cases are sure.
    is_sure = not own or own[-1].isspace() or said.isspace()
    if not is_sure or protocol.break_tags(own) != own or _BROKEN in said:
        raise UnforkableError(Unforkable.NOT_VERBATIM)
    return own, said


def mark_transcribed(steps: Iterable[Step], native: Native | None) -> tuple[Step, ...]:
    """Note the originals at the steps of one turn; without `native` the policy wrote the text."""
    if native is None:
        return tuple(steps)
    marked = []
    for step in steps:
        if step.kind is StepKind.ACTION:
            step = replace(step, transcribed=native.arguments, cut_calls=native.cut_calls)
        elif step.kind is StepKind.ANSWER:
            step = replace(step, transcribed=native.content)
        else:
            step = replace(step, transcribed=native.thought)
        marked.append(step)
    return tuple(marked)
