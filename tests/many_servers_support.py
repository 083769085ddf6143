"""Serve one model on several real sockets, and count what each server is sent."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from coa.policy import Completion, Policy, Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import Sampling, Trajectory
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext, Task
from tests.completions_support import free_port
from tests.doubles.model_server import Fails, serve
from tests.rollout_support import CLOSE, OPEN, Echo, task

NUM_SEARCHES = 3
ANSWER = "It is Ada.</think> \\boxed{Ada}"


def turn(request: Request) -> str:
    """Search a few times, then answer."""
    if request.context.count(OPEN) < NUM_SEARCHES:
        return f"I look it up. {OPEN} who {CLOSE}"
    return ANSWER


class SlowScript(ScriptedPolicy):
    """A script that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(turn)
        self.seconds = seconds

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(self.seconds)
        return await super().complete(request)


@dataclass
class Served:
    """One server, and what it was sent. A seed names a request, for it differs for each."""

    seconds: float = 0.02
    fails: Fails | None = None
    port: int = field(default_factory=free_port)
    seeds: list[int] = field(default_factory=list)
    """The requests that came."""
    sessions: list[str] = field(default_factory=list)
    under_way: dict[int, asyncio.Transport] = field(default_factory=dict)
    cut_off: set[int] = field(default_factory=set)
    """The requests that were under way when it was killed."""
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        script = _Counted(self)
        await self.stack.enter_async_context(serve(script, port=self.port, fails=self._note))

    async def kill(self) -> None:
        """Break every connection, and accept no other."""
        self.cut_off |= set(self.under_way)
        for transport in self.under_way.values():
            transport.abort()
        await self.stack.aclose()

    def _note(self, http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        failure = self.fails(http_request, body) if self.fails else None
        if failure is None and body:
            self.seeds.append(body["seed"])
            self.sessions.append(http_request.headers.get("X-Session-ID", ""))
            assert isinstance(http_request.transport, asyncio.Transport)
            self.under_way[body["seed"]] = http_request.transport
        return failure


class _Counted(SlowScript):
    """Forgets a request that is answered."""

    def __init__(self, served: Served) -> None:
        super().__init__(served.seconds)
        self._served = served

    async def complete(self, request: Request) -> Completion:
        completion = await super().complete(request)
        self._served.under_way.pop(request.seed, None)
        return completion


@asynccontextmanager
async def serving(*fleet: Served) -> AsyncIterator[None]:
    for served in fleet:
        await served.start()
    try:
        yield
    finally:
        for served in fleet:
            await served.stack.aclose()


def settings(*fleet: Served, **changes: Any) -> ServerSettings:
    values: dict[str, Any] = {
        "base_url": tuple(served.base_url for served in fleet),
        "model": "scripted",
        "patience_minutes": 0.2,
    }
    return ServerSettings(**{**values, **changes})


def tasks(number: int) -> Iterator[Task]:
    for i in range(number):
        yield task(trajectory_id=f"q{i}/coa/0", question_id=f"q{i}")


async def roll_out(policy: Policy, number: int, concurrency: int) -> list[Trajectory]:
    """Roll out so many questions."""
    run = RolloutContext(policy, Sampling(), Limits())
    rows = roll_out_all(tasks(number), run, policy, {"search": Echo()}, concurrency=concurrency)
    return [row async for row in rows]


async def roll_out_at(chosen: ServerSettings, number: int, concurrency: int) -> list[Trajectory]:
    async with CompletionsPolicy(chosen) as policy:
        return await roll_out(policy, number, concurrency)


def times_sent(*fleet: Served) -> Counter[int]:
    """How often each request came to any server."""
    return Counter(seed for served in fleet for seed in served.seeds)


def servers_of_sessions(*fleet: Served) -> dict[str, set[int]]:
    """The servers that each trajectory was at."""
    found: dict[str, set[int]] = {}
    for served in fleet:
        for session in served.sessions:
            found.setdefault(session, set()).add(served.port)
    return found
