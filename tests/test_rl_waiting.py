"""Test the benchmark of waiting rollouts: its clock is simulated, so its figures are exact."""

import asyncio

import pytest

pytest.importorskip("torch")

from bench.latency_model import (
    SEARCH_SECONDS,
    STEP_SECONDS,
    STEP_SECONDS_EACH,
    Plan,
    RunningEngine,
    draw_plans,
)
from bench.rl_waiting import ModelledPolicy, SimulatedLoop, finish, searching

PLANS = [Plan((10, 500)), Plan((500, 10))]


def seconds(*, in_turns: bool) -> float:
    """Roll out both plans, one of which is slow where the other is not."""

    async def through() -> float:
        engine = RunningEngine()
        running = asyncio.create_task(engine.run())
        policy = ModelledPolicy(PLANS, engine)
        await finish(range(2), policy, searching(0.0), in_turns=in_turns)
        running.cancel()
        return asyncio.get_running_loop().time()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(through())


def test_a_turn_takes_as_long_as_its_longest_reply_and_a_rollout_as_its_own() -> None:
    each = STEP_SECONDS + STEP_SECONDS_EACH
    expected = 510 * each + SEARCH_SECONDS
    assert seconds(in_turns=False) == pytest.approx(expected, rel=0.01)
    assert seconds(in_turns=True) == pytest.approx(expected + 490 * each, rel=0.01)


def test_drawn_lengths_are_the_same_every_time_and_spread_as_those_of_the_files() -> None:
    totals = sorted(sum(plan.turns) for plan in draw_plans(1000))
    assert draw_plans(1000) == draw_plans(1000)
    assert 200 < totals[500] < 300  # 245 in the files
    assert 350 < totals[900] < 420  # 373
