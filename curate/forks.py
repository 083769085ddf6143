"""Find the points where a trajectory can be forked, and make the tasks that go on from there.

The paper makes contrastive pairs by changing a trajectory at one point: inserting an action trigger
so that the tool may be used, or removing it so that reasoning must go on internally. Here the point
is a character offset into the steps' text, at the end of a sentence or before an action; both sides
share the exact text before it.
"""

import re
from collections.abc import Sequence

from coa import protocol
from coa.pairs import Arm
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
        before = protocol.render(protocol.prefix_before_action(steps, k))
        points.append(len(before.rstrip()))
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


def fork_task(parent: Trajectory, point: int, arm: Arm, k: int, prompt: Prompt) -> Task:
    """Make the task that continues `parent` from `point` on one arm.

    On the arm `act` the search tool's opening tag is inserted, after the same space that followed
    the point. On the arm `think` no tool is offered, and calling one ends the rollout. `prompt` is
    the one of the arm's mode.
    """
    prefix, rest = protocol.split_at(parent.steps, point)
    is_acting = arm is Arm.ACT
    if is_acting:
        following = protocol.render(rest)
        space = following[: len(following) - len(following.lstrip())]
        trigger = space + protocol.open_tag("search")
        prefix = (*prefix, protocol.marker(trigger, tool="search"))
    return Task(
        trajectory_id=fork_id(parent.trajectory_id, point, arm, k),
        question_id=parent.question_id,
        mode=Mode.COA if is_acting else Mode.COT,
        index=parent.index,
        question=parent.question,
        prompt=prompt.fill(parent.question),
        prompt_hash=prompt.prompt_hash,
        tools=("search",) if is_acting else (),
        forbidden_tools=() if is_acting else ("search",),
        prefix=prefix,
    )
