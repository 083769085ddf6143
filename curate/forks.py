"""Find the points where a trajectory can be forked, and the tool in question there.

The paper makes contrastive pairs by changing a trajectory at one point: inserting an action trigger
so that the tool may be used, or removing it so that reasoning must go on internally. Here the point
is a character offset into the steps' text, at the end of a sentence or before an action; both sides
share the exact text before it. Most chat servers cannot go on inside a thought: there the point is
the beginning of a turn, and the thought of that turn is not shared (docs/teachers.md).
"""

import re
from collections.abc import Mapping, Sequence

from coa import protocol
from coa.pairs import Arm
from coa.policy.chat.families import ForkWay
from coa.policy.chat.record import acting_turns
from coa.trajectory import Author, Step, StepKind

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s)")


def action_points(steps: Sequence[Step]) -> list[int]:
    """Find the point before each action, where the policy decided to act.

    The space before the action's tag lies after the point.
    """
    points = []
    for k in range(len(protocol.action_indices(steps))):
        before = protocol.prefix_before_action(steps, k)
        num_blanks = 0
        if before and before[-1].kind is StepKind.THOUGHT:
            thought = before[-1].text
            num_blanks = len(thought) - len(thought.rstrip())
        points.append(len(protocol.render(before)) - num_blanks)
    return points


def thought_points(steps: Sequence[Step], cue: re.Pattern[str] | None = None) -> list[int]:
    """Find the end of each thought's sentence with `cue`: the policy might have acted there.

    Without a cue every sentence counts.
    """
    points: list[int] = []
    step_start = 0
    for step in steps:
        if step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
            sentence_start = 0
            for match in _SENTENCE_END.finditer(step.text):
                sentence_end = match.end()
                if cue is None or cue.search(step.text, sentence_start, sentence_end):
                    points.append(step_start + sentence_end)
                sentence_start = sentence_end
        step_start += len(step.text)
    return points


def fork_points(
    steps: Sequence[Step], arm: Arm, way: ForkWay, cue: re.Pattern[str] | None = None
) -> list[int]:
    """Find where a trajectory can be forked in one way to take the arm that it did not take there.

    Before an action it is to think; at the end of a sentence (with `cue`, where there is one) that
    no action follows, it is to act. A call can be forced only in the first turn of a trajectory
    that never acted. A chat policy that goes on inside a thought takes the arm of its whole turn,
    so all sentences of a turn that acted took that arm.
    """
    if way is ForkWay.TOOLS_WITHHELD:
        return [turn.start for turn in acting_turns(steps)]
    if way is ForkWay.FORCED_CALL:
        return [] if protocol.action_indices(steps) else [0]
    if arm is Arm.THINK:
        return action_points(steps)
    before_actions = action_points(steps)
    points = []
    for point in thought_points(steps, cue):
        if way is ForkWay.PREFIX:
            acts = _is_in_acting_turn(steps, point)
        else:
            acts = point in before_actions
        if not acts:
            points.append(point)
    return points


def _is_in_acting_turn(steps: Sequence[Step], point: int) -> bool:
    """Tell whether a point lies in a turn that ended in a call, before this call."""
    for turn, action_start in zip(acting_turns(steps), action_points(steps), strict=True):
        if turn.start <= point <= action_start:
            return True
    return False


def tool_at(steps: Sequence[Step], point: int, tool_cues: Mapping[str, str]) -> str:
    """Return the tool in question at a point.

    It is the one that was called there. In a thought it is the first tool whose cue stands in the
    sentence that ends there, else search.
    """
    for turn in acting_turns(steps):
        if turn.start == point:
            return turn.call.tool or ""
    actions = protocol.action_indices(steps)
    for start, index in zip(action_points(steps), actions, strict=True):
        if start == point:
            return steps[index].tool or ""
    for tool, cue in tool_cues.items():
        if point in thought_points(steps, re.compile(cue)):
            return tool
    return "search"
