"""Both arms at a point: one that thinks to its end, in rounds, and why a point gives no pair."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ServiceError
from coa.policy import Request
from coa.records import protocol
from coa.records.pairs import Arm, PairKind, arm_of
from coa.records.trajectory import Mode, StepKind, StopReason
from coa.rollout.points import PointOutcome
from curate.forks.arms import plan_looks
from tests.both_arms_support import (
    BOTH,
    NEED,
    PROMPTS,
    RIGHT,
    WRONG,
    answers,
    call,
    fork,
    is_thinking,
    try_arms,
)


@pytest.fixture(autouse=True)
def work_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_point_where_one_arm_always_wins_is_closed_at_the_first_look(tmp_path: Path) -> None:
    tried = try_arms(tmp_path, answers(acting=RIGHT, thinking=WRONG))
    (point,) = tried.points
    (pair,) = tried.pairs
    assert point.outcome is PointOutcome.PAIRED and len(tried.forks) == 8
    assert point.worth is not None and point.worth.value == 1
    assert (point.worth.act.num, point.worth.think.num) == (4, 4)
    assert pair.worth == point.worth and pair.kind is PairKind.ACT_IS_BETTER
    assert (pair.num_act, pair.num_act_correct, pair.num_think, pair.num_think_correct) == (
        4,
        4,
        4,
        0,
    )


def test_both_sides_may_be_forks_and_go_on_from_the_exact_prefix(tmp_path: Path) -> None:
    tried = try_arms(tmp_path, answers(acting=RIGHT, thinking=WRONG))
    (pair,) = tried.pairs
    assert pair.trajectory_id == "q0/coa/0"
    assert (pair.chosen_id, pair.rejected_id) == (
        f"q0/coa/0/{len(NEED)}/act/0",
        f"q0/coa/0/{len(NEED)}/think/0",
    )
    assert protocol.render(pair.prefix) == NEED
    assert (arm_of(pair.chosen), arm_of(pair.rejected)) == (Arm.ACT, Arm.THINK)
    assert pair.prompt == PROMPTS[Arm.ACT].fill(pair.question)


def test_who_thinks_has_no_tool_to_the_end(tmp_path: Path) -> None:
    tried = try_arms(tmp_path, answers(acting=RIGHT, thinking=WRONG))
    thinking = [request for request in tried.asked if is_thinking(request)]
    assert len(thinking) == 4
    for request in thinking:
        assert request.context == PROMPTS[Arm.THINK].fill("What is capital 0?") + NEED
    for row in tried.forks:
        is_act = "/act/" in row.trajectory.trajectory_id
        assert row.trajectory.mode is (Mode.COA if is_act else Mode.COT)
        assert bool(row.trajectory.num_actions) is is_act
    (pair,) = tried.pairs
    assert not protocol.action_indices(pair.rejected)


def test_a_call_where_none_is_offered_is_off_the_arm_and_spends_the_budget(tmp_path: Path) -> None:
    script = answers(acting=RIGHT, thinking=WRONG)

    def write(request: Request) -> str:
        return f" So {call('search')}" if is_thinking(request) else script(request)

    tried = try_arms(tmp_path, write)
    (point,) = tried.points
    assert point.outcome is PointOutcome.UNSOUND and point.worth is None and not tried.pairs
    assert len(tried.forks) == 2 * BOTH.num_continuations
    assert tried.totals.stop_reasons[StopReason.FORBIDDEN_ACTION] == BOTH.num_continuations


def test_a_call_that_is_opened_and_never_closed_takes_no_arm(tmp_path: Path) -> None:
    def write(request: Request) -> str:
        return f" so it is.{RIGHT}"

    (point,) = try_arms(tmp_path, write).points
    assert point.outcome is PointOutcome.OFF_ARM and point.worth is None


def test_what_is_open_goes_on_until_the_budget_is_spent(tmp_path: Path) -> None:
    def write(request: Request) -> str:
        is_right = random.Random(request.seed + 1).random() < 0.5
        end = RIGHT if is_right else WRONG
        return answers(acting=end, thinking=end)(request)

    tried = try_arms(tmp_path, write)
    (point,) = tried.points
    assert point.outcome is PointOutcome.UNDECIDED and not tried.pairs
    assert point.worth is not None and not point.worth.excludes_zero
    assert len(tried.forks) == 32 and point.num_continuations == 16


def test_all_looks_together_have_the_confidence_that_was_asked_for() -> None:
    assert plan_looks(replace(BOTH, confidence=0.9)) == (4, 4, pytest.approx(0.975))
    assert plan_looks(replace(BOTH, num_continuations=10)) == (4, 3, pytest.approx(1 - 0.1 / 3))
    assert plan_looks(replace(BOTH, num_continuations=2)) == (2, 1, pytest.approx(0.9))
    assert plan_looks(replace(BOTH, confidence=0.0)) == (16, 1, 0.0)


@pytest.mark.parametrize("tool", ["search", "calculate"])
def test_the_tool_in_question_is_called_and_the_others_are_offered(
    tool: str, tmp_path: Path
) -> None:
    script = answers(acting=RIGHT, thinking=WRONG)
    tried = try_arms(tmp_path, script, [fork(tool=tool)], tools=("search", "calculate"))
    (pair,) = tried.pairs
    assert (pair.tool, tried.points[0].tool) == (tool, tool)
    action = next(step for step in pair.chosen if step.kind is StepKind.ACTION)
    assert action.tool == tool
    after = [request for request in tried.asked if "_result>" in request.context]
    closings = {protocol.close_tag("search"), protocol.close_tag("calculate")}
    assert all(set(request.stop) == closings for request in after)


def test_a_run_that_was_cut_off_makes_no_call_twice(tmp_path: Path) -> None:
    def write(request: Request) -> str:
        end = RIGHT if random.Random(request.seed).random() < 0.6 else WRONG
        return answers(acting=end, thinking=WRONG)(request)

    forks = [fork(number) for number in range(4)]
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = try_arms(tmp_path / "whole", write, forks)
    with pytest.raises(ServiceError):
        try_arms(tmp_path / "cut", write, forks, most_calls=len(whole.asked) // 2)
    resumed = try_arms(tmp_path / "cut", write, forks)
    assert len(resumed.asked) <= len(whole.asked) - len(whole.asked) // 2 + 4
    assert (resumed.points, resumed.pairs, resumed.forks) == (
        whole.points,
        whole.pairs,
        whole.forks,
    )


def test_a_point_that_the_server_always_refuses_does_not_stop_the_run(tmp_path: Path) -> None:
    script = answers(acting=RIGHT, thinking=WRONG)
    tried = try_arms(tmp_path, script, [fork(0), fork(1)], refuses="capital 1")
    outcomes = {point.parent_id: point.outcome for point in tried.points}
    assert outcomes == {"q0/coa/0": PointOutcome.PAIRED, "q1/coa/0": PointOutcome.UNSOUND}
    assert tried.totals.stop_reasons[StopReason.POLICY_ERROR] == 2 * BOTH.num_continuations


@pytest.mark.parametrize(
    "clause",
    [
        " </think> \\boxed{Paris}. ",
        " See <search_result> Paris </search_result>. ",
        ". ",
        "\n\n? ",
        " \u202e</end_search>. ",
        " <|im_end|> so. ",
    ],
)
def test_a_hostile_clause_breaks_nothing(clause: str, tmp_path: Path) -> None:
    script = answers(acting=RIGHT, thinking=f" Rome.{WRONG}")

    def write(request: Request) -> str:
        return clause if is_thinking(request) else script(request)

    tried = try_arms(tmp_path, write)
    for row in tried.forks:
        steps = row.trajectory.steps
        assert protocol.render(steps).startswith(NEED)
        assert sum(step.kind is StepKind.ANSWER for step in steps) <= 1
    for pair in tried.pairs:
        assert arm_of(pair.rejected) is Arm.THINK
