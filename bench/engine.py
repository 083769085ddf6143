"""Measure 512 trajectories in flight against a model of an inference engine's latency.

    python -m bench.engine FILE...              # R1-Searcher's released files, for the lengths
    python -m bench.engine FILE... number=600   # fewer trajectories

The engine, in a process of its own, decodes in steps: each takes 20 ms and 0.05 ms for every
request in its batch, of which there are at most 256, and gives every one a token. Others wait. A
search takes 100 ms. The length of each turn is that of a recorded one. The bound is the time that
the same engine takes, simulated, if nothing else takes time.

A bare aiohttp client, which posts the same bodies with the same pauses, runs first and shows what
a busy machine adds. Then our client posts them, and our loop runs with its journal. Last, one in a
hundred trajectories rambles: one turn of it is fifty times as long as the whole. That run ends when
the last trajectory has begun, and counts the slots that stood empty until then. Targets: at most
1.1 times the bound; less than 5% of the slots lost; at most 1.3 times the bare client's CPU a call.
"""

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
from aiohttp import web

from bench.latency_model import (
    CHARS_PER_TOKEN,
    IN_FLIGHT,
    SEARCH_SECONDS,
    Plan,
    RunningEngine,
    bound_seconds,
    read_plans,
)
from coa.policy import Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.server_settings import ServerSettings
from coa.progress import Ended
from coa.records import protocol
from coa.records.trajectory import Mode, Outcome, Sampling
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.spending.journaled import JournaledPolicy, JournaledTool
from coa.store.journal import Journal
from coa.tools import ToolReply

RAMBLING_EVERY = 100
STOP = protocol.close_tag("search")
CALL = f"{protocol.open_tag('search')} who {STOP}"
OBSERVED = "fact " * 400
JSON_TYPE = {"Content-Type": "application/json"}
ANSWER = f"{protocol.THINK_CLOSE} \\boxed{{Ada}}"


def written(plan: Plan, turn: int) -> str:
    """Return what the policy writes in a turn."""
    is_last = turn == len(plan.turns) - 1
    return "word " * plan.turns[turn] + (ANSWER if is_last else CALL)


def serve(plans: Sequence[Plan], connection: Connection) -> None:
    """Serve the engine in real time; the port goes through `connection`."""
    engine = RunningEngine()

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        number = int(body["prompt"].partition(" ")[0])
        turn = body["prompt"].count(CALL)
        text = written(plans[number], turn)
        num_tokens = plans[number].turns[turn]
        await engine.write(len(plans) * turn + number, num_tokens)
        usage = {"prompt_tokens": len(body["prompt"]) // CHARS_PER_TOKEN}
        usage["completion_tokens"] = num_tokens
        choice = {"text": text, "finish_reason": "stop", "stop_reason": None}
        return web.json_response({"choices": [choice], "usage": usage})

    async def run() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        connection.send(runner.addresses[0][1])
        await engine.run()

    asyncio.run(run())


class Search:
    """Search tool that takes its time."""

    name = "search"
    fingerprint = "latency model"

    async def call(self, argument: str) -> ToolReply:
        """Answer after 100 ms."""
        await asyncio.sleep(SEARCH_SECONDS)
        return ToolReply(Outcome.OK, OBSERVED, ("p1",))


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run took."""

    seconds: float
    cpu_ms: float
    """Of this process, for each call of the policy; searches and journal are in it."""
    slots_lost: float = 0.0
    """Share of the slots that stood empty while there were trajectories to begin."""


Ask = Callable[[str, int], Awaitable[str]]
"""A function that sends a context with a seed, and returns the text that continues it."""


async def ask_all(plans: Sequence[Plan], ask: Ask) -> Measured:
    """Send the calls of all trajectories without our loop, and pause for each search."""
    unbegun = iter(enumerate(plans))
    num_calls = sum(len(plan.turns) for plan in plans)

    async def fill_slot() -> None:
        for number, plan in unbegun:
            context = prompt_of(number)
            for turn in range(len(plan.turns)):
                context += await ask(context, number)
                if turn < len(plan.turns) - 1:
                    await asyncio.sleep(SEARCH_SECONDS)
                    context += OBSERVED

    began_at, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*(fill_slot() for _ in range(IN_FLIGHT)))
    cpu = time.process_time() - cpu
    return Measured(time.monotonic() - began_at, 1000 * cpu / num_calls)


async def run_bare_client(plans: Sequence[Plan], base_url: str) -> Measured:
    """Post the same bodies with aiohttp alone."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=JSON_TYPE) as session:

        async def ask(context: str, seed: int) -> str:
            body = {"model": "fake", "prompt": context, "seed": seed, "stop": [STOP]}
            data = json.dumps({**body, "max_tokens": 8192, "temperature": 1.0, "top_p": 1.0})
            async with session.post(f"{base_url}/completions", data=data) as reply:
                text: str = (await reply.json())["choices"][0]["text"]
                return text

        return await ask_all(plans, ask)


async def run_our_client(plans: Sequence[Plan], base_url: str) -> Measured:
    """Send the same requests with our client, without loop and journal."""
    async with CompletionsPolicy(ServerSettings(base_url, "fake")) as policy:

        async def ask(context: str, seed: int) -> str:
            return (await policy.complete(Request(context, (STOP,), 8192, 1.0, 1.0, seed))).text

        return await ask_all(plans, ask)


def prompt_of(number: int) -> str:
    """Return the prompt of a trajectory, which begins with its number."""
    return f"{number} {'who wrote the book? ' * 40}{protocol.THINK_OPEN}\n"


def task_of(number: int) -> Task:
    """Return the task of a trajectory."""
    name, prompt = f"q{number}", prompt_of(number)
    return Task(f"{name}/coa/0", name, Mode.COA, 0, "Who?", prompt, "hash", ("search",))


@dataclass(slots=True)
class Slots:
    """Counts the slots in use, from the first task that begins to the last."""

    plans: Sequence[Plan]
    num_running: int = 0
    used_seconds: float = 0.0
    began_at: float = 0.0
    changed_at: float = 0.0
    all_begun: asyncio.Event = field(default_factory=asyncio.Event)

    def tasks(self) -> Iterator[Task]:
        """Make the tasks, one as each slot becomes free."""
        self.began_at = self.changed_at = time.monotonic()
        for number in range(len(self.plans)):
            if number >= IN_FLIGHT:
                self._change(1)
            else:
                self.num_running += 1
            yield task_of(number)
        self.all_begun.set()

    def end(self, _: Ended) -> None:
        """Count a slot that becomes free."""
        self._change(-1)

    def _change(self, number: int) -> None:
        now = time.monotonic()
        if not self.all_begun.is_set():
            self.used_seconds += self.num_running * (now - self.changed_at)
            self.changed_at = now
        self.num_running += number

    @property
    def share_lost(self) -> float:
        """Return the share of the slots' time in which they were empty."""
        all_seconds = IN_FLIGHT * (self.changed_at - self.began_at)
        return max(0.0, 1 - self.used_seconds / all_seconds)


async def roll_out(plans: Sequence[Plan], base_url: str, *, is_whole: bool = True) -> Measured:
    """Roll out with our loop, to the end or until the last trajectory begins."""
    slots = Slots(plans)
    settings = ServerSettings(base_url, "fake", timeout_seconds=600.0)
    num_calls = 0

    async def exhaust() -> None:
        nonlocal num_calls
        limits = Limits(max_context_tokens=10**6)
        run = RolloutContext(policy, Sampling(), limits, Search.fingerprint)
        journaled = JournaledPolicy(policy, journal)
        tools = {"search": JournaledTool(Search(), journal)}
        rows = roll_out_all(
            slots.tasks(), run, journaled, tools, concurrency=IN_FLIGHT, on_end=slots.end
        )
        async for row in rows:
            assert row.num_calls == len(plans[int(row.question_id[1:])].turns), row.stop_reason
            num_calls += row.num_calls

    with tempfile.TemporaryDirectory() as folder:
        async with CompletionsPolicy(settings) as policy:
            with Journal(Path(folder) / "calls.sqlite") as journal:
                began_at, cpu = time.monotonic(), time.process_time()
                running = asyncio.create_task(exhaust())
                if is_whole:
                    await running
                else:
                    await slots.all_begun.wait()
                    calls = [call.task for call in journal.in_flight.values() if call.task]
                    for task in (running, *calls):
                        task.cancel()
                    await asyncio.gather(running, *calls, return_exceptions=True)
                seconds = time.monotonic() - began_at
                cpu = time.process_time() - cpu
    return Measured(seconds, 1000 * cpu / max(num_calls, 1), slots.share_lost)


def main(arguments: list[str]) -> None:
    """Measure the runs one after the other and print the figures."""
    files = [argument for argument in arguments if "=" not in argument]
    options = dict(argument.split("=") for argument in arguments if "=" in argument)
    plans = read_plans(files, int(options.get("number", 2000)))
    rambling = []
    for number, plan in enumerate(plans):
        rambles = number % RAMBLING_EVERY == RAMBLING_EVERY // 2
        rambling.append(plan.rambling() if rambles else plan)
    bound = bound_seconds(plans)
    num_calls = sum(len(plan.turns) for plan in plans)
    num_tokens = sum(sum(plan.turns) for plan in plans)
    print(f"{len(plans):,} trajectories, {num_calls:,} calls, {num_tokens:,} tokens")
    print(f"{'':28}{'seconds':>9}{'/ bound':>9}{'CPU ms a call':>15}{'/ bare':>8}")
    print(f"{'bound':28}{bound:9.1f}{1:9.3f}")
    with served(plans) as base_url:
        bare = asyncio.run(run_bare_client(plans, base_url))
        print_run("bare client", bare, bound, bare)
        client = asyncio.run(run_our_client(plans, base_url))
        print_run("our client", client, bound, bare)
        ours = asyncio.run(roll_out(plans, base_url))
        print_run("our loop, with its journal", ours, bound, bare)
    with served(rambling) as base_url:
        lost = asyncio.run(roll_out(rambling, base_url, is_whole=False)).slots_lost
    print(f"1 in {RAMBLING_EVERY} rambles: {100 * lost:.1f}% of the slots lost")


@contextmanager
def served(plans: Sequence[Plan]) -> Iterator[str]:
    """Serve the engine in a process of its own while the block runs; its value is the address."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(plans, theirs))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def print_run(name: str, run: Measured, bound: float, bare: Measured) -> None:
    """Print a line of the table."""
    times = f"{run.seconds:9.1f}{run.seconds / bound:9.3f}"
    print(f"{name:28}{times}{run.cpu_ms:15.2f}{run.cpu_ms / bare.cpu_ms:8.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
