"""Watch a stage while it trains: roll out a few validation questions now and then.

A loss can fall while the model forgets to search or to answer. So every stage but `pretrain` asks
the same questions before its first step and a few times on its way (`train.monitors.every`):
greedily, with the real search, through the one rollout loop. What comes of it is logged under
`eval_rollouts/`: the alarms of train/monitors/alarms.py read it, and the tracker that `report_to`
names gets it as it gets every other figure. Nothing is trained on it, and no random number of the
training is spent.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from coa.policy import BatchPolicy
from coa.policy.local.model import LocalPolicy
from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.grading import Verdict
from coa.records.question import Question
from coa.records.trajectory import FAILED_STOPS, Mode, Sampling, count_actions
from coa.rollout import loop as rollout
from coa.rollout.drivers import roll_out_states, tool_environment
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.search.tool import SearchTool
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import QUESTIONS
from coa.student.held_out import choose_watched
from coa.student.held_tools import HeldTools
from coa.student.knowledge import KnowledgeProbe, open_probe
from coa.student.settings import TrainParams
from coa.tools import Toolbox, library_fingerprint
from train.rewards import breaks_format


class WatchedRollouts:
    """Questions, and all that is needed to roll them out with a model in training."""

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        prompt: Prompt,
        limits: Limits,
        questions: Sequence[Question],
        tools: Toolbox,
        loop: asyncio.Runner,
        probe: KnowledgeProbe,
        *,
        is_react: bool = False,
    ) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._prompt = prompt
        self._limits = limits
        self._questions = questions
        self._tools = tools
        self._loop = loop
        self._probe = probe
        self._is_react = is_react

    def __call__(self, model: Any) -> dict[str, float]:
        """Roll out all questions with the model as it is now; return what the log shows."""
        return summarise(self.roll_out(model), self._probe)

    def roll_out(self, model: Any) -> list[GradedTrajectory]:
        """Roll out all questions with the model as it is now."""
        import torch

        was_training = model.training
        model.eval()
        policy: BatchPolicy = LocalPolicy(model, self._tokenizer, name=self._name)
        if self._is_react:
            from coa.policy.react import ReactIdsPolicy

            policy = ReactIdsPolicy(policy, tuple(self._tools))
        with torch.no_grad(), torch.random.fork_rng():
            rows = self._loop.run(self._finish(policy))
        model.train(was_training)
        return rows

    async def _finish(self, policy: BatchPolicy) -> list[GradedTrajectory]:
        tools = tuple(self._tools)
        tasks = []
        for question in self._questions:
            task = make_task(
                question.question_id, question.question, Mode.COA, 0, self._prompt, tools
            )
            tasks.append(task)
        context = RolloutContext(
            policy, Sampling(temperature=0.0), self._limits, library_fingerprint(self._tools)
        )
        environment = tool_environment(self._tools)
        states = roll_out_states(tasks, context, policy, environment, batch_size=len(tasks))
        rows: list[GradedTrajectory] = []
        async for state in states:
            question = self._questions[len(rows)]
            rows.append(grade_trajectory(rollout.finish(state), question))
        return rows


def summarise(rows: Iterable[GradedTrajectory], probe: KnowledgeProbe) -> dict[str, float]:
    """Average what the log shows; a rollout in which a tool failed says nothing."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for name, value in _measures(row, probe):
            values[name].append(float(value))
    return {name: round(sum(found) / len(found), 4) for name, found in values.items()}


def _measures(row: GradedTrajectory, probe: KnowledgeProbe) -> Iterator[tuple[str, float]]:
    if row.trajectory.stop_reason in FAILED_STOPS:
        return
    yield "exact_match", bool(row.grade.exact_match)
    yield "answered", row.grade.verdict is not Verdict.NO_ANSWER
    yield "broken", breaks_format(row)
    yield "searched", count_actions(row.trajectory, SearchTool.name) > 0
    for decision in probe.decisions(row.trajectory.steps):
        yield "searched_known" if decision.is_known else "searched_unknown", decision.searched


@contextmanager
def open_watch(
    sections: Params, params: TrainParams, name: str, tokenizer: Any, prompt: Prompt, is_react: bool
) -> Iterator[WatchedRollouts]:
    """Choose the questions, and hold the tools open over a training.

    Raises:
        InputError: the questions or the search index are missing.
        ConfigError: no question is of the split validation.
    """
    questions = choose_watched(
        tables.read_table(QUESTIONS, Question), params.monitors.num_questions
    )
    limits = params.limit_rollouts(sections.section(Limits, "rollout"))
    probe = open_probe(questions, sections)
    with asyncio.Runner() as loop, HeldTools(loop, sections, "watched") as tools:
        yield WatchedRollouts(
            name, tokenizer, prompt, limits, questions, tools, loop, probe, is_react=is_react
        )
