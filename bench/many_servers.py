"""Measure trajectories over several served fakes: wall time against the ideal, with one killed.

    python -m bench.many_servers                        # 2,048 in flight over four servers
    python -m bench.many_servers seconds=2 killed=10    # latency of a turn; seconds of an outage
    python -m bench.many_servers limit=400              # each server refuses more a minute: 429

Each fake is a process of its own. How long it takes for a turn follows from the request's seed, so
the ideal is known: every slot begins its next trajectory as soon as the last one could be over. It
counts what it is sent, and refuses more than `limit` requests a minute where one is set. With
`killed`, one server gets SIGKILL in the middle and is started again after so many seconds. A bare
aiohttp client that only posts as many requests runs first (not with `killed` or `limit`): it shows
what a busy machine adds. Targets: at most 1.1 times the ideal; each trajectory on one server;
nothing sent twice but what was in flight at the kill.
"""

import asyncio
import heapq
import json
import multiprocessing
import random
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, fields
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import aiohttp
from aiohttp import web

from bench.loop import ANSWER, CALL, InstantSearch
from coa.policy import session_name
from coa.policy.completions import CompletionsPolicy
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.trajectory import Mode, Sampling, StopReason
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext, Task

NUM_ACTIONS = 3
NUM_TURNS = NUM_ACTIONS + 1


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line."""

    servers: int = 4
    trajectories: int = 4096
    in_flight: int = 2048
    seconds: float = 4.0
    """The mean time that a server takes for a turn; it is half to one and a half times as long."""
    killed: float = 0.0
    """For how long one server is dead; 0: none is killed."""
    limit: float = 0.0
    """The requests a minute that each server allows; 0: all."""


@dataclass(slots=True)
class Bucket:
    """The requests that a server allows: it fills evenly, and holds those of a second."""

    per_second: float
    level: float = 0.0
    filled_at: float = 0.0

    def allows(self) -> bool:
        """Take one request out, if there is one."""
        now = time.monotonic()
        filled = self.level + (now - self.filled_at) * self.per_second
        self.level = min(filled, max(self.per_second, 1.0))
        self.filled_at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True


def latency(seed: int, mean: float) -> float:
    """Return how long a server takes for the request with this seed."""
    return mean * (0.5 + random.Random(seed).random())


def serve(port: int, seconds: float, limit: float, connection: Connection) -> None:
    """Answer every request after `seconds`, and tell `connection` its seed and its session."""
    bucket = Bucket(limit / 60)

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        if limit and not bucket.allows():
            connection.send(("refused", "", time.monotonic()))
            return web.json_response({"error": {"message": "too many requests"}}, status=429)
        connection.send((body["seed"], request.headers["X-Session-ID"], time.monotonic()))
        await asyncio.sleep(latency(body["seed"], seconds))
        has_found = body["prompt"].count(CALL) >= NUM_ACTIONS
        text = ANSWER if has_found else CALL
        choice = {"text": text, "finish_reason": "stop", "stop_reason": None}
        return web.json_response({"choices": [choice], "usage": {"completion_tokens": 20}})

    async def run() -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/completions", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096, reuse_address=True).start()
        connection.send("ready")
        await asyncio.Event().wait()

    asyncio.run(run())


class Fake:
    """A served fake in a process, and what it was sent."""

    def __init__(self, options: Options) -> None:
        with socket.socket() as opened:
            opened.bind(("127.0.0.1", 0))
            self.port: int = opened.getsockname()[1]
        self._options = options
        self.received: list[tuple[object, str, float]] = []
        self.start()

    def start(self) -> None:
        """Start the process and wait until it listens."""
        self._ours, theirs = multiprocessing.Pipe()
        arguments = (self.port, self._options.seconds, self._options.limit, theirs)
        context = multiprocessing.get_context("spawn")
        self._process: SpawnProcess = context.Process(target=serve, args=arguments)
        self._process.start()
        theirs.close()
        assert self._ours.recv() == "ready"

    def read(self) -> None:
        """Take over what the process has counted, which it would else wait to hand over."""
        try:
            while self._ours.poll():
                self.received.append(self._ours.recv())
        except EOFError:
            pass  # it is dead, and all is read

    def kill(self) -> set[object]:
        """Kill it; returns the seeds of the requests that it may have been working on."""
        self.read()
        killed_at = time.monotonic()
        self._process.kill()
        self._process.join()
        self.read()
        earliest = killed_at - 1.5 * self._options.seconds - 1
        return {seed for seed, _, at in self.received if at > earliest}


def tasks(number: int) -> list[Task]:
    """Make so many tasks."""
    prompt = f"who wrote the book? {protocol.THINK_OPEN}"
    return [
        Task(f"q{i}/coa/0", f"q{i}", Mode.COA, 0, "Who?", prompt, "hash", ("search",))
        for i in range(number)
    ]


async def roll_out(options: Options, fleet: list[Fake]) -> Counter[StopReason]:
    """Roll out all tasks; returns how they ended."""
    base_url = tuple(f"http://127.0.0.1:{fake.port}/v1" for fake in fleet)
    settings = ServerSettings(base_url, "fake", timeout_seconds=60.0)
    ends: Counter[StopReason] = Counter()
    async with CompletionsPolicy(settings) as policy:
        run = RolloutContext(policy, Sampling(), Limits())
        tools = {"search": InstantSearch()}
        rows = roll_out_all(
            tasks(options.trajectories), run, policy, tools, concurrency=options.in_flight
        )
        async for row in rows:
            ends[row.stop_reason] += 1
    return ends


async def post_bare(options: Options, fleet: list[Fake]) -> float:
    """Post as many requests in as many slots with a bare client; returns the times of the ideal."""
    num_turns = NUM_TURNS * options.trajectories // options.in_flight
    prompt = "who wrote the book? " * 10
    names = [f"bare {i}" for i in range(options.in_flight)]

    async def fill_slot(session: aiohttp.ClientSession, i: int) -> None:
        url = f"http://127.0.0.1:{fleet[i % len(fleet)].port}/v1/completions"
        for turn in range(num_turns):
            body = {"prompt": prompt, "seed": i * num_turns + turn, "max_tokens": 100}
            async with session.post(url, json=body, headers={"X-Session-ID": names[i]}) as reply:
                await reply.json()

    began_at = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(fill_slot(session, i) for i in range(options.in_flight)))
    seconds = time.monotonic() - began_at
    for fake in fleet:
        fake.read()
    times_ideal = seconds / ideal_seconds(options, fleet, names)
    for fake in fleet:
        fake.received.clear()
    return times_ideal


def ideal_seconds(options: Options, fleet: list[Fake], names: list[str]) -> float:
    """Return how long sessions take, in this order, if nothing but the servers takes time."""
    seconds: dict[str, dict[object, float]] = {}
    for fake in fleet:
        for seed, session, _ in fake.received:
            if isinstance(seed, int):
                seconds.setdefault(session, {})[seed] = latency(seed, options.seconds)
    slots = [0.0] * options.in_flight
    for name in names:
        heapq.heapreplace(slots, slots[0] + sum(seconds[name].values()))
    if not options.limit:
        return max(slots)
    allowed_a_second = options.servers * options.limit / 60
    return max(*slots, options.trajectories * NUM_TURNS / allowed_a_second)


async def read_all(fleet: list[Fake]) -> None:
    """Keep reading what the fakes count."""
    while True:
        for fake in fleet:
            fake.read()
        await asyncio.sleep(0.2)


async def kill_one(options: Options, fake: Fake) -> set[object]:
    """Kill a fake in the middle and start it again; returns what it was working on."""
    if not options.killed:
        return set()
    rounds = options.trajectories / options.in_flight
    await asyncio.sleep(rounds * NUM_TURNS * options.seconds / 3)
    cut_off = fake.kill()
    await asyncio.sleep(options.killed)
    await asyncio.to_thread(fake.start)
    return cut_off


async def measure(options: Options, fleet: list[Fake]) -> dict[str, object]:
    """Run all and return the figures."""
    reading = asyncio.create_task(read_all(fleet))
    bare = 0.0
    if not options.killed and not options.limit:
        bare = await post_bare(options, fleet)
    killing = asyncio.create_task(kill_one(options, fleet[0]))
    began_at, cpu = time.monotonic(), time.process_time()
    ends = await roll_out(options, fleet)
    seconds, cpu = time.monotonic() - began_at, time.process_time() - cpu
    cut_off = await killing
    reading.cancel()
    for fake in fleet:
        fake.read()
    names = [session_name(task.trajectory_id) for task in tasks(options.trajectories)]
    ideal = ideal_seconds(options, fleet, names)
    return {
        "ideal seconds": round(ideal, 1),
        "seconds": round(seconds, 1),
        "times ideal": round(seconds / ideal, 3),
        "times ideal, bare client": round(bare, 3),
        "CPU ms a request": round(1000 * cpu / (options.trajectories * NUM_TURNS), 2),
        "ends": {reason.value: count for reason, count in ends.items()},
        **count(fleet, cut_off),
    }


def count(fleet: list[Fake], cut_off: set[object]) -> dict[str, object]:
    """Count what the servers were sent."""
    times: Counter[object] = Counter()
    ports: dict[str, set[int]] = {}
    refused_at: list[float] = []
    began_at = min(at for fake in fleet for _, _, at in fake.received)
    for fake in fleet:
        for seed, session, at in fake.received:
            if seed == "refused":
                refused_at.append(at - began_at)
                continue
            times[seed] += 1
            ports.setdefault(session, set()).add(fake.port)
    twice = {seed for seed, number in times.items() if number > 1}
    return {
        "requests": times.total(),
        "refused": len(refused_at),
        "refused after five seconds": sum(at > 5 for at in refused_at),
        "requests sent twice": len(twice),
        "of them not in flight at the kill": len(twice - cut_off),
        "trajectories on one server": sum(len(found) == 1 for found in ports.values()),
        "requests by server": [len(fake.received) for fake in fleet],
    }


def main(arguments: list[str]) -> None:
    """Start the fakes, measure, and print the figures."""
    given = dict(argument.split("=") for argument in arguments)
    kinds = {it.name: type(it.default) for it in fields(Options)}
    options = Options(**{name: kinds[name](value) for name, value in given.items()})
    fleet = [Fake(options) for _ in range(options.servers)]
    try:
        for name, figure in asyncio.run(measure(options, fleet)).items():
            print(f"{name:36}{json.dumps(figure)}")
    finally:
        for fake in fleet:
            fake.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
