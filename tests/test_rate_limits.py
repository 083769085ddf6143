"""Limits on requests and tokens a minute: those that are set, and those that a server has."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError
from coa.network.pace import Limits
from coa.policy import Completion
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import StopReason, Trajectory
from tests.completions_support import request, run
from tests.doubles.model_server import serve
from tests.many_servers_support import (
    Served,
    roll_out_at,
    servers_of_sessions,
    serving,
    settings,
)


class RateLimit:
    """Refuses what is above a rate, as hosts do: a bucket of tokens that fills evenly."""

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second, self.burst = per_second, burst
        self._level, self._filled_at = burst, time.monotonic()
        self.allowed_at: list[float] = []
        self.refused_at: list[float] = []

    def __call__(self, http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        now = time.monotonic()
        self._level += (now - self._filled_at) * self.per_second
        self._level = min(self._level, self.burst)
        self._filled_at = now
        if self._level < 1:
            self.refused_at.append(now)
            return error_response(429, "Rate limit reached")
        self._level -= 1
        self.allowed_at.append(now)
        return None


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "date"])
def test_nothing_is_sent_while_a_server_asks_for_a_pause(as_date: bool) -> None:
    came_at: list[float] = []

    def limit_once(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        came_at.append(time.monotonic())
        if len(came_at) != 3:
            return None
        moment = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        return error_response(429, "slow down", {"Retry-After": moment if as_date else "1"})

    served = Served(seconds=0.05, fails=limit_once)

    async def go() -> list[Trajectory]:
        async with serving(served):
            return await roll_out_at(settings(served), 6, concurrency=2)

    rows = run(go())

    assert {row.stop_reason for row in rows} == {StopReason.ANSWERED}
    pauses = [later - earlier for earlier, later in pairwise(came_at)]
    assert max(pauses) > 0.9
    longest = pauses.index(max(pauses))
    assert longest in (2, 3), "only what was on its way came in the pause"


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_asks_for_a_long_pause_hands_its_trajectories_on(status: int) -> None:
    def limit(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        return error_response(status, "come back tomorrow", {"Retry-After": "86400"})

    fleet = [Served(fails=limit), Served()]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet), 20, concurrency=4)

    assert {row.stop_reason for row in run(go())} == {StopReason.ANSWERED}


def test_a_server_that_refuses_for_ever_hands_its_trajectories_on() -> None:
    def limit(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        return error_response(429, "You exceeded your current quota")

    fleet = [Served(fails=limit), Served()]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet), 20, concurrency=8)

    began_at = time.monotonic()
    rows = run(go())

    assert {row.stop_reason for row in rows} == {StopReason.ANSWERED}
    assert time.monotonic() - began_at < 9, "patience ends after 12 seconds"


def test_a_crowded_server_keeps_its_trajectories() -> None:
    fleet = [Served(fails=RateLimit(per_second=40.0, burst=5.0)), Served()]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet), 60, concurrency=24)

    assert {row.stop_reason for row in run(go())} == {StopReason.ANSWERED}
    moved = [ports for ports in servers_of_sessions(*fleet).values() if len(ports) > 1]
    assert len(moved) < 8


def test_a_limit_on_requests_holds_over_all_servers() -> None:
    fleet = [Served(seconds=0.0), Served(seconds=0.0)]
    came_at: list[float] = []

    def note(http_request: web.Request, body: Mapping[str, Any]) -> None:
        came_at.append(time.monotonic())

    for served in fleet:
        served.fails = note

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            chosen = settings(*fleet, max_requests_per_minute=1800)
            return await roll_out_at(chosen, 20, concurrency=20)

    assert len(run(go())) == 20
    seconds = came_at[-1] - came_at[0]
    rate = (len(came_at) - 1) / seconds
    assert 24 < rate <= 31.5, rate


def test_a_limit_on_tokens_counts_what_was_used_and_not_what_was_expected() -> None:
    seconds: list[float] = []

    async def ask(policy: CompletionsPolicy, seed: int) -> Completion:
        began_at = time.monotonic()
        completion = await policy.complete(request(seed=seed, stop=()))
        seconds.append(time.monotonic() - began_at)
        return completion

    async def go() -> list[Completion]:
        text = " ".join(["word"] * 50)
        async with serve(ScriptedPolicy(lambda _: text)) as base_url:
            chosen = ServerSettings(base_url, "scripted", max_tokens_per_minute=60 * 550)
            async with CompletionsPolicy(chosen) as policy:
                return [await ask(policy, seed) for seed in range(20)]

    completions = run(go())

    used = sum(it.num_tokens + (it.num_context_tokens or 0) for it in completions)
    assert 0.6 * used / 550 < sum(seconds) < 1.5 * used / 550


def test_requests_that_were_refused_use_no_tokens() -> None:
    limits = Limits(tokens_per_minute=600)
    limits.take(100)
    assert 9 < limits.seconds_until_free() <= 10
    limits.correct_tokens(-100)
    assert limits.seconds_until_free() <= 0


def test_requests_that_wait_for_a_limit_use_up_no_patience() -> None:
    failed: set[int] = set()

    def fail_once(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        is_first = bool(body) and body["seed"] not in failed
        failed.add(body.get("seed", 0))
        return error_response(503, "busy") if is_first else None

    async def go() -> list[Completion]:
        async with serve(ScriptedPolicy(lambda _: "yes"), fails=fail_once) as base_url:
            chosen = ServerSettings(
                base_url, "scripted", patience_minutes=0.02, max_requests_per_minute=600
            )
            async with CompletionsPolicy(chosen) as policy:
                asked = (policy.complete(request(seed=seed)) for seed in range(20))
                return await asyncio.gather(*asked)

    assert len(run(go())) == 20


@pytest.mark.parametrize("name", ["max_requests_per_minute", "max_tokens_per_minute"])
def test_a_negative_limit_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} must not be negative"):
        CompletionsPolicy(ServerSettings(model="tiny", **{name: -1}))  # type: ignore[arg-type]
