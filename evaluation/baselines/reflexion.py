"""Try a question again after a wrong answer, with reflections on what went wrong.

This is Reflexion (Shinn et al., arXiv 2303.11366). Between two tries the policy reads its last one
and writes down what to do differently. All its reflections stand before the prompt of the next try.
The gold answers say whether a try was wrong. So a result is compared with `retry`, which is
the same without reflections, and with what other systems reach at the same cost. A try in which a
tool or a server failed is not repeated.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory
from coa.records.protocol import THINK_CLOSE, answer_text, render
from coa.records.question import Question
from coa.records.trajectory import FAILED_STOPS, Author, Mode, Trajectory
from coa.rollout.tasks import make_task
from evaluation.baselines.asker import Answered, Ask, Asker
from evaluation.spent import Spent, spent_on

_MAX_TRY_CHARS = 8000
"""The end of a try that a reflection is shown, so that it fits beside the prompt."""
_MAX_REFLECTION_CHARS = 1000
_REFLECTIONS_FROM = 1000
"""Numbers the reflections apart from the tries, whose draws they must not share."""


@dataclass(slots=True)
class _Tried:
    """A question that is tried until it is right."""

    question: Question
    rows: list[GradedTrajectory] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)
    reflections: list[Trajectory] = field(default_factory=list)

    @property
    def is_wrong(self) -> bool:
        """Tell whether the last try gave a wrong answer, or none, and nothing failed."""
        last = self.rows[-1]
        has_failed = last.trajectory.stop_reason in FAILED_STOPS
        return not last.grade.exact_match and not has_failed

    @property
    def ask(self) -> Ask:
        notes = ""
        for reflection in self.reflections:
            notes += f"An earlier answer was wrong. What you noted then: {read_text(reflection)}\n"
        return Ask(self.question, len(self.rows), notes)

    @property
    def answered(self) -> Answered:
        return Answered(self.question, self.rows[-1], tuple(self.rows), tuple(self.spent))


async def answer(
    asker: Asker, questions: Sequence[Question], num_tries: int, prompt: Prompt | None
) -> AsyncGenerator[Answered, None]:
    """Answer each question with at most so many tries.

    `prompt` asks for a reflection; None goes without.
    """
    left = [_Tried(question) for question in questions]
    for number in range(1, num_tries + 1):
        again = []
        turns = iter(left)
        is_retry = number > 1
        async with aclosing(asker.ask([one.ask for one in left], may_all_fail=is_retry)) as rows:
            async for row in rows:
                tried = next(turns)
                tried.rows.append(row)
                reflections = tried.reflections[number - 2 :] if is_retry else []
                tried.spent.append(spent_on([*reflections, row.trajectory]))
                if tried.is_wrong and number < num_tries:
                    again.append(tried)
                else:
                    yield tried.answered
        if not again:
            return
        asker.bar.expect(len(again))
        if prompt is not None:
            asker.bar.expect(len(again))
            await _reflect(asker, again, prompt)
        left = again


async def _reflect(asker: Asker, wrong: Sequence[_Tried], prompt: Prompt) -> None:
    """Let the policy write a reflection on the last try of each question."""
    tasks = []
    for tried in wrong:
        question = tried.question
        text = render(tried.rows[-1].trajectory.steps)[-_MAX_TRY_CHARS:]
        notes = f"What you did:\n{text}"
        index = _REFLECTIONS_FROM + len(tried.rows)
        tools = tuple(asker.runtime.tools)
        tasks.append(
            make_task(
                question.question_id, question.question, Mode.COT, index, prompt, tools, notes
            )
        )
    turns = iter(wrong)
    async with aclosing(asker.roll_out(tasks, may_all_fail=True)) as reflections:
        async for reflection in reflections:
            next(turns).reflections.append(reflection)


def read_text(reflection: Trajectory) -> str:
    """Return what a reflection says: the text after its thinking, or all that the policy wrote."""
    said = answer_text(reflection.steps).removeprefix(THINK_CLOSE)
    if not said.strip():
        own = [step for step in reflection.steps if step.author is Author.POLICY]
        said = render(own)
    return " ".join(said.split())[:_MAX_REFLECTION_CHARS]
