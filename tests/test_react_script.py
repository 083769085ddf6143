"""Test that a scripted teacher answers in ReAct's lines as it does in tags."""

import asyncio

import pytest

from coa.asking import make_task
from coa.drivers import roll_out
from coa.graded import GradedTrajectory, grade_trajectory
from coa.policy import UnbatchedPolicy
from coa.policy.gold.teacher import GoldTeacher
from coa.policy.react import ReactBatchPolicy, speaks_react
from coa.policy.scripted import ScriptedPolicy
from coa.prompts import Prompt
from coa.question import Question
from coa.rollout import Limits, RolloutContext
from coa.tools.search import SearchTool
from coa.trajectory import Mode, Sampling, StopReason
from tests.gold_teacher_support import (
    BRIDGE,
    CHOICE,
    ENGINE,
    FLAWLESS,
    OTHERS,
    QUESTIONS,
    ROOT,
    SHOWN,
    queries,
    roll,
)

PROMPT = Prompt.load(ROOT / "train/prompts/react.txt", "{prompt}\n\n")


def roll_react(question: Question, limits: Limits) -> GradedTrajectory:
    script = speaks_react(GoldTeacher((*QUESTIONS, *OTHERS), FLAWLESS).write)
    policy = UnbatchedPolicy(ReactBatchPolicy(ScriptedPolicy(script)))
    run = RolloutContext(policy, Sampling(), limits)
    task = make_task(question.question_id, question.question, Mode.COA, 0, PROMPT)
    tools = {"search": SearchTool(ENGINE, SHOWN)}
    return grade_trajectory(asyncio.run(roll_out(task, run, policy, tools)), question)


@pytest.mark.parametrize("question", [BRIDGE, CHOICE])
def test_it_makes_the_same_searches_in_lines_and_gives_the_same_answer(question: Question) -> None:
    row = roll_react(question, Limits())
    assert row.trajectory.stop_reason is StopReason.ANSWERED
    assert row.grade.exact_match
    assert queries(row) == queries(roll(question)) != []


def test_an_answer_that_is_forced_is_read_from_its_line() -> None:
    row = roll_react(CHOICE, Limits(max_actions=1))
    assert row.trajectory.stop_reason is StopReason.ACTION_BUDGET
    assert row.grade.prediction
    assert "}" not in row.grade.prediction


def test_a_request_in_tags_reaches_the_script_as_it_is() -> None:
    script = GoldTeacher((*QUESTIONS, *OTHERS), FLAWLESS).write
    assert roll(BRIDGE).grade.exact_match
    policy = ScriptedPolicy(speaks_react(script))
    run = RolloutContext(policy, Sampling(), Limits())
    prompt = Prompt.load(ROOT / "synth/prompts/coa.txt", "{prompt}\n\n")
    task = make_task("q1", BRIDGE.question, Mode.COA, 0, prompt)
    tools = {"search": SearchTool(ENGINE, SHOWN)}
    trajectory = asyncio.run(roll_out(task, run, policy, tools))
    assert trajectory.steps == roll(BRIDGE).trajectory.steps
