"""A question under a prompt to the task of one rollout: what every stage that asks questions does."""

from collections.abc import Sequence

from coa.errors import ConfigError
from coa.prompts import Prompt
from coa.rollout import Task
from coa.trajectory import Mode, trajectory_id


def make_task(
    question_id: str,
    question: str,
    mode: Mode,
    index: int,
    prompt: Prompt,
    tools: Sequence[str] = ("search",),
) -> Task:
    """The index-th rollout of a question: in coa `tools` are offered, in cot a call of one of them ends it.

    Raises:
        ConfigError: the prompt shows the tags of tools, and of others than those that are offered.
    """
    if mode is Mode.COA and prompt.shown_tools and set(prompt.shown_tools) != set(tools):
        fix = "write {open_NAME} and {close_NAME} for each tool, or change the section `tools`"
        raise ConfigError(
            "the prompt shows other tools than there are",
            expected=", ".join(sorted(tools)),
            got=", ".join(prompt.shown_tools),
            fix=fix,
        )
    offered, forbidden = (tuple(tools), ()) if mode is Mode.COA else ((), tuple(tools))
    return Task(
        trajectory_id=trajectory_id(question_id, mode, index),
        question_id=question_id,
        mode=mode,
        index=index,
        question=question,
        prompt=prompt.fill(question),
        prompt_hash=prompt.prompt_hash,
        tools=offered,
        forbidden_tools=forbidden,
    )
