"""Turn a chat's messages into the steps of a trajectory.

The steps hold the texts of the file, in their order. `Step.transcribed` holds the arguments of a
call and the text of the answer, because our tags will be written around both.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

from coa.foreign.chat_as_text import has_calls_in_tags
from coa.foreign.chat_message import Call, Message, Role, refusal
from coa.foreign.chat_tags import is_tool_response, without_tags
from coa.foreign.step_makers import observation_step, thought_steps
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Author, Outcome, Step, StepKind


def chat_steps(turns: Sequence[Message]) -> tuple[Step, ...]:
    """Read the messages after the prompt.

    The answer is the last message, which must be the policy's and call no tool. Of several calls in
    one turn the first is kept if only it was answered, as a chat server's teacher is run here.

    Raises:
        UnreadableError: A message is the user's or the runtime's, a call has no response or a
            response no call, several calls of a turn were answered, or there is no answer.
    """
    steps: list[Step] = []
    waiting: tuple[Call, ...] = ()
    has_fields = any(message.calls or message.role is Role.TOOL for message in turns)
    for message in map(without_tags, turns):
        if message.role is Role.ASSISTANT:
            if not has_fields and has_calls_in_tags(message.content):
                detail = "a call in the tags of another format"
                raise refusal(UnreadableReason.MISPLACED_TAG, message.number, detail=detail)
            if waiting:
                detail = f"no response to the call of {waiting[0].name[:80]!r}"
                raise refusal(UnreadableReason.NO_OBSERVATION, message.number, detail=detail)
            is_last = message.number == turns[-1].number
            steps += _policy_steps(message, is_last=is_last)
            waiting = message.calls
        elif _is_response(message, waiting):
            _check_answers(message, waiting)
            steps.append(_observation(message, steps[-1].tool))
            waiting = ()
        else:
            raise _misplaced(message, steps)
    if waiting:
        detail = f"no response to the call of {waiting[0].name[:80]!r}"
        raise refusal(UnreadableReason.NO_OBSERVATION, turns[-1].number, detail=detail)
    if not steps or steps[-1].kind is not StepKind.ANSWER:
        number = turns[-1].number if turns else 0
        detail = "the last message is not an answer of the policy"
        raise refusal(UnreadableReason.NO_ANSWER, number, detail=detail)
    return tuple(steps)


def _is_response(message: Message, waiting: tuple[Call, ...]) -> bool:
    """Return whether a message is a tool's; a user's is where it holds nothing else."""
    if not waiting:
        return False
    is_framed = message.role is Role.USER and is_tool_response(message.content)
    return is_framed or message.role is Role.TOOL


def _check_answers(message: Message, waiting: tuple[Call, ...]) -> None:
    """Check that a tool's message answers the first call of the turn.

    Raises:
        UnreadableError: It answers another one, or does not say which of several.
    """
    first = waiting[0]
    if message.call_id and first.call_id:
        if message.call_id == first.call_id:
            return
        if message.call_id not in [call.call_id for call in waiting]:
            detail = f"the response to a call {message.call_id[:80]!r}, which was not made"
            raise refusal(UnreadableReason.WRONG_FORMAT, message.number, detail=detail)
    if len(waiting) > 1:
        detail = f"one turn made {len(waiting)} calls"
        raise refusal(UnreadableReason.PARALLEL_CALLS, message.number, detail=detail)


def _misplaced(message: Message, steps: Sequence[Step]) -> UnreadableError:
    """Make the error for a message of the user, the runtime or a tool where none may be."""
    is_second = len(steps) > 1 and bool(steps[-2].cut_calls)
    if message.role is Role.TOOL and is_second:
        detail = "a second call of one turn was answered"
        return refusal(UnreadableReason.PARALLEL_CALLS, message.number, detail=detail)
    if message.role is Role.USER:
        detail = "a user's message that is not wholly the response to a call"
        return refusal(UnreadableReason.UNKNOWN_AUTHOR, message.number, detail=detail)
    detail = f"a message of the role {message.role} where none is expected"
    return refusal(UnreadableReason.WRONG_FORMAT, message.number, detail=detail)


def _policy_steps(message: Message, *, is_last: bool) -> list[Step]:
    """Return the thoughts of a turn, and its call or the answer."""
    steps: list[Step] = []
    for thought in message.thoughts:
        steps += thought_steps(thought)
    if message.calls:
        steps += thought_steps(message.content)
        steps.append(_action(message))
    elif is_last and message.content.strip():
        answer = message.content
        steps.append(Step(StepKind.ANSWER, Author.POLICY, answer, transcribed=answer))
    else:
        steps += thought_steps(message.content)
    if not "".join(step.text for step in steps).strip():
        raise refusal(UnreadableReason.EMPTY_TURN, message.number)
    return steps


def _action(message: Message) -> Step:
    """Return the first call of a turn; the others are noted as cut."""
    call, *others = message.calls
    return Step(
        StepKind.ACTION,
        Author.POLICY,
        call.surface or call.arguments,
        tool=call.name,
        argument=call.argument,
        transcribed=call.arguments,
        cut_calls=tuple(_cut(other) for other in others),
    )


def _cut(call: Call) -> str:
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def _observation(message: Message, tool: str | None) -> Step:
    step = observation_step(message.content, tool)
    return replace(step, outcome=Outcome.ERROR) if message.is_error else step
