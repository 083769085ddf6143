"""Measure rollouts that go on by themselves beside rollouts in lock-step, over a served fake.

    python -m bench.rl_waiting [FILE...]     # R1-Searcher's released files, for the lengths

The lengths of turns are those of the files (those in $COA_REAL_DATA, if none are named), or drawn
from a summary of them. The engine is that of `bench.latency_model`; a search takes 100 ms.

1. The rollouts of 20 GRPO steps, 240 at once as in the paper: in turns, where all wait for the
   slowest reply of each turn, and one by one. Then where one search in a hundred takes 3 s.
   The drivers are RL's; the clock is simulated, so a busy machine changes nothing and clients cost
   nothing. Aim: 2 times the rollouts an hour.
2. Synthesis over a served fake, in real time, medians of three runs that take turns: our loop with
   its journal, beside batches as in AutoCoA's rollouts (vllm_rollout_coa),
   where all trajectories write, then all search, and a batch ends with its last trajectory. AutoCoA
   sets no stop string: the model writes on past the tag, and what follows is cut off. Here it then
   writes its remaining turns and invents no results, which is less than a model would write. The
   third way is such a batch with stop strings. Target: at least 2.5 times AutoCoA's.
"""

import asyncio
import os
import random
import selectors
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from bench.engine import ANSWER, CALL, OBSERVED, Search, roll_out, served, task_of, written
from bench.latency_model import (
    CHARS_PER_TOKEN,
    IN_FLIGHT,
    SEARCH_SECONDS,
    Plan,
    RunningEngine,
    draw_plans,
    read_plans,
)
from bench.student import interleaved
from coa.policy import AnyPolicy, Completion, Finish, Request, cut_at_stop
from coa.policy.completions import CompletionsPolicy
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import Author, Outcome, Sampling
from coa.rollout.drivers import Environment, roll_out_states, tool_environment
from coa.rollout.loop import Limits, RolloutContext, State
from coa.tools import ToolReply

NUM_REPEATS = 3
NUM_STEPS = 20
STEP_ROLLOUTS = 240
SYNTHESISED = 2 * IN_FLIGHT
SLOW_SECONDS = 3.0
SLOW_SHARE = 0.01


class JumpingSelector(selectors.SelectSelector):
    """A selector that never waits: its clock jumps to where the wait would have ended."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now."""
        self.now += timeout or 0.0
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop in simulated time, in which only what sleeps takes time."""

    def __init__(self) -> None:
        self._clock = JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the simulated seconds since the loop was made."""
        return self._clock.now


class ModelledPolicy:
    """A served policy with the engine of the latency model."""

    name = "modelled"
    identity: ClassVar[dict[str, object]] = {}

    def __init__(self, plans: Sequence[Plan], engine: RunningEngine) -> None:
        self._plans = plans
        self._engine = engine

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Give no ids."""

    def count_tokens(self, text: str) -> int:
        """Count the tokens."""
        return len(text) // CHARS_PER_TOKEN

    async def complete(self, request: Request) -> Completion:
        """Write the planned turn."""
        number = int(request.context.partition(" ")[0])
        turn = request.context.count(CALL)
        num_tokens = self._plans[number].turns[turn]
        await self._engine.write(number, num_tokens)
        text = written(self._plans[number], turn)
        return Completion(text, Finish.END if ANSWER in text else Finish.STOP, num_tokens)


class WithoutStop(CompletionsPolicy):
    """A policy that lets the model write on past a tag, and cuts off what follows."""

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context."""
        done = await super().complete(replace(request, stop=()))
        text, has_stopped = cut_at_stop(done.text, request.stop)
        return replace(done, text=text, finish=Finish.STOP if has_stopped else Finish.END)


def searching(slow_share: float) -> Environment:
    """Return an environment in which a share of the searches takes 3 s, the same in all ways."""

    async def search(state: State) -> ToolReply:
        draw = random.Random(f"{state.task.trajectory_id} {state.num_calls}").random()
        await asyncio.sleep(SLOW_SECONDS if draw < slow_share else SEARCH_SECONDS)
        return ToolReply(Outcome.OK, OBSERVED, ("p1",))

    async def answer(states: Sequence[State]) -> Sequence[ToolReply]:
        return await asyncio.gather(*map(search, states))

    return answer


async def finish(
    numbers: Iterable[int], policy: AnyPolicy, environment: Environment, *, in_turns: bool
) -> None:
    """Roll out these trajectories together, to the end of the last one."""
    run = RolloutContext(policy, Sampling(), Limits(max_context_tokens=10**6))
    tasks = [task_of(number) for number in numbers]
    states = roll_out_states(
        tasks, run, policy, environment, batch_size=len(tasks), in_turns=in_turns
    )
    async for state in states:
        assert "boxed" in state.context, state.pending


async def roll_out_steps(plans: Sequence[Plan], slow_share: float, *, in_turns: bool) -> float:
    """Roll out the steps one after the other; returns the seconds."""
    engine = RunningEngine()
    running = asyncio.create_task(engine.run())
    policy, environment = ModelledPolicy(plans, engine), searching(slow_share)
    for step in range(NUM_STEPS):
        numbers = range(step * STEP_ROLLOUTS, (step + 1) * STEP_ROLLOUTS)
        await finish(numbers, policy, environment, in_turns=in_turns)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return asyncio.get_running_loop().time()


def roll_out_batches(base_url: str, kind: type[CompletionsPolicy]) -> float:
    """Write trajectories batch by batch, in lock-step; returns the seconds."""

    async def roll_out_all() -> None:
        environment = tool_environment({"search": Search()})
        settings = ServerSettings(base_url, "fake", timeout_seconds=600.0)
        async with kind(settings) as policy:
            for first in range(0, SYNTHESISED, IN_FLIGHT):
                numbers = range(first, first + IN_FLIGHT)
                await finish(numbers, policy, environment, in_turns=True)

    began_at = time.monotonic()
    asyncio.run(roll_out_all())
    return time.monotonic() - began_at


def print_times(title: str, number: int, seconds: dict[str, float]) -> None:
    """Print a line for each way; the last one is compared with all."""
    *_, ours = seconds.values()
    print(f"{title:52}{'seconds':>9}{'an hour':>9}{'ours is':>9}")
    for name, taken in seconds.items():
        print(f"  {name:50}{taken:9.1f}{3600 * number / taken:9,.0f}{taken / ours:8.2f}x")
    sys.stdout.flush()


def measure_steps(plans: Sequence[Plan]) -> None:
    """Print the tables of RL."""
    for share, what in ((0.0, "all searches alike"), (SLOW_SHARE, "1 search in 100 takes 3 s")):
        seconds = {}
        for name, in_turns in (("in turns", True), ("one by one", False)):
            with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
                seconds[name] = runner.run(roll_out_steps(plans, share, in_turns=in_turns))
        title = f"{NUM_STEPS} steps of {STEP_ROLLOUTS} rollouts, {what}"
        print_times(title, NUM_STEPS * STEP_ROLLOUTS, seconds)


def measure_synthesis(plans: Sequence[Plan]) -> None:
    """Print the table of synthesis."""
    with served(plans) as base_url:
        ways = {
            "AutoCoA's lock-step": partial(roll_out_batches, base_url, WithoutStop),
            "lock-step with stop strings": partial(roll_out_batches, base_url, CompletionsPolicy),
            "our sampling": lambda: asyncio.run(roll_out(plans, base_url)).seconds,
        }
        seconds = interleaved(ways, NUM_REPEATS)
    print_times(f"{SYNTHESISED:,} trajectories, {IN_FLIGHT} in flight", SYNTHESISED, seconds)


def choose_plans(files: Sequence[str], number: int) -> list[Plan]:
    """Read the lengths of trajectories and shuffle them, or draw some where there are no files."""
    folder = Path(os.environ.get("COA_REAL_DATA", "")) / "trajectories"
    found = files or [str(path) for path in sorted(folder.glob("*r1searcher*.jsonl"))]
    if not found:
        print("no files: lengths are drawn from a summary of R1-Searcher's")
        return draw_plans(number)
    plans = read_plans(found, number)
    random.Random(0).shuffle(plans)
    return plans


def main(files: Sequence[str]) -> None:
    """Print the tables."""
    measure_steps(choose_plans(files, NUM_STEPS * STEP_ROLLOUTS))
    measure_synthesis(choose_plans(files, SYNTHESISED))


if __name__ == "__main__":
    main(sys.argv[1:])
