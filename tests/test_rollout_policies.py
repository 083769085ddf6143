"""Test rollouts of policies that refuse, wait, count or keep ids, in both drivers."""

import asyncio
from dataclasses import replace

import pytest

from coa.policy import Completion, Policy, Request, RequestError
from coa.policy.scripted import ScriptedPolicy
from coa.progress import Ended
from coa.records import protocol
from coa.records.trajectory import (
    Author,
    Sampling,
    Step,
    StopReason,
)
from coa.rollout.drivers import roll_out_all, roll_out_batched
from coa.rollout.loop import Limits, RolloutContext
from tests.rollout_support import (
    CLOSE,
    OPEN,
    Echo,
    collect,
    task,
)


class Refusing(ScriptedPolicy):
    """Refuses the requests of one question."""

    async def complete(self, request: Request) -> Completion:
        if "refuse me" in request.context:
            raise RequestError("context too long")
        return await super().complete(request)


def test_a_refused_request_is_a_row_and_the_others_go_on() -> None:
    policy = Refusing(lambda request: "</think> \\boxed{1}")
    tasks = [
        task(question_id=str(i), trajectory_id=str(i), prompt="refuse me" if i == 1 else "p")
        for i in range(3)
    ]
    rows = collect(
        roll_out_all(tasks, RolloutContext(policy, Sampling(), Limits()), policy, {}, concurrency=2)
    )
    assert [row.stop_reason for row in rows] == ["answered", "policy_error", "answered"]
    assert rows[1].error == "context too long"


def test_both_drivers_give_the_same_trajectories() -> None:
    def script(request: Request) -> str:
        return (
            f" {request.seed} {OPEN} q{request.seed % 3} {CLOSE}"
            if request.seed % 2
            else "</think> \\boxed{1}"
        )

    policy, tools = ScriptedPolicy(script), {"search": Echo()}
    run = RolloutContext(policy, Sampling(), Limits(max_actions=3), "echo")
    tasks = [task(trajectory_id=f"q{i}/coa/0") for i in range(50)]
    batched = collect(roll_out_batched(iter(tasks), run, policy, tools, batch_size=7))
    assert batched == collect(roll_out_all(iter(tasks), run, policy, tools, concurrency=5))
    assert len({row.num_actions for row in batched}) > 1


class Turning(ScriptedPolicy):
    """Lets the others go on before each turn, as a server does."""

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        return await super().complete(request)


@pytest.mark.parametrize("is_batched", [True, False])
def test_the_end_of_a_rollout_is_told_before_its_turn_comes(is_batched: bool) -> None:
    def script(request: Request) -> str:
        searches = request.context.startswith("first") and request.context.count(OPEN) < 3
        return f"well {OPEN} q {CLOSE}" if searches else "</think> \\boxed{1}"

    policy, told = Turning(script), list[Ended]()
    run = RolloutContext(policy, Sampling(), Limits())
    tasks = [
        task(trajectory_id=name, prompt=f"{name} <think>") for name in ("first", "second", "third")
    ]
    tools = {"search": Echo()}
    rows = (
        roll_out_batched(tasks, run, policy, tools, batch_size=3, on_end=told.append)
        if is_batched
        else roll_out_all(tasks, run, policy, tools, concurrency=3, on_end=told.append)
    )

    async def known_at_each() -> list[tuple[str, list[int]]]:
        return [(row.trajectory_id, [it.num_tokens for it in told]) async for row in rows]

    found = asyncio.run(known_at_each())
    assert [name for name, _ in found] == ["first", "second", "third"]
    quick, slow = sorted({it.num_tokens for it in told})
    assert found[0][1] == [quick, quick, slow]
    assert [it.num_tokens for it in told] == [quick, quick, slow]


def test_every_trajectory_and_turn_has_its_own_seed() -> None:
    policy = ScriptedPolicy([f"{OPEN} q {CLOSE}", "</think> 1", f"{OPEN} q {CLOSE}", "</think> 1"])
    tasks = [task(trajectory_id=f"q/coa/{i}") for i in range(2)]
    collect(
        roll_out_all(
            tasks,
            RolloutContext(policy, Sampling(), Limits()),
            policy,
            {"search": Echo()},
            concurrency=1,
        )
    )
    assert policy.requests is not None
    assert len({request.seed for request in policy.requests}) == 4


class WithIds(ScriptedPolicy):
    """Uses the characters' code points as token ids, and remembers what it was sent."""

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(map(ord, text))

    async def complete(self, request: Request) -> Completion:
        completion = await super().complete(request)
        assert request.context_ids == self.encode(request.context)
        return replace(
            completion,
            ids=self.encode(completion.text),
            num_tokens=len(completion.text),
            num_context_tokens=None,
        )


def test_a_policy_with_ids_gets_back_the_ids_it_sampled() -> None:
    policy = WithIds([f"go {OPEN} q {CLOSE}", "</think> \\boxed{1}"])
    (row,) = collect(
        roll_out_all(
            [task()],
            RolloutContext(policy, Sampling(), Limits()),
            policy,
            {"search": Echo()},
            concurrency=1,
        )
    )
    assert row.stop_reason is StopReason.ANSWERED
    assert row.num_environment_tokens == len(row.steps[2].text)
    assert row.num_policy_tokens == sum(
        len(step.text) for step in row.steps if step.author is Author.POLICY
    )


class Estimating(ScriptedPolicy):
    """Estimates what text costs, and says with every reply what the context really costs."""

    def count_tokens(self, text: str) -> int:
        return len(text)

    async def complete(self, request: Request) -> Completion:
        num_tokens = super().count_tokens
        completion = await super().complete(request)
        return replace(
            completion,
            num_tokens=num_tokens(completion.text),
            num_context_tokens=num_tokens(request.context),
        )


@pytest.mark.parametrize("prefix", [(), protocol.parse_policy("So far. ")])
def test_the_policys_own_counts_take_the_place_of_estimates(prefix: tuple[Step, ...]) -> None:
    texts = [f"go {OPEN} q {CLOSE}", f" on {OPEN} r {CLOSE}", "</think> \\boxed{1}"]
    policy = Estimating(texts)
    run = RolloutContext(policy, Sampling(), Limits())
    tools = {"search": Echo()}
    (row,) = collect(roll_out_all([task(prefix=prefix)], run, policy, tools, concurrency=1))

    count = ScriptedPolicy([]).count_tokens
    read = [step.text for step in row.steps if step.author is Author.ENVIRONMENT]
    assert len(read) == 2
    assert row.num_prompt_tokens == count(row.prompt) + sum(count(step.text) for step in prefix)
    assert row.num_environment_tokens == sum(map(count, read))
    assert row.num_policy_tokens == sum(map(count, texts))


@pytest.mark.parametrize("max_actions", [0, 1])
def test_the_marker_of_a_forced_answer_is_no_observation(max_actions: int) -> None:
    texts = [f"go {OPEN} q {CLOSE}", "1}"] if max_actions else ["1}"]
    policy = Estimating(texts)
    run = RolloutContext(policy, Sampling(), Limits(max_actions=max_actions))
    (row,) = collect(roll_out_all([task()], run, policy, {"search": Echo()}, concurrency=1))

    count = ScriptedPolicy([]).count_tokens
    read = sum(count(step.text) for step in row.steps if step.author is Author.ENVIRONMENT)
    assert row.steps[-2].text == protocol.ANSWER_MARKER
    assert abs(row.num_environment_tokens - read) <= 2
    assert abs(row.num_prompt_tokens - count(row.prompt)) <= 2


def test_an_unreachable_policy_ends_the_run_and_cancels_what_is_in_hand() -> None:
    class Down(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            raise ConnectionError("down")

    policy: Policy = Down([])
    with pytest.raises(ConnectionError, match="down"):
        collect(
            roll_out_all(
                [task()] * 9,
                RolloutContext(policy, Sampling(), Limits()),
                policy,
                {},
                concurrency=3,
            )
        )
