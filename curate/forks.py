"""Find the points where a trajectory can be forked, and make the tasks that go on from there.

The paper makes contrastive pairs by changing a trajectory at one point: inserting an action trigger
so that the tool may be used, or removing it so that reasoning must go on internally. Here the point
is a character offset into the steps' text, at the end of a sentence or before an action; both sides
share the exact text before it. Most chat servers cannot go on inside a thought: there the point is
the beginning of a turn, and the thought of that turn is not shared (docs/teachers.md).
"""

import re
from collections.abc import Sequence

from coa import protocol
from coa.forking import TOOL, first_turns
from coa.pairs import Arm
from coa.policy.chat_families import ChatFamily, ForkWay
from coa.policy.chat_record import acting_turns
from coa.prompts import Prompt
from coa.rollout import Task
from coa.trajectory import Author, Mode, Step, StepKind, Trajectory, fork_id

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


def thought_points(steps: Sequence[Step], cue: re.Pattern[str]) -> list[int]:
    """Find the end of each thought's sentence with `cue`: the policy might have acted there."""
    points: list[int] = []
    step_start = 0
    for step in steps:
        if step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
            sentence_start = 0
            for match in _SENTENCE_END.finditer(step.text):
                sentence_end = match.end()
                if cue.search(step.text, sentence_start, sentence_end):
                    points.append(step_start + sentence_end)
                sentence_start = sentence_end
        step_start += len(step.text)
    return points


def fork_points(steps: Sequence[Step], arm: Arm, way: ForkWay, cue: re.Pattern[str]) -> list[int]:
    """Find where a trajectory can be forked in one way to take the arm that it did not take.

    A trajectory that acted is to think; one that only reasoned, in a single turn, is to act.
    """
    if way is ForkWay.TOOLS_WITHHELD:
        return [turn.start for turn in acting_turns(steps)]
    if way is ForkWay.FORCED_CALL:
        return [0]
    return action_points(steps) if arm is Arm.THINK else thought_points(steps, cue)


def fork_task(
    parent: Trajectory,
    point: int,
    arm: Arm,
    k: int,
    prompt: Prompt,
    way: ForkWay = ForkWay.TEXT,
    family: ChatFamily | None = None,
) -> Task:
    """Make the task that continues `parent` from `point` on one arm.

    On the arm `act` a policy of raw completions finds the search tool's opening tag inserted, after
    the same space that followed the point; a chat policy of the given `family` is told by messages
    and settings. On the arm `think` no tool is offered, and calling one ends the rollout. `prompt`
    is the one of the arm's mode.
    """
    prefix, rest = protocol.split_at(parent.steps, point)
    is_acting = arm is Arm.ACT
    turns = first_turns(prefix, arm, way, family) if family else None
    if is_acting and turns is None:
        following = protocol.render(rest)
        space = following[: len(following) - len(following.lstrip())]
        trigger = space + protocol.open_tag(TOOL)
        prefix = (*prefix, protocol.marker(trigger, tool=TOOL))
    return Task(
        trajectory_id=fork_id(parent.trajectory_id, point, arm, k),
        question_id=parent.question_id,
        mode=Mode.COA if is_acting else Mode.COT,
        index=parent.index,
        question=parent.question,
        prompt=prompt.fill(parent.question),
        prompt_hash=prompt.prompt_hash,
        tools=(TOOL,) if is_acting else (),
        forbidden_tools=() if is_acting else (TOOL,),
        prefix=prefix,
        first_turns=turns,
    )
