"""Ask questions with the policy, the tools and the budgets of an evaluation, for all baselines."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import NamedTuple

from msgspec.structs import replace

from coa.policy.prompts import Prompt
from coa.progress import Progress
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, StopReason, Trajectory
from coa.rollout import loop as rollout
from coa.rollout.loop import Task
from coa.rollout.runtime import Runtime
from coa.rollout.tasks import make_task
from coa.store.pending import Done
from coa.student.asking import Asking
from evaluation.spent import Spent, spent_on


class Ask(NamedTuple):
    """A question as it is asked."""

    question: Question
    number: int = 0
    """Of the try or sample, which decides its draws."""
    notes: str = ""
    """Stand before the prompt: passages, or reflections on earlier tries."""


class Answered(NamedTuple):
    """A question with the answer that counts."""

    question: Question
    row: GradedTrajectory
    """The rollout whose answer counts."""
    rows: tuple[GradedTrajectory, ...]
    """All graded rollouts of the question, in order."""
    spent: tuple[Spent, ...]
    """What each try cost."""


class Asker:
    """Asks questions; the loop, the search, the journal and the budgets are those of every row."""

    def __init__(self, runtime: Runtime, prompt: Prompt, mode: Asking, bar: Progress) -> None:
        self.runtime = runtime
        self.bar = bar
        self._prompt = prompt
        self._mode = Mode.COT if mode is Asking.COT else Mode.COA

    def make_task(self, ask: Ask) -> Task:
        """Make the rollout of a question; in cot a call of a tool ends it."""
        question = ask.question
        return make_task(
            question.question_id,
            question.question,
            self._mode,
            ask.number,
            self._prompt,
            tuple(self.runtime.tools),
            ask.notes,
        )

    async def ask(
        self, asks: Sequence[Ask], *, may_all_fail: bool = False
    ) -> AsyncGenerator[GradedTrajectory, None]:
        """Roll out the questions and grade the rollouts, in the order of the questions."""
        tasks = (self.make_task(ask) for ask in asks)
        turns = iter(asks)
        async with aclosing(self.roll_out(tasks, may_all_fail=may_all_fail)) as trajectories:
            async for trajectory in trajectories:
                yield grade_trajectory(trajectory, next(turns).question)

    def roll_out(
        self, tasks: Iterable[Task], *, may_all_fail: bool = False
    ) -> AsyncGenerator[Trajectory, None]:
        """Roll out tasks, which need not be questions, in their order."""
        return self.runtime.roll_out_all(tasks, self.bar, may_all_fail=may_all_fail)

    def fail(self, ask: Ask, message: str) -> GradedTrajectory:
        """Return the row of a question for which a tool failed before it could be asked."""
        state = rollout.start(self.make_task(ask), self.runtime.run)
        over = replace(state, pending=Done(StopReason.TOOL_ERROR, message))
        return grade_trajectory(rollout.finish(over), ask.question)


async def ask_once(asker: Asker, questions: Sequence[Question]) -> AsyncGenerator[Answered, None]:
    """Ask every question once."""
    turns = iter(questions)
    async with aclosing(asker.ask([Ask(question) for question in questions])) as rows:
        async for row in rows:
            yield Answered(next(turns), row, (row,), (spent_on([row.trajectory]),))
