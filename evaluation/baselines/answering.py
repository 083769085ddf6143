"""Answer questions by a baseline: choose the file that does it."""

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from coa.policy.prompts import Prompt
from coa.records.question import Question
from coa.student.evaluate_settings import Baseline, BaselineParams
from evaluation.baselines import reflexion, retrieve_then_read, self_consistency
from evaluation.baselines.asker import Answered, Asker, ask_once


def answer_questions(
    asker: Asker,
    questions: Sequence[Question],
    baseline: Baseline,
    params: BaselineParams,
    chat_template: str,
) -> AsyncGenerator[Answered, None]:
    """Answer all questions; they may come in another order.

    Raises:
        ConfigError: the prompt that asks for reflections cannot be read.
    """
    if baseline is Baseline.REFLEXION:
        prompt = Prompt.load(Path(params.reflect_prompt), chat_template)
        prompt = prompt.for_policy(asker.runtime.run.encoder)
        return reflexion.answer(asker, questions, params.num_tries, prompt)
    if baseline is Baseline.RETRY:
        return reflexion.answer(asker, questions, params.num_tries, prompt=None)
    if baseline is Baseline.RETRIEVE_THEN_READ:
        return retrieve_then_read.answer(asker, questions)
    if baseline is Baseline.SELF_CONSISTENCY:
        return self_consistency.answer(asker, questions, params.num_samples)
    return ask_once(asker, questions)
