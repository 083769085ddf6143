"""A question under a prompt to the task of one rollout: what every stage that asks questions does."""

from coa.prompts import Prompt
from coa.rollout import Task
from coa.trajectory import Mode, trajectory_id


def task_of(question_id: str, question: str, mode: Mode, index: int, prompt: Prompt) -> Task:
    """The index-th rollout of a question; in cot a call of the search tool ends it."""
    offered, forbidden = (("search",), ()) if mode is Mode.COA else ((), ("search",))
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
