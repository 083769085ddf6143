"""Test drivers: every slot at work, rows in order, memory flat, fatal errors noticed at once."""

import asyncio
import resource
import time
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from coa.errors import OutputError, ServiceError
from coa.policy import Completion, Policy, Request, RequestError
from coa.policy.scripted import ScriptedPolicy
from coa.progress import Ended
from coa.records.trajectory import Mode, Sampling, StopReason, Trajectory
from coa.rollout import loop as rollout
from coa.rollout.drivers import roll_out_all, roll_out_batched, roll_out_states, tool_environment
from coa.rollout.failures import NUM_FIRST, stop_if_all_fail
from coa.rollout.loop import Limits, RolloutContext, State, Task
from coa.spending.journaled import JournaledBatchPolicy, JournaledPolicy
from coa.store.journal import Journal
from coa.store.spool import Spool

ANSWER = "</think> \\boxed{1}"


def tasks(count: int, prompt: str = "{} <think>\n") -> list[Task]:
    return [
        Task(f"q{i}/coa/0", f"q{i}", Mode.COA, 0, "Who?", prompt.format(i), "hash")
        for i in range(count)
    ]


def driven(
    policy: Policy, count: int, *, concurrency: int = 4, told: list[Ended] | None = None
) -> AsyncGenerator[Trajectory, None]:
    run = RolloutContext(policy, Sampling(), Limits())
    on_end = (told if told is not None else []).append
    return roll_out_all(tasks(count), run, policy, {}, concurrency=concurrency, on_end=on_end)


async def collect(rows: AsyncGenerator[Trajectory, None]) -> list[Trajectory]:
    return [row async for row in rows]


class Sleeping(ScriptedPolicy):
    """Answers after so many seconds as its rule gives for the number of a task."""

    def __init__(self, seconds: dict[int, float], otherwise: float) -> None:
        super().__init__(lambda request: ANSWER)
        self._seconds, self._otherwise = seconds, otherwise
        self.num_asked = self.in_hand = self.most_in_hand = 0

    async def complete(self, request: Request) -> Completion:
        self.num_asked += 1
        self.in_hand += 1
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        number = int(request.context.partition(" ")[0])
        await asyncio.sleep(self._seconds.get(number, self._otherwise))
        self.in_hand -= 1
        return await super().complete(request)


def test_a_slow_rollout_holds_up_nothing_but_the_order() -> None:
    policy, told = Sleeping({0: 0.6}, 0.001), list[Ended]()

    async def first_row() -> tuple[str, int]:
        rows = driven(policy, 200, told=told)
        first = await anext(rows)
        ended_by_then = len(told)
        assert [row.trajectory_id async for row in rows] == [f"q{i}/coa/0" for i in range(1, 200)]
        return first.trajectory_id, ended_by_then

    assert asyncio.run(first_row()) == ("q0/coa/0", 200)
    assert policy.most_in_hand == 4


def test_a_replay_does_not_pile_up_behind_its_reader(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        policy = JournaledPolicy(ScriptedPolicy(lambda request: ANSWER), journal)
        asyncio.run(collect(driven(policy, 300)))
        told = list[Ended]()
        ahead = []

        async def read() -> None:
            async for _ in driven(policy, 300, told=told):
                ahead.append(len(told) - len(ahead))

        asyncio.run(read())

    assert not any(it.is_live for it in told)
    assert max(ahead) <= 8


@pytest.mark.parametrize("is_batched", [True, False])
def test_a_rollout_is_live_where_the_journal_did_not_answer(
    tmp_path: Path, is_batched: bool
) -> None:
    script = ScriptedPolicy(lambda request: ANSWER)

    def told_of(count: int) -> list[bool]:
        told = list[Ended]()
        with Journal(tmp_path / "journal.sqlite") as journal:
            policy = JournaledPolicy(script, journal)
            batched = JournaledBatchPolicy(script, journal)
            run = RolloutContext(policy, Sampling(), Limits())
            asyncio.run(
                collect(
                    roll_out_batched(
                        tasks(count), run, batched, {}, batch_size=3, on_end=told.append
                    )
                    if is_batched
                    else driven(policy, count, told=told)
                )
            )
        return [it.is_live for it in told]

    assert told_of(5) == [True] * 5
    assert sorted(told_of(9)) == [False] * 5 + [True] * 4


class Refused(ScriptedPolicy):
    """A server that refuses our key, but for requests that take their time."""

    def __init__(self) -> None:
        super().__init__(lambda request: ANSWER)
        self.num_asked = self.num_cancelled = 0

    async def complete(self, request: Request) -> Completion:
        self.num_asked += 1
        if request.context.startswith("5 "):
            await asyncio.sleep(0.02)
            raise ServiceError("the policy's server refuses us", got="HTTP 402: no credit")
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        raise AssertionError


def test_a_fatal_error_ends_the_run_at_once_wherever_it_happens() -> None:
    policy = Refused()
    started = time.monotonic()
    with pytest.raises(ServiceError, match="402"):
        asyncio.run(collect(driven(policy, 1000, concurrency=8)))
    assert time.monotonic() - started < 2
    assert (policy.num_asked, policy.num_cancelled) == (8, 7)


# --- runs in which nothing succeeds ---------------------------------------------------------------


class Window(ScriptedPolicy):
    """Refuses the contexts that begin with one of some numbers."""

    def __init__(self, refused: range) -> None:
        super().__init__(lambda request: ANSWER)
        self._refused, self.num_asked = refused, 0

    async def complete(self, request: Request) -> Completion:
        self.num_asked += 1
        if int(request.context.partition(" ")[0]) in self._refused:
            raise RequestError("HTTP 400: maximum context length is 4096 tokens")
        await asyncio.sleep(0.01)
        return await super().complete(request)


@pytest.mark.parametrize("count", [1, 7, NUM_FIRST, 500])
def test_a_run_in_which_all_is_refused_is_an_error_that_quotes_the_server(count: int) -> None:
    policy = Window(range(500))
    rows = stop_if_all_fail(driven(policy, count))
    with pytest.raises(ServiceError) as error:
        asyncio.run(collect(rows))
    assert "maximum context length is 4096 tokens" in str(error.value)
    assert "max_context_tokens" in str(error.value)
    assert f"the first {min(count, NUM_FIRST)} rollouts" in str(error.value)
    assert policy.num_asked <= NUM_FIRST + 10


@pytest.mark.parametrize("refused", [range(NUM_FIRST - 1), range(1, 500), range(3, 4)], ids=str)
def test_a_run_in_which_some_are_refused_goes_on(refused: range) -> None:
    rows = asyncio.run(collect(stop_if_all_fail(driven(Window(refused), 60))))
    failed = [row.question_id for row in rows if row.stop_reason == "policy_error"]
    assert failed == [f"q{i}" for i in range(60) if i in refused]


# --- final states of a served policy --------------------------------------------------------------


def states_of(policy: Policy, count: int) -> list[State]:
    async def finish() -> list[State]:
        run = RolloutContext(policy, Sampling(), Limits())
        states = roll_out_states(tasks(count), run, policy, tool_environment({}), batch_size=8)
        return [state async for state in states]

    return asyncio.run(finish())


class Served:
    """A policy that can only be asked one request at a time."""

    def __init__(self, policy: ScriptedPolicy) -> None:
        self.name, self.identity = policy.name, policy.identity
        self.encode, self.count_tokens = policy.encode, policy.count_tokens
        self.complete = policy.complete


def test_a_fatal_error_ends_rollouts_that_go_on_by_themselves() -> None:
    policy = Refused()
    with pytest.raises(ServiceError, match="402"):
        states_of(Served(policy), 1000)
    assert (policy.num_asked, policy.num_cancelled) == (8, 7)


def test_a_refused_request_ends_its_own_rollout_alone() -> None:
    reasons = [
        rollout.finish(state).stop_reason for state in states_of(Served(Window(range(3))), 9)
    ]
    assert reasons == [StopReason.POLICY_ERROR] * 3 + [StopReason.ANSWERED] * 6


# --- what waits -----------------------------------------------------------------------------------


def test_rows_that_wait_for_a_slow_one_cost_no_memory() -> None:
    long_answer = "so " * 20_000 + ANSWER
    limits = Limits(max_context_tokens=1_000_000)

    class Long(Sleeping):
        async def complete(self, request: Request) -> Completion:
            await super().complete(request)
            return await ScriptedPolicy([long_answer]).complete(request)

    async def measure() -> tuple[int, int]:
        policy = Long({0: 2.0}, 0.0)
        run = RolloutContext(policy, Sampling(), limits)
        rows = roll_out_all(tasks(150), run, policy, {}, concurrency=4)
        tracemalloc.start()
        num_chars = len((await anext(rows)).steps[0].text)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await rows.aclose()
        return num_chars, held

    num_chars, held = asyncio.run(measure())
    assert num_chars > 50_000
    assert held < 20 * num_chars  # 149 of them wait


def test_what_is_spooled_comes_back_and_the_file_shrinks(tmp_path: Path) -> None:
    (row,) = asyncio.run(collect(driven(ScriptedPolicy([ANSWER]), 1)))
    with Spool(Trajectory, tmp_path / "deep") as spool:
        for number in (7, 3):
            spool.put(number, row)
        assert (7 in spool, 4 in spool, len(spool)) == (True, False, 2)
        assert spool.get(7) == spool.take(7) == spool.take(3) == row
        assert len(spool) == 0
        assert list((tmp_path / "deep").iterdir()) == []


def test_a_full_disk_while_rows_wait_says_so(tmp_path: Path) -> None:
    (row,) = asyncio.run(collect(driven(ScriptedPolicy([ANSWER]), 1)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with (
            pytest.raises(OutputError, match="free some space"),
            Spool(Trajectory, tmp_path) as spool,
        ):
            for number in range(100):
                spool.put(number, row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
