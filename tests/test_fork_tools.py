"""The tool in question at a fork, what a free arm is asked for, and settings that cannot work."""

from dataclasses import replace
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.policy.chat.families import FAMILIES, ChatSettings, FamilyName
from coa.records import protocol
from coa.records.pairs import Arm
from coa.records.trajectory import Mode
from coa.rollout.factory import PolicyKind, TeacherParams
from coa.rollout.forks import ArmChoice, BranchParams, require_budget, require_forks
from curate.forks.choice import Fork, action_points, forks_of, tool_at
from curate.forks.tasks import ForkRun, fork_task
from tests.both_arms_support import (
    NEED,
    PROMPTS,
    RIGHT,
    call,
    fork,
    parent,
)

RUN = ForkRun(PROMPTS, ("search", "calculate"))


def observed(tool: str, body: str) -> str:
    return protocol.observation_text(tool, body)


ACTED = (
    f"{NEED} {call('search')}{observed('search', '1: 1990')} It says 1990. "
    f"{call('calculate', '1990 - 1')}{observed('calculate', '1989')} So it is.{RIGHT}"
)


def test_the_tool_in_question_is_the_one_that_was_called_there() -> None:
    row = parent(ACTED)
    steps = row.trajectory.steps
    found = [tool_at(steps, point, {}) for point in action_points(steps)]
    assert found == ["search", "calculate"]
    params = BranchParams(points_per_trajectory=5)
    assert [(each.tool, each.arm) for each in forks_of(row, params)] == [
        ("search", Arm.THINK),
        ("calculate", Arm.THINK),
    ]


def test_the_arm_that_acts_calls_the_tool_in_question_and_then_has_all() -> None:
    task = fork_task(fork(tool="calculate"), 0, RUN, Arm.ACT)
    assert task.prefix[-1].text == f" {protocol.open_tag('calculate')}"
    assert (task.tools, task.forbidden_tools) == (("search", "calculate"), ())


def test_a_chat_policy_thinks_without_tools_to_the_end_and_is_forced_to_call() -> None:
    family = FAMILIES[FamilyName.VLLM]
    run = replace(RUN, family=family)
    began = Fork(parent(), 0, Arm.ACT, tool="calculate")
    thinking = fork_task(began, 0, run, Arm.THINK)
    assert thinking.tools == ()
    acting = fork_task(began, 0, run, Arm.ACT)
    assert acting.first_turns is not None and acting.tools == RUN.tools


@pytest.mark.parametrize(
    "changes",
    [
        {"num_continuations": 0},
        {"first_continuations": 0},
        {"points_per_trajectory": -1},
        {"confidence": 1.0},
        {"confidence": -0.1},
    ],
)
def test_numbers_with_which_nothing_can_be_decided_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        require_budget(BranchParams(**changes))
    require_budget(BranchParams())


def test_a_chat_server_that_cannot_be_forced_to_call_is_refused_for_both_arms() -> None:
    chat = ChatSettings(family=FamilyName.KIMI)
    policy = TeacherParams(policy=PolicyKind.CHAT, chat=chat)
    require_forks(policy)
    with pytest.raises(ConfigError, match="no way to take the arm act"):
        require_forks(policy, ArmChoice.BOTH)


def test_thinking_forbids_all_tools() -> None:
    task = fork_task(fork(), 2, RUN, Arm.THINK)
    assert (task.mode, task.tools, task.forbidden_tools) == (Mode.COT, (), RUN.tools)
    assert task.prompt.startswith("no tools")
