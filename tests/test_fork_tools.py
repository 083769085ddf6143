"""The tool in question at a fork, what a free arm is asked for, and settings that cannot work."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa import opening, protocol, rollout
from coa.calls import replay
from coa.drivers import roll_out
from coa.errors import ConfigError
from coa.factory import PolicyKind, TeacherParams
from coa.forking import ArmChoice, BranchParams, require_budget, require_forks
from coa.journal import Journal
from coa.journaled import JournaledPolicy
from coa.pairs import Arm
from coa.pending import Generate
from coa.policy import Completion, Finish, Request
from coa.policy.chat.families import FAMILIES, ChatSettings, FamilyName
from coa.policy.scripted import ScriptedPolicy
from coa.rollout import Limits, RolloutContext
from coa.trajectory import Author, Mode, Sampling, StopReason
from curate.fork_choice import Fork, action_points, forks_of, tool_at
from curate.fork_tasks import ForkRun, fork_task, free_fork_task
from tests.both_arms_support import (
    NEED,
    PROMPTS,
    RIGHT,
    TOOLS,
    WRONG,
    call,
    fork,
    is_opening,
    parent,
)

CUES = {"calculate": r"\d{4}"}
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


def test_a_thought_has_the_tool_whose_cue_it_shows() -> None:
    row = parent(f"{NEED} Maybe 1990. So it is.{WRONG}")
    params = BranchParams(cue=r"\bneed\b", tool_cues=CUES, points_per_trajectory=5)
    found = [(each.point, each.tool) for each in forks_of(row, params)]
    assert found == [(len(NEED), "search"), (len(f"{NEED} Maybe 1990."), "calculate")]
    without = forks_of(row, replace(params, tool_cues={}))
    assert [each.tool for each in without] == ["search"]


def test_the_arm_that_acts_calls_the_tool_in_question_and_then_has_all() -> None:
    task = fork_task(fork(tool="calculate"), 0, RUN, Arm.ACT)
    assert task.prefix[-1].text == f" {protocol.open_tag('calculate')}"
    assert (task.tools, task.forbidden_tools) == (("search", "calculate"), ())


def test_thinking_without_any_tool_forbids_them_all_and_free_thinking_none() -> None:
    bound = fork_task(fork(), 2, RUN, Arm.THINK)
    assert (bound.mode, bound.tools, bound.forbidden_tools) == (Mode.COT, (), RUN.tools)
    assert not bound.opening_prompt and bound.prompt.startswith("no tools")
    free = free_fork_task(fork(), 2, RUN, Arm.THINK)
    assert (free.mode, free.tools, free.forbidden_tools) == (Mode.COA, RUN.tools, ())
    assert free.opening_prompt.startswith("no tools") and free.prompt.startswith("use tools")
    assert free.trajectory_id == bound.trajectory_id
    assert free_fork_task(fork(), 2, RUN, Arm.ACT) == fork_task(fork(), 2, RUN, Arm.ACT)


def test_a_chat_policy_thinks_without_tools_to_the_end_and_is_forced_to_call() -> None:
    family = FAMILIES[FamilyName.VLLM]
    run = replace(RUN, family=family)
    began = Fork(parent(), 0, Arm.ACT, tool="calculate")
    thinking = free_fork_task(began, 0, run, Arm.THINK)
    assert not thinking.opening_prompt and thinking.tools == ()
    acting = free_fork_task(began, 0, run, Arm.ACT)
    assert acting.first_turns is not None and acting.tools == RUN.tools


class WordIds(ScriptedPolicy):
    """A script whose words are tokens: a word begins with the blank before it."""

    def __init__(self, script: Callable[[Request], str]) -> None:
        super().__init__(script)
        self._known: dict[str, int] = {}

    def encode(  # type: ignore[override]
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """Number the words of a text."""
        words = re.findall(r"\s?\S+|\s", text)
        return tuple(self._known.setdefault(word, len(self._known)) for word in words)

    def decode(self, ids: tuple[int, ...]) -> str:
        """Join words."""
        words = list(self._known)
        return "".join(words[number] for number in ids)


def test_the_ids_of_a_first_clause_are_those_of_its_text_without_the_next_word() -> None:
    policy = WordIds(lambda request: "")
    task = free_fork_task(fork(), 0, RUN, Arm.THINK)
    state = rollout.start(task, RolloutContext(policy, Sampling(), Limits()))
    first = rollout.request(state)
    assert first.context_ids is not None
    assert policy.decode(first.context_ids) == first.context == task.opening_prompt + NEED
    # The token that completed the stop string holds the beginning of the next sentence too.
    written = Completion(
        " It is old. ", Finish.STOP, 4, 9, policy.encode(" It is old. Then", author=Author.POLICY)
    )
    state = rollout.advance(state, written)
    second = rollout.request(state)
    assert second.context == f"{task.prompt}{NEED} It is old."
    assert second.context_ids is not None
    assert policy.decode(second.context_ids) == second.context
    assert sum(number for _, number in state.id_runs) == len(second.context_ids)
    assert state.num_context_tokens == len(second.context_ids)
    assert isinstance(state.pending, Generate) and state.pending.stop != opening.STOPS


def test_a_server_that_counts_tokens_counts_the_prompt_with_the_tools() -> None:
    policy = ScriptedPolicy([" Perhaps so. More.", f" It is.{RIGHT}"])
    task = free_fork_task(fork(), 0, RUN, Arm.THINK)
    row = asyncio.run(roll_out(task, RolloutContext(policy, Sampling(), Limits()), policy, {}))
    assert row.prompt == task.prompt and row.num_calls == 2
    assert row.num_prompt_tokens == policy.count_tokens(task.prompt + NEED)


def test_a_clause_goes_on_where_a_server_says_nothing_of_its_stop_string() -> None:
    policy = ScriptedPolicy([" Perhaps so", f". It is.{RIGHT}"])
    task = free_fork_task(fork(), 0, RUN, Arm.THINK)
    row = asyncio.run(roll_out(task, RolloutContext(policy, Sampling(), Limits()), policy, {}))
    assert row.stop_reason is StopReason.ANSWERED
    assert row.steps[0].text == f"{NEED} Perhaps so. It is.\n"


def test_a_clause_that_answers_at_once_ends_the_rollout() -> None:
    policy = ScriptedPolicy([RIGHT])
    task = free_fork_task(fork(), 0, RUN, Arm.THINK)
    row = asyncio.run(roll_out(task, RolloutContext(policy, Sampling(), Limits()), policy, {}))
    assert (row.stop_reason, row.num_calls) == (StopReason.ANSWERED, 1)


def test_the_calls_of_a_free_fork_are_found_again_in_the_journal(journal_path: Path) -> None:
    def write(request: Request) -> str:
        return " Perhaps. More." if is_opening(request) else f" It is.{RIGHT}"

    policy = ScriptedPolicy(write)
    run = RolloutContext(policy, Sampling(), Limits(), "fingerprint")
    task = free_fork_task(fork(), 0, RUN, Arm.THINK)
    with Journal(journal_path) as journal:
        row = asyncio.run(roll_out(task, run, JournaledPolicy(policy, journal), TOOLS))
    found = replay(row, run, journal_path, RUN.tools, opening_prompt=task.opening_prompt)
    assert found.is_same and len(found.calls) == 2
    assert not replay(row, run, journal_path, RUN.tools).is_same


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
