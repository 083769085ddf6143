"""Questions about ages: two tools in one world, through the one rollout loop."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.microworld.plans import CALCULATIONS, make_plan
from coa.microworld.questions import make_questions
from coa.microworld.teacher import Teacher
from coa.microworld.world import SPLITS, Group, GroupSize, World, WorldSettings, make_world
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.policy.teacher.settings import TeacherSettings
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.protocol import stray_tags
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, StopReason, count_actions
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import SearchTool
from coa.tools import Tool
from coa.tools.calculator import Calculator
from tests.microworld_teacher_support import PERFECT

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = WorldSettings(
    known=GroupSize(30, 20, 10, 10),
    train=GroupSize(40, 30, 16, 16),
    validation=GroupSize(15, 10, 6, 6),
    test=GroupSize(15, 10, 6, 6),
    calculation_share=0.4,
)
SURE = replace(PERFECT, calculates=1.0, miscalculates=0.0)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SETTINGS)


@pytest.fixture(scope="module")
def questions(world: World) -> list[Question]:
    made = make_questions(world, Group.TRAIN, 300, seed=0)
    return [question for question in made if question.question_type in CALCULATIONS]


@pytest.fixture(scope="module")
def tools(world: World) -> dict[str, Tool]:
    return {
        "search": SearchTool(EmbeddedSearch.in_memory(world.passages())),
        "calculate": Calculator(),
    }


def roll_out(
    world: World,
    questions: list[Question],
    tools: dict[str, Tool],
    settings: TeacherSettings,
    mode: Mode = Mode.COA,
) -> list[GradedTrajectory]:
    """Let a teacher answer the questions with both tools."""
    policy = ScriptedPolicy(Teacher(world, settings=settings).write)
    prompt_file = "coa_calculate" if mode is Mode.COA else "cot"
    prompt = Prompt.load(ROOT / f"synth/prompts/{prompt_file}.txt", "{prompt}\n\n")
    run = RolloutContext(policy, Sampling(), Limits())
    tasks = [
        make_task(asked.question_id, asked.question, mode, 0, prompt, tuple(tools))
        for asked in questions
    ]

    async def collect() -> list[GradedTrajectory]:
        rows = []
        asked = iter(questions)
        async for trajectory in roll_out_all(tasks, run, policy, tools, concurrency=1):
            rows.append(grade_trajectory(trajectory, next(asked)))
        return rows

    return asyncio.run(collect())


def test_a_share_of_the_questions_of_every_split_needs_a_calculation(world: World) -> None:
    for split in SPLITS:
        asked = make_questions(world, split, 100, seed=0)
        found = [question for question in asked if question.question_type in CALCULATIONS]
        assert 20 <= len(found) <= 50
        for question in found:
            plan = make_plan(world, question.question, question.question_id)
            assert (plan.answer,) == question.gold_answers
            assert int(plan.answer) > 0
            assert plan.kind == question.question_type


def test_a_teacher_that_errs_nowhere_searches_calculates_and_is_right(
    world: World, questions: list[Question], tools: dict[str, Tool]
) -> None:
    rows = roll_out(world, questions, tools, SURE)
    assert len(rows) > 80
    assert sum(row.grade.exact_match for row in rows) / len(rows) > 0.9
    assert all(count_actions(row.trajectory, "calculate") == 1 for row in rows)
    assert all(row.trajectory.stop_reason is StopReason.ANSWERED for row in rows)
    assert not any(stray_tags(row.trajectory.steps) for row in rows)
    assert any(count_actions(row.trajectory, "search") for row in rows)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_calculations_that_is_none_is_an_error(share: float) -> None:
    with pytest.raises(ConfigError, match="below 1"):
        make_world(replace(SETTINGS, calculation_share=share))
