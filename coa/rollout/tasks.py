"""Make the rollout task of a question and a prompt, for every stage that asks questions."""

from collections.abc import Sequence

from coa.errors import ConfigError
from coa.policy.prompts import Prompt
from coa.records.trajectory import Mode, trajectory_id
from coa.rollout.loop import Task


def make_task(
    question_id: str,
    question: str,
    mode: Mode,
    index: int,
    prompt: Prompt,
    tools: Sequence[str] = ("search",),
    notes: str = "",
) -> Task:
    """Make the task of the index-th rollout of a question.

    In coa the `tools` are offered; in cot a call of one of them ends the rollout. `notes` stand
    before the prompt.

    Raises:
        ConfigError: The prompt shows the tags of other tools than those that are offered.
    """
    differs = set(prompt.shown_tools) != set(tools)
    if mode is Mode.COA and prompt.shown_tools and differs:
        fix = "write {open_NAME} and {close_NAME} for each tool, or change the section `tools`"
        raise ConfigError(
            "the prompt shows other tools than there are",
            expected=", ".join(sorted(tools)),
            got=", ".join(prompt.shown_tools),
            fix=fix,
        )
    is_offered = mode is Mode.COA
    return Task(
        trajectory_id=trajectory_id(question_id, mode, index),
        question_id=question_id,
        mode=mode,
        index=index,
        question=question,
        prompt=prompt.fill(question, notes),
        prompt_hash=prompt.prompt_hash,
        tools=tuple(tools) if is_offered else (),
        forbidden_tools=() if is_offered else tuple(tools),
    )
