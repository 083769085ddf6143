"""Where a trajectory can be forked, and the tasks that go on from there with the tool enabled or forbidden.

The paper makes contrastive pairs by changing a trajectory at one point: inserting an action trigger so that the tool
may be used, or removing it so that reasoning must go on internally. Here the point is a character offset into the
steps' text, at the end of a sentence or before an action; both sides share the exact text before it.
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
    """The points before each action, the space before its tag excluded: there the policy decided to act."""
    points = []
    for k in range(len(protocol.action_indices(steps))):
        before = protocol.render(protocol.prefix_before_action(steps, k))
        points.append(len(before.rstrip()))
    return points


def thought_points(steps: Sequence[Step], cue: re.Pattern[str]) -> list[int]:
    """The ends of the sentences in the policy's thoughts that contain `cue`: it might have acted there."""
    points, start = [], 0
    for step in steps:
        if step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
            begin = 0
            for end in _SENTENCE_END.finditer(step.text):
                if cue.search(step.text, begin, end.end()):
                    points.append(start + end.end())
                begin = end.end()
        start += len(step.text)
    return points


def fork_task(parent: Trajectory, point: int, arm: Arm, k: int, prompt: Prompt) -> Task:
    """The task that continues `parent` from `point` on one arm.

    `act`: the search tool's opening tag is inserted, after the same space that followed the point. `think`: no tool is
    offered, and calling one ends the rollout. `prompt` is the one of the arm's mode.
    """
    prefix, rest = protocol.split_at(parent.steps, point)
    offered, forbidden = (("search",), ()) if arm is Arm.ACT else ((), ("search",))
    if arm is Arm.ACT:
        space = re.match(r"\s*", protocol.render(rest))
        trigger = (space[0] if space else "") + protocol.open_tag("search")
        prefix = (*prefix, protocol.marker(trigger, tool="search"))
    return Task(
        trajectory_id=fork_id(parent.trajectory_id, point, arm, k),
        question_id=parent.question_id,
        mode=Mode.COA if arm is Arm.ACT else Mode.COT,
        index=parent.index,
        question=parent.question,
        prompt=prompt.fill(parent.question),
        prompt_hash=prompt.prompt_hash,
        tools=offered,
        forbidden_tools=forbidden,
        prefix=prefix,
    )
