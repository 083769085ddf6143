"""Compare policies that search always, never, or only where they do not know, in a microworld.

    python -m bench.deciding                              # the default world
    python -m bench.deciding conf/microworld_priced.yaml  # a world in which deciding matters

The scripted teacher answers train questions through the real loop and the real search. A policy is
the profile's teacher with other settings of when it searches. Utility is exact match minus a price
for every search.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coa.intervals import Interval, mean_interval
from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, make_world
from coa.policy.prompts import Prompt, PromptParams
from coa.records.graded import grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, count_actions
from coa.rollout.drivers import roll_out_all
from coa.rollout.factory import TeacherParams
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.rollout.tasks import make_task
from coa.search.embedded import EmbeddedSearch
from coa.search.settings import SearchParams
from coa.search.tool import SearchTool
from coa.settings.params import DEFAULT_PROFILE, Params, write_profiles
from coa.tools import Tool
from coa.tools.calculator import Calculator
from coa.tools.settings import ToolsParams

NUM_QUESTIONS = 2_000
PRICE = 0.05
"""What a search costs, in exact match."""


@dataclass(frozen=True, slots=True)
class SearchHabit:
    """When a policy searches."""

    title: str
    searches_remembered: float
    """Probability that it searches for a fact that it remembers."""
    searches_other: float
    """Probability that it searches for any other fact."""


HABITS = (
    SearchHabit("always searches", 1.0, 1.0),
    SearchHabit("never searches", 0.0, 0.0),
    SearchHabit("searches for unknown facts alone", 0.0, 1.0),
)


@dataclass(frozen=True, slots=True)
class HabitScore:
    """What a habit brings, each a mean over the questions."""

    habit: SearchHabit
    exact_match: Interval
    searches: Interval
    utility: Interval


class PricedWorld:
    """The questions, the tools and the teacher of a profile."""

    def __init__(self, params: Params, num_questions: int) -> None:
        self.microworld = params.section(MicroworldParams, "microworld")
        self.limits = params.section(Limits, "rollout")
        self.teacher = params.section(TeacherParams, "teacher")
        self.prompt = Path(params.section(PromptParams, "prompts").coa)
        world = make_world(self.microworld.world)
        train = make_questions(world, Group.TRAIN, self.microworld.num_train, self.microworld.seed)
        self.questions = train[:num_questions]
        observation = params.section(SearchParams, "search").observation
        search = SearchTool(EmbeddedSearch.in_memory(world.passages()), observation)
        self.tools: dict[str, Tool] = {search.name: search}
        if params.section(ToolsParams, "tools").calculator:
            calculator = Calculator()
            self.tools[calculator.name] = calculator

    async def score(self, habit: SearchHabit) -> HabitScore:
        """Answer all questions with a habit."""
        settings = replace(
            self.microworld.teacher,
            searches_remembered=habit.searches_remembered,
            never_searched=1 - habit.searches_other,
        )
        policy = scripted_teacher(replace(self.microworld, teacher=settings))
        run = RolloutContext(policy, self.teacher.sampling, self.limits)
        prompt = Prompt.load(self.prompt, self.teacher.chat_template)
        names = tuple(self.tools)
        tasks = [_make_task(question, prompt, names) for question in self.questions]
        matches = []
        searches = []
        questions = iter(self.questions)
        async for trajectory in roll_out_all(tasks, run, policy, self.tools, concurrency=1):
            grade = grade_trajectory(trajectory, next(questions)).grade
            matches.append(float(grade.exact_match))
            searches.append(float(count_actions(trajectory, SearchTool.name)))
        paid = zip(matches, searches, strict=True)
        utilities = [match - PRICE * number for match, number in paid]
        return HabitScore(habit, _mean(matches), _mean(searches), _mean(utilities))


def _make_task(question: Question, prompt: Prompt, tools: tuple[str, ...]) -> Task:
    return make_task(question.question_id, question.question, Mode.COA, 0, prompt, tools)


def _mean(values: list[float]) -> Interval:
    found = mean_interval(values, num_resamples=1_000, seed=0)
    assert found is not None  # there are questions
    return found


async def compare(params: Params, num_questions: int) -> list[HabitScore]:
    """Score all habits, one after another."""
    world = PricedWorld(params, num_questions)
    return [await world.score(habit) for habit in HABITS]


def load(profiles: Sequence[str]) -> Params:
    """Lay the profiles over the default one."""
    paths = [Path(profile) for profile in profiles] or [DEFAULT_PROFILE]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "params.yaml")
        write_profiles(paths, file)
        return Params.load("microworld", [], file)


def main(profiles: Sequence[str]) -> None:
    """Print a table with a row for each habit."""
    print("| policy | exact match | searches | utility |")
    print("|---|---|---|---|")
    for score in asyncio.run(compare(load(profiles), NUM_QUESTIONS)):
        match = score.exact_match
        utility = score.utility
        print(
            f"| {score.habit.title} "
            f"| {100 * match.value:.1f}% [{100 * match.low:.1f}, {100 * match.high:.1f}] "
            f"| {score.searches.value:.2f} "
            f"| {100 * utility.value:.1f} [{100 * utility.low:.1f}, {100 * utility.high:.1f}] |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
