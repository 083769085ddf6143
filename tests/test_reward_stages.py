"""Rewards in two stages: first that a search shows the answer, then that the answer is right."""

import asyncio
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.records import protocol
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, StopReason
from coa.student.settings import RlParams
from tests.sample_records import make_graded
from train.rewards import REWARDS, all_weights, check_stages, switch_step, weights_at

QUESTION = Question("q", "Who wrote it?", ("Ada", "Ada L."), "train")
STAGES = RlParams(
    "student",
    rewards={"retrieved": 0.5, "well_formed": 0.1},
    later_rewards={"ikea": 1.0, "searches": -0.1},
    rewards_switch=0.5,
)


def score(name: str, num_searches: int, shown: str, answer: str) -> float:
    steps = []
    for _ in range(num_searches):
        steps += protocol.parse("I look. <begin_search> who </end_search>")
        steps.append(protocol.observation("search", shown, Outcome.SIMULATED))
    steps += protocol.parse(answer)
    stop = StopReason.ANSWERED if answer else StopReason.NO_ANSWER
    row = make_graded(QUESTION, tuple(steps), Mode.COA, stop_reason=stop)
    return REWARDS[name](row)


@pytest.mark.parametrize(
    ("num_searches", "answer", "value"),
    [
        (0, "Ada", 1.6),
        (1, "Ada", 1.4),
        (2, "Ada L.", 1.2),
        (3, "Ada", 1.0),
        (5, "Ada", 1.0),
        (0, "Bob", 0.0),
        (1, "Bob", 0.05),
        (4, "Bob", 0.05),
        (1, "", -1.0),
        (0, "", -1.0),
    ],
)
def test_ikea_pays_right_answers_the_more_the_fewer_searches_they_took(
    num_searches: int, answer: str, value: float
) -> None:
    boxed = f"</think>\\boxed{{{answer}}}" if answer else ""
    assert score("ikea", num_searches, "nothing", boxed) == pytest.approx(value)


@pytest.mark.parametrize(
    ("num_searches", "shown", "value"),
    [(1, "by Ada", 1.0), (2, "result 1: ada l", 1.0), (1, "by Bob", 0.0), (0, "by Ada", 0.0)],
)
def test_retrieval_is_paid_where_an_observation_holds_the_answer(
    num_searches: int, shown: str, value: float
) -> None:
    assert score("retrieved", num_searches, shown, "</think>\\boxed{Bob}") == value


def test_the_whole_format_is_paid_once() -> None:
    assert score("well_formed", 1, "Ada", "</think>\\boxed{Bob}") == 1.0
    assert score("well_formed", 1, "Ada", "") == 0.0


@pytest.mark.parametrize(("at", "first"), [(0.5, 6), (0.0, 0), (4.0, 4), (1.0, 1), (0.99, 12)])
def test_rewards_change_at_a_share_of_the_run_or_at_a_step(at: float, first: int) -> None:
    settings = RlParams(
        "student", rewards={"f1": 1.0}, later_rewards={"exact_match": 2.0}, rewards_switch=at
    )
    weights = weights_at(settings, ["exact_match", "f1"])
    assert weights is not None
    assert switch_step(settings, 12) == first
    found = [weights(step, 12) for step in range(12)]
    assert found == [[0.0, 1.0]] * first + [[2.0, 0.0]] * (12 - first)


def test_all_rewards_are_computed_from_the_first_step_and_wrong_ones_are_refused() -> None:
    assert all_weights(STAGES) == {
        "ikea": 0.0,
        "searches": 0.0,
        "retrieved": 0.5,
        "well_formed": 0.1,
    }
    check_stages(STAGES, "here")
    assert weights_at(RlParams("student"), ["f1"]) is None
    for bad in (
        RlParams("student", later_rewards={"nothing": 1.0}),
        RlParams("student", rewards={"f1": 0.0}),
        RlParams("student", rewards_switch=-1.0),
    ):
        with pytest.raises(ConfigError):
            check_stages(bad, "here")


@pytest.mark.usefixtures("one_thread")
def test_the_trainer_weighs_the_second_part_otherwise(
    student_folder: Path, loop: asyncio.Runner, tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    from dataclasses import replace

    from coa.rollout.loop import Limits
    from coa.student.checkpoint import load_student
    from tests.rl_support import QUESTIONS, make_rollouts, make_run
    from train.rl import make_trainer
    from train.rollouts import Ask

    run = make_run(tmp_path)
    arguments = run.params.rl2.arguments
    run.params = replace(run.params, rl2=replace(STAGES, arguments=arguments))
    student = load_student(str(student_folder))
    rollouts = make_rollouts(run, student, loop, limits=Limits(2, 40, 4))
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]
    trainer = make_trainer(run, student, {"train": asks}, rollouts)
    names = [function.__name__ for function in trainer.reward_funcs]
    seen = []
    trainer.train()
    for step in (0, 1):
        trainer.state.global_step = step
        trainer.model.train()
        trainer._generate_and_score_completions([{"prompt": "q0/coa"}] * 4)
        weights = zip(names, trainer.reward_weights.tolist(), strict=True)
        seen.append({name: round(weight, 2) for name, weight in weights if weight})
    assert seen == [{"retrieved": 0.5, "well_formed": 0.1}, {"ikea": 1.0, "searches": -0.1}]
