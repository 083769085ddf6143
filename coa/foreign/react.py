"""Read ReAct's turns as FireAct's `generation.py` runs them, as one text or as a chat.

Turns are `Thought:` and `Action: tool[argument]`, with one `Observation:` after each;
`Action: finish[answer]` ends the text. In chats the assistant's messages are wholly the policy's.
In plain text the runtime writes the first `Thought:` of each turn, and also a fixed sentence after
the 5th action (to reflect) and the 9th (to wrap up): these are the scaffold's. (Single spaces and a
missing `Action:` that its loop adds are taken for the policy's.)

Turns with numbered labels are Reflexion's scratchpads and AutoAct's prompts. Their runtimes
(Reflexion's hotpotqa_runs/agents.py, AutoAct's agent_arch.py) write `Thought 1:`, `Action 1:` and
`Observation 1:` at the beginning of a line, and the policy writes the rest of the first two: these
labels are the scaffold's. The answer is the last `Finish[answer]`; AutoAct's policy then confirms
it with `Reflect[right]`.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from coa.foreign.frames import NUMBERED_CALL, REACT_CALL, THOUGHT_LABEL
from coa.foreign.step_makers import action_step, answer_step, observation_step, thought_steps
from coa.records import protocol
from coa.records.trajectory import Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason

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
_LABELS = re.compile(r"\s*(?:Thought|Action):")
_LABEL = re.compile(r"^Action:", re.MULTILINE)
_FORGED = re.compile(r"^Observation:", re.MULTILINE)
_OBSERVED = re.compile(r"\nObservation:(?:.*?)(?:\n(?=Thought:|Action:)|\n?\Z)", re.DOTALL)
NUMBERED_LABEL = re.compile(
    r"^(?P<kind>Thought|Action|Observation) (?P<number>\d{1,4}):", re.MULTILINE
)
_NUMBERED_FOLLOWERS = {
    "": ("Thought", "Action"),
    "Thought": ("Action",),
    "Action": ("Observation",),
    "Observation": ("Thought", "Action"),
}
"""The labels that may follow a label; at the start a thought or an action."""


def is_react(text: str) -> bool:
    """Return whether a text begins with a label of ReAct's turns."""
    return _LABELS.match(text) is not None


def is_numbered_react(text: str) -> bool:
    """Return whether a text begins with a numbered label."""
    return NUMBERED_LABEL.match(text.lstrip()) is not None


def read_react_text(text: str) -> tuple[Step, ...]:
    """Read a ReAct trajectory that is one text (without its prompt) into steps.

    Joined, the steps give `text` again. A line of an observation that itself begins with `Thought:`
    or `Action:` is read as the policy's next turn: in plain text nothing tells them apart.

    Raises:
        UnreadableError: A turn is empty, has no call or continues after it; or there is no answer.
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


def read_react_chat(messages: Sequence[tuple[str, str]]) -> tuple[Step, ...]:
    """Read a ReAct chat into steps; joined, they give the contents of the messages, one by one.

    Messages are pairs of role and content, without the one that asks the question.

    Raises:
        UnreadableError: Roles do not alternate; a turn is empty, has no call or continues after it;
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
            steps += _turn(content, start, "")
        else:
            steps.append(observation_step(content, _observed_tool(steps)))
        start += len(content)
    return _finished(steps, start)


def _turn(text: str, offset: int, opening: str) -> list[Step]:
    """Cut one turn: the scaffold's opening, perhaps a thought, then one call or the answer."""
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


def read_numbered_react(text: str) -> tuple[Step, ...]:
    """Read a text with numbered labels into steps; joined, they give `text` again.

    Raises:
        UnreadableError: a label is out of order, an action is no call, or there is no answer.
    """
    steps: list[Step] = []
    labels = list(NUMBERED_LABEL.finditer(text))
    _check_numbers(text, labels)
    for i, label in enumerate(labels):
        # The line break before a label belongs to the label's author.
        start = label.start() - 1 if i else 0
        end = labels[i + 1].start() - 1 if i + 1 < len(labels) else len(text)
        if label["kind"] == "Observation":
            steps.append(observation_step(text[start:end], steps[-1].tool))
            continue
        steps.append(protocol.marker(text[start : label.end()]))
        written = text[label.end() : end]
        if label["kind"] == "Thought":
            steps += thought_steps(written)
        else:
            steps.append(_numbered_call(written, label.end()))
    for i in reversed(range(len(steps))):  # the last call of `finish` is the answer
        step = steps[i]
        if step.kind is StepKind.ACTION and step.tool == _FINISH:
            steps[i] = replace(step, kind=StepKind.ANSWER, tool=None, argument=None)
            return tuple(steps)
    raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))


def _check_numbers(text: str, labels: Sequence[re.Match[str]]) -> None:
    """Check that the turns are numbered one after another, and each has its labels in order."""
    kind, number = "", 0
    for label in labels:
        if label["kind"] not in _NUMBERED_FOLLOWERS[kind]:
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, label.start(), label[0])
        if kind in ("", "Observation"):
            number += 1
        kind = label["kind"]
        if int(label["number"]) != number:
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, label.start(), label[0])
    before = text[: labels[0].start()] if labels else text
    if before.strip():
        raise UnreadableError(UnreadableReason.NO_ACTION, 0, before[:80])
    if not labels:
        raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))


def _numbered_call(written: str, offset: int) -> Step:
    """Read what the policy wrote after the label of an action."""
    call = NUMBERED_CALL.match(written)
    if call is None:
        reason = UnreadableReason.NO_ACTION
        if "[" in written and "]" in written:
            reason = UnreadableReason.TEXT_AFTER_ACTION
        raise UnreadableError(reason, offset, written[:80])
    argument = call["argument"].strip()
    if not argument:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset, written[:80])
    return action_step(written, call["tool"].lower(), argument)
