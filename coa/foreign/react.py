"""Read ReAct's turns as FireAct's `generation.py` runs them, as one text or as a chat.

Turns are `Thought:` and `Action: tool[argument]`, with one `Observation:` after each;
`Action: finish[answer]` ends the text. In chats the assistant's messages are wholly the policy's.
In plain text the runtime writes the first `Thought:` of each turn, and also a fixed sentence after
the 5th action (to reflect) and the 9th (to wrap up): these are the scaffold's. (Single spaces and a
missing `Action:` that its loop adds are taken for the policy's.)
"""

import re
from collections.abc import Sequence

from coa import protocol
from coa.foreign.frames import REACT_CALL, THOUGHT_LABEL
from coa.foreign.step_makers import action_step, answer_step, observation_step, thought_steps
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Step, StepKind

_FINISH = "finish"
_REMINDERS = {
    5: "Now that I haven't solved the task within 5 steps, let me do a reflection and think about "
    "how to improve my strategy. ",
    9: "Now that I haven't solved the task within 9 steps, I need to wrap up and finish this task "
    "in the next step. ",
}
"""The sentences that FireAct's runtime writes after so many turns, always in the released files.

A policy that was trained on them may write them elsewhere.
"""
_LABEL = re.compile(r"^Action:", re.MULTILINE)
_FORGED = re.compile(r"^Observation:", re.MULTILINE)
_OBSERVED = re.compile(r"\nObservation:(?:.*?)(?:\n(?=Thought:|Action:)|\n?\Z)", re.DOTALL)


def read_react_text(text: str) -> tuple[Step, ...]:
    """Read a ReAct trajectory that is one text (without its prompt) into steps.

    Joined, the steps give `text` again. A line of an observation that itself begins with `Thought:`
    or `Action:` is read as the policy's next turn: in plain text nothing tells them apart.

    Raises:
        UnreadableError: A turn is empty, has no call or goes on after it; or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    for num_turns, observed in enumerate((*_OBSERVED.finditer(text), None)):
        end = observed.start() if observed else len(text)
        if observed is None and steps and not text[start:].strip():
            break
        _expect_no_answer(steps, start)
        turn = text[start:end]
        steps += _turn(turn, start, _scaffold_opening(turn, num_turns))
        if observed:
            steps.append(observation_step(observed[0], _observed_tool(steps)))
            start = observed.end()
    return _finished(steps, len(text))


def _observed_tool(steps: Sequence[Step]) -> str | None:
    """Return the tool whose observation follows the steps."""
    return _FINISH if _has_answer(steps) else steps[-1].tool


def _scaffold_opening(turn: str, num_turns: int) -> str:
    """Return the text that the runtime wrote at the start of a turn.

    It is empty when the policy began the turn with its action.
    """
    reminder = f"{THOUGHT_LABEL} {_REMINDERS.get(num_turns, '')}"
    if num_turns in _REMINDERS and turn.startswith(reminder):
        return reminder
    return THOUGHT_LABEL if turn.startswith(THOUGHT_LABEL) else ""


def read_react_chat(
    messages: Sequence[tuple[str, str]], *, was_text: bool = False
) -> tuple[Step, ...]:
    """Read a ReAct chat into steps; joined, they give the contents of the messages, one by one.

    Args:
        messages: Pairs of role and content, without the message that asks the question.
        was_text: Whether the policy wrote one text, which was made a chat later. Then the texts of
            the runtime are the scaffold's, as in `read_react_text`.

    Raises:
        UnreadableError: Roles do not alternate; a turn is empty, has no call or goes on after it;
            or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    for i, (role, content) in enumerate(messages):
        expected = "user" if i % 2 else "assistant"
        if role != expected:
            raise UnreadableError(
                UnreadableReason.WRONG_FORMAT, start, f"role {role!r} in message {i + 1}"
            )
        if role == "assistant":
            _expect_no_answer(steps, start)
            opening = _scaffold_opening(content, i // 2) if was_text else ""
            steps += _turn(content, start, opening)
        else:
            steps.append(observation_step(content, _observed_tool(steps)))
        start += len(content)
    return _finished(steps, start)


def _turn(text: str, offset: int, opening: str) -> list[Step]:
    """Cut one turn: the scaffold's opening, perhaps a thought, then one call or the answer.

    Args:
        text: The turn.
        offset: Where it begins in the whole text, for errors.
        opening: What the scaffold wrote at its start.
    """
    if not text[len(opening) :].strip():
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset + len(opening))
    label = _LABEL.search(text, len(opening))
    end = label.start() if label else len(text)
    thought = text[len(opening) : end]
    forged = _FORGED.search(thought)
    if forged:
        place = offset + len(opening) + forged.start()
        raise UnreadableError(UnreadableReason.NESTED_TAG, place, "an observation inside a turn")
    if label is None:
        raise UnreadableError(UnreadableReason.NO_ACTION, offset + len(opening))
    written = text[label.start() :]
    call = REACT_CALL.match(written)
    if call is None:
        raise UnreadableError(UnreadableReason.UNCLOSED_TAG, offset + label.start(), written[:80])
    if written[call.end() :].strip():
        raise UnreadableError(
            UnreadableReason.TEXT_AFTER_ACTION, offset + label.start() + call.end(), written[:80]
        )
    tool = call["tool"].lower()
    argument = call["argument"].strip()
    if not argument:
        reason = UnreadableReason.NO_ANSWER if tool == _FINISH else UnreadableReason.EMPTY_TURN
        raise UnreadableError(reason, offset + label.start(), written[:80])
    steps = [protocol.marker(opening)] if opening else []
    steps += thought_steps(thought)
    if tool == _FINISH:
        steps.append(answer_step(written))
    else:
        steps.append(action_step(written, tool, argument))
    return steps


def _has_answer(steps: Sequence[Step]) -> bool:
    if not steps:
        return False
    # Only its observation may follow an answer, so the last step tells.
    last = steps[-1]
    return last.kind is StepKind.ANSWER or last.tool == _FINISH


def _expect_no_answer(steps: Sequence[Step], offset: int) -> None:
    if _has_answer(steps):
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, offset, "a turn after the answer")


def _finished(steps: list[Step], end: int) -> tuple[Step, ...]:
    """Return the steps of a whole text; refuse one that ends without an answer."""
    if _has_answer(steps):
        return tuple(steps)
    if steps and steps[-1].kind is StepKind.ACTION:
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, end)
    raise UnreadableError(UnreadableReason.NO_ANSWER, end)
