"""Watch a stage while it trains: by rollouts of a few validation questions, alarms and a bar.

A loss can fall while the model forgets to search or to answer. So every stage but `pretrain` asks
the same questions before its first step and a few times on its way (`train.monitors.every`):
greedily, with the real search, through the one rollout loop. What comes of it is logged under
`eval_rollouts/`: the alarms of train/alarms.py read it, and the tracker that `report_to` names gets
it as it gets every other figure. Nothing is trained on it, and no random number of the training is
spent.
"""

import asyncio
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import ProgressCallback, Trainer, TrainerCallback

from coa import rollout, tables
from coa.asking import make_task
from coa.drivers import roll_out_states, tool_environment
from coa.files import QUESTIONS
from coa.graded import GradedTrajectory, grade_trajectory
from coa.grading import Verdict
from coa.policy import BatchPolicy
from coa.policy.local.model import LocalPolicy
from coa.policy.react import ReactIdsPolicy
from coa.prompts import Prompt
from coa.question import Question
from coa.rollout import Limits, RolloutContext
from coa.student.checkpoint import Student
from coa.student.held_tools import HeldTools
from coa.student.knowledge import KnowledgeProbe, open_probe
from coa.student.settings import MonitorSettings
from coa.tools import Toolbox, library_fingerprint
from coa.tools.search import SearchTool
from coa.trajectory import FAILED_STOPS, Mode, Sampling, count_actions
from train.alarms import Alarm, alarms_of, is_alarmed
from train.arguments import shards_weights
from train.rewards import breaks_format
from train.stage import StageRun
from train.watched_questions import choose_watched

PREFIX = "eval_rollouts/"
"""Begins the names of what is logged."""
_SHOWN = {
    "loss": "loss",
    "eval_loss": "validation loss",
    "reward": "reward",
    "rewards/exact_match/mean": "correct",
    "searches/mean": "searches each",
    "eval_rollouts/exact_match": "correct when watched",
}
"""Figures of the log that stand behind the bar, each with its name there."""


class RolloutWatch(TrainerCallback):
    """A callback that rolls out questions and adds what came of them to the log."""

    def __init__(
        self,
        run: StageRun,
        student: Student,
        questions: Sequence[Question],
        tools: Toolbox,
        loop: asyncio.Runner,
        react_prompt: str = "",
    ) -> None:
        assert run.sections is not None
        self._run = run
        self._settings = run.params.monitors
        self._name = run.workspace.name
        self._tokenizer = student.tokenizer
        self._prompt: Prompt = run.prompt(student.tokenizer, react_prompt)
        self._is_react = bool(react_prompt)
        self._questions = questions
        self._tools = tools
        self._loop = loop
        self._probe = open_probe(questions, run.sections)
        self._limits = run.params.limit_rollouts(run.sections.section(Limits, "rollout"))

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure the model that the stage starts from; a resumed run has done so."""
        if state.global_step == 0:
            self._measure(state, control, more["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure at the steps that the settings name, and after the last one."""
        stride = max(1, round(state.max_steps * self._settings.every))
        if state.global_step % stride == 0 or state.global_step == state.max_steps:
            self._measure(state, control, more["model"])

    def _measure(self, state: Any, control: Any, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        found = summarise(self.roll_out(model), self._probe)
        should_log = control.should_log
        # Of the base class: `log` of the trainers of pairs and of GRPO adds the means of the
        # training steps so far, and begins new ones.
        Trainer.log(self._run.trainer, {PREFIX + name: value for name, value in found.items()})
        # Every log resets it, and the entry of this step is still to be written.
        control.should_log = should_log

    def roll_out(self, model: Any) -> list[GradedTrajectory]:
        """Roll out all questions with the model as it is now."""
        import torch

        was_training = model.training
        model.eval()
        policy: BatchPolicy = LocalPolicy(model, self._tokenizer, name=self._name)
        if self._is_react:
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
def watched(run: StageRun, student: Student, react_prompt: str = "") -> Iterator[None]:
    """Hold the tools open over a training and add the watch to its callbacks.

    Does nothing where `train.monitors.every` is 0, in a dry run, and where a process holds only a
    part of the weights: its rollouts would have to wait for the other processes.

    Raises:
        InputError: the questions or the search index are missing.
        ConfigError: no question is of the split validation.
    """
    is_wanted = run.params.monitors.every > 0 and not run.params.dry_run
    if is_wanted and shards_weights():
        print(
            "no rollouts are watched while training: each process holds a part of the weights",
            file=sys.stderr,
        )
        is_wanted = False
    if not is_wanted or run.sections is None:
        yield
        return
    questions = choose_watched(
        tables.read_table(QUESTIONS, Question), run.params.monitors.num_questions
    )
    with asyncio.Runner() as loop, HeldTools(loop, run.sections, "watched") as tools:
        watch = RolloutWatch(run, student, questions, tools, loop, react_prompt)
        # Before the monitors, which read what it logs.
        run.callbacks.insert(0, watch)
        yield


class Monitor(TrainerCallback):
    """A callback that warns once when an alarm goes off, and again only after it has passed.

    Where `train.monitors.stops` is set, an alarm also ends the training.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self._alarms = alarms_of(settings)
        self._settings = settings
        self._active: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, **_: object) -> None:
        """Read the log so far, so that a resumed run sees what one that never stopped sees."""
        for alarm in self._alarms:
            if not is_alarmed(alarm, state.log_history):
                self._active.discard(alarm.name)
            elif alarm.name not in self._active:
                self._active.add(alarm.name)
                self._warn(alarm, state)
                control.should_training_stop |= self._settings.stops

    def _warn(self, alarm: Alarm, state: Any) -> None:
        verdict = "stopping" if self._settings.stops else "warning"
        print(
            f"\n{verdict} at step {state.global_step}: {alarm.name}: {alarm.what}; {alarm.advice}",
            file=sys.stderr,
        )


class TrainingBar(ProgressCallback):
    """A bar with the last value of a few figures; `log.jsonl` and `curves.png` have all of them."""

    def __init__(self) -> None:
        """Begin with no figure."""
        super().__init__()
        self._figures: dict[str, str] = {}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: object
    ) -> None:
        """Take the figures that are shown; the next step writes them."""
        for name, title in _SHOWN.items():
            if logs and logs.get(name) is not None:
                self._figures[title] = f"{float(logs[name]):.3g}"
        if self.training_bar is not None:
            self.training_bar.set_postfix(self._figures, refresh=False)


def use_training_bar(trainer: Any) -> None:
    """Put the bar in the place of transformers' own; where that is switched off, there is none."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(TrainingBar)
