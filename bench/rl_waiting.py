"""Measure rollouts that go on by themselves beside rollouts in lock-step, over a served fake.

    python -m bench.rl_waiting [FILE...]     # R1-Searcher's released files, for the lengths

The fake is the engine of `bench.latency_model`, in real time, in a process of its own. The lengths
are those of the files (those in $COA_REAL_DATA, if none are named), or drawn from a summary of
them. All ways take turns three times; the table shows medians.

1. The rollouts of a GRPO step, 240 at once as in the paper, with RL's own policy and ids: in turns,
   where all wait for the slowest reply of each turn, and one by one. Then the same with one search
   in a hundred that takes 3 s. Each round is another step. Aim: 2 times the rollouts an hour.
2. Synthesis: our loop with its journal, beside batches as in AutoCoA's rollouts (vllm_rollout_coa),
   where all trajectories write, then all search, and a batch ends with its last trajectory. AutoCoA
   sets no stop string: the model writes on past the tag, and what follows is cut off. Here it then
   writes its remaining turns and invents no results, which is less than a model would write. The
   third way is such a batch with stop strings. Target: at least 2.5 times AutoCoA's.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from bench.engine import OBSERVED, WINDOW, Search, roll_out, served, task_of, word_encoder
from bench.latency_model import IN_FLIGHT, SEARCH_SECONDS, Plan, draw_plans, read_plans
from bench.student import interleaved
from coa.drivers import Environment, roll_out_states, tool_environment
from coa.policy import AnyPolicy, Completion, Finish, Request, cut_at_stop
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.rollout import Limits, RolloutContext, State
from coa.tools import ToolReply
from coa.trajectory import Outcome, Sampling
from train.vllm_policy import ServedEngine, ServedVllmPolicy

NUM_REPEATS = 3
STEP_ROLLOUTS = 240
SYNTHESISED = 2 * IN_FLIGHT
SLOW_SECONDS = 3.0
SLOW_SHARE = 0.01


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
    run = RolloutContext(policy, Sampling(), Limits(max_context_tokens=WINDOW))
    tasks = [task_of(number) for number in numbers]
    states = roll_out_states(
        tasks, run, policy, environment, batch_size=len(tasks), in_turns=in_turns
    )
    async for state in states:
        assert "boxed" in state.context, state.pending


def roll_out_step(
    steps: Iterator[range], base_url: str, *, slow_share: float, in_turns: bool
) -> float:
    """Roll out the next step as RL does; returns its seconds."""
    import requests

    encoder = word_encoder()
    with ThreadPoolExecutor(STEP_ROLLOUTS) as threads, requests.Session() as session:
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=STEP_ROLLOUTS)
        session.mount("http://", adapter)
        client = SimpleNamespace(
            session=session, base_url=base_url.removesuffix("/v1"), model="fake"
        )
        policy = ServedVllmPolicy(ServedEngine(client, threads), encoder.tokenizer, name="fake")
        began_at = time.monotonic()
        asyncio.run(finish(next(steps), policy, searching(slow_share), in_turns=in_turns))
        return time.monotonic() - began_at


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


def print_times(title: str, number: int, works: dict[str, Callable[[], float]]) -> None:
    """Run the works in turns, and print a line for each; the last one is compared with all."""
    seconds = interleaved(works, NUM_REPEATS)
    *_, ours = seconds.values()
    print(f"{title:44}{'seconds':>9}{'an hour':>10}{'ours is':>9}")
    for name, taken in seconds.items():
        print(f"  {name:42}{taken:9.1f}{3600 * number / taken:10,.0f}{taken / ours:8.2f}x")
    sys.stdout.flush()


def measure_steps(plans: Sequence[Plan]) -> None:
    """Print the table of RL."""
    slices = [
        range(first, first + STEP_ROLLOUTS)
        for first in range(0, NUM_REPEATS * STEP_ROLLOUTS, STEP_ROLLOUTS)
    ]
    with served(plans, gives_ids=True) as base_url:
        for share, what in ((0.0, "all searches alike"), (SLOW_SHARE, "1 search in 100 takes 3 s")):
            works: dict[str, Callable[[], float]] = {}
            for name, in_turns in (("in turns", True), ("one by one", False)):
                works[name] = partial(
                    roll_out_step, iter(slices), base_url, slow_share=share, in_turns=in_turns
                )
            print_times(f"a step of {STEP_ROLLOUTS} rollouts, {what}", STEP_ROLLOUTS, works)


def measure_synthesis(plans: Sequence[Plan]) -> None:
    """Print the table of synthesis."""
    with served(plans) as base_url:
        print_times(
            f"{SYNTHESISED:,} trajectories, {IN_FLIGHT} in flight",
            SYNTHESISED,
            {
                "AutoCoA's lock-step": partial(roll_out_batches, base_url, WithoutStop),
                "lock-step with stop strings": partial(
                    roll_out_batches, base_url, CompletionsPolicy
                ),
                "our sampling": lambda: asyncio.run(roll_out(plans, base_url)).seconds,
            },
        )


def choose_plans(files: Sequence[str]) -> list[Plan]:
    """Read the lengths of trajectories and shuffle them, or draw some where there are no files."""
    folder = Path(os.environ.get("COA_REAL_DATA", "")) / "trajectories"
    found = files or [str(path) for path in sorted(folder.glob("*r1searcher*.jsonl"))]
    if not found:
        print("no files: lengths are drawn from a summary of R1-Searcher's")
        return draw_plans(SYNTHESISED)
    plans = read_plans(found, SYNTHESISED)
    random.Random(0).shuffle(plans)
    return plans


def main(files: Sequence[str]) -> None:
    """Print both tables."""
    plans = choose_plans(files)
    measure_steps(plans)
    measure_synthesis(plans)


if __name__ == "__main__":
    main(sys.argv[1:])
