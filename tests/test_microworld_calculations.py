"""Questions about ages: two tools in one world, through the one rollout loop."""

import asyncio
import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.microworld.plans import CALCULATIONS
from coa.microworld.pretraining import pretraining_documents
from coa.microworld.questions import make_questions, plan_question
from coa.microworld.teacher import Teacher
from coa.microworld.vocabulary import vocabulary
from coa.microworld.world import SPLITS, Group, GroupSize, World, WorldSettings, make_world
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.policy.teacher.settings import TeacherSettings
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.protocol import render, stray_tags
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, StopReason, count_actions
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import SearchTool
from coa.tools import Tool
from coa.tools.calculator import Calculator
from tests.microworld_teacher_support import PERFECT, TOKEN

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
            plan = plan_question(world, question)
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


def test_calculating_in_its_head_it_errs_as_often_as_the_settings_say(
    world: World, questions: list[Question], tools: dict[str, Tool]
) -> None:
    sure = roll_out(world, questions, tools, replace(SURE, calculates=0.0))
    unsure = roll_out(world, questions, tools, replace(SURE, calculates=0.0, miscalculates=0.5))
    assert not any(count_actions(row.trajectory, "calculate") for row in sure + unsure)
    num_right = [sum(row.grade.exact_match for row in rows) for rows in (sure, unsure)]
    assert 0.35 < num_right[1] / num_right[0] < 0.65


def test_without_tools_it_calls_none(
    world: World, questions: list[Question], tools: dict[str, Tool]
) -> None:
    rows = roll_out(world, questions, tools, SURE, Mode.COT)
    assert all(row.trajectory.num_actions == 0 for row in rows)
    assert all(row.trajectory.stop_reason is StopReason.ANSWERED for row in rows)


def test_its_texts_have_no_word_outside_the_vocabulary(
    world: World, questions: list[Question], tools: dict[str, Tool]
) -> None:
    words = set(vocabulary(world))
    texts = [question.question for question in questions]
    for row in roll_out(world, questions, tools, TeacherSettings()):
        texts.append(re.sub(r"<[^>]+>", "", render(row.trajectory.steps)))
    # Documents enough for a chain of questions that ends at a year of birth.
    for pieces in itertools.islice(pretraining_documents(world, seed=0), 3000):
        texts.append("".join(piece.text for piece in pieces).replace("<think>", ""))
    written = set(TOKEN.findall(" ".join(texts)))
    assert {word for word in written if not word.startswith("<")} <= words


def test_the_pretraining_text_calculates_too(world: World) -> None:
    documents = itertools.islice(pretraining_documents(world, seed=0), 3_000)
    texts = ["".join(piece.text for piece in pieces) for pieces in documents]
    equations = re.findall(r"Here (\d+) ([+-]) (\d+) is (-?\d+)\.", " ".join(texts))
    assert len(equations) > 10
    for first, sign, second, result in equations:
        assert int(first) + int(f"{sign}{second}") == int(result)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_calculations_that_is_none_is_an_error(share: float) -> None:
    with pytest.raises(ConfigError, match="below 1"):
        make_world(replace(SETTINGS, calculation_share=share))
