"""Several servers of one model: a trajectory stays on one, and leaves it only when it fails."""

import asyncio
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.network.servers import Servers
from coa.policy import Request, session_name
from coa.policy.completions import CompletionsPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import StopReason, Trajectory
from coa.spending.journaled import JournaledPolicy, policy_key
from coa.store.journal import Journal
from tests.completions_support import always, request, run
from tests.many_servers_support import (
    NUM_SEARCHES,
    Served,
    roll_out,
    roll_out_at,
    servers_of_sessions,
    serving,
    settings,
    times_sent,
)

NUM_TURNS = NUM_SEARCHES + 1


def all_answered(rows: list[Trajectory], number: int) -> bool:
    assert [row.question_id for row in rows] == [f"q{i}" for i in range(number)]
    return {row.stop_reason for row in rows} == {StopReason.ANSWERED}


def test_every_trajectory_stays_on_one_server_and_the_load_is_even() -> None:
    fleet = [Served() for _ in range(4)]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet), 120, concurrency=40)

    rows = run(go())

    assert all_answered(rows, 120)
    assert set(times_sent(*fleet).values()) == {1}
    sessions = servers_of_sessions(*fleet)
    assert len(sessions) == 120 and all(len(ports) == 1 for ports in sessions.values())
    shares = [len(served.seeds) / (120 * NUM_TURNS) for served in fleet]
    assert all(0.15 < share < 0.35 for share in shares), shares


def test_a_server_that_is_killed_and_comes_back_costs_only_what_it_was_working_on() -> None:
    fleet = [Served() for _ in range(4)]
    killed = fleet[0]

    async def go() -> tuple[list[Trajectory], int]:
        async with serving(*fleet):
            asked = asyncio.create_task(roll_out_at(settings(*fleet), 800, concurrency=40))
            while len(killed.seeds) < 60 or not killed.under_way:
                await asyncio.sleep(0.001)
            await killed.kill()
            num_before = len(killed.seeds)
            await asyncio.sleep(0.5)
            await killed.start()
            return await asked, num_before

    rows, num_before = run(go())

    assert all_answered(rows, 800)
    twice = {seed for seed, count in times_sent(*fleet).items() if count > 1}
    assert max(times_sent(*fleet).values()) == 2
    assert twice
    assert twice <= killed.cut_off
    assert len(times_sent(*fleet)) == 800 * NUM_TURNS
    assert num_before < len(killed.seeds), "it is used again"


def test_a_server_that_hangs_is_left_alone_after_its_first_timeout() -> None:
    fleet = [Served(seconds=60.0), Served(), Served()]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            chosen = settings(*fleet, timeout_seconds=1.5)
            return await roll_out_at(chosen, 150, concurrency=15)

    rows = run(go())

    assert all_answered(rows, 150)
    assert len(fleet[0].seeds) < 15
    twice = {seed for seed, count in times_sent(*fleet).items() if count > 1}
    assert twice == set(fleet[0].seeds)


def test_the_pauses_of_a_server_that_stays_down_grow() -> None:
    servers = Servers(["http://a/v1", "http://b/v1"])
    down = servers.choose("")
    pauses = []
    for _ in range(6):
        is_first = servers.failed(down, time.monotonic(), is_down=True, seconds=0.0)
        assert is_first == (not pauses), "one outage is told once"
        pauses.append(round(down.rests_until - time.monotonic()))

    assert pauses == [1, 2, 4, 8, 15, 15]
    assert {servers.choose("").address for _ in range(4)} == {"http://b/v1"}


def resets(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
    assert isinstance(http_request.transport, asyncio.Transport)
    http_request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("fails", [always(500, "out of memory"), resets], ids=["500", "reset"])
def test_a_server_that_breaks_every_request_is_left_alone(fails: Any) -> None:
    refused: list[int] = []

    def broken(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        refused.append(1)
        response: web.Response = fails(http_request, body)
        return response

    fleet = [Served(fails=broken), Served(), Served()]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet), 150, concurrency=15)

    assert all_answered(run(go()), 150)
    assert len(refused) < 20


def test_when_all_servers_are_down_the_patience_decides() -> None:
    fleet = [Served() for _ in range(3)]

    async def ask_late() -> str:
        async with CompletionsPolicy(settings(*fleet)) as policy:
            asked = asyncio.create_task(policy.complete(request(stop=())))
            await asyncio.sleep(0.5)
            async with serving(fleet[1]):
                return (await asked).text

    assert "look it up" in run(ask_late())
    with pytest.raises(ServiceError, match=r"no answer from the policy's server") as caught:
        run(roll_out_at(settings(*fleet, patience_minutes=0.01), 1, 1))
    assert all(served.base_url in str(caught.value) for served in fleet)


def test_the_server_that_does_not_serve_the_model_is_named() -> None:
    other = always(404, "The model `scripted` does not exist.")
    fleet = [Served(), Served(), Served(fails=other)]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet), 30, concurrency=6)

    with pytest.raises(ServiceError, match="asked for the model 'scripted'") as caught:
        run(go())
    assert f"where: {fleet[2].base_url}" in str(caught.value)
    assert fleet[0].base_url not in str(caught.value)


def test_a_router_is_told_the_trajectory_by_a_hash() -> None:
    headers: list[Mapping[str, str]] = []
    bodies: list[Mapping[str, Any]] = []

    def note(http_request: web.Request, body: Mapping[str, Any]) -> None:
        headers.append(http_request.headers)
        bodies.append(body)

    served = Served(fails=note)

    async def go(**changes: Any) -> list[Trajectory]:
        async with serving(served):
            return await roll_out_at(settings(served, **changes), 1, 1)

    run(go())
    expected = hashlib.sha256(b"q0/coa/0").hexdigest()[:32]
    for name in ("X-Session-ID", "X-SMG-Routing-Key"):
        assert {it.get(name) for it in headers} == {expected}
    assert not any("session_id" in body for body in bodies)

    bodies.clear()
    run(go(session_field="session_id"))
    assert {body["session_id"] for body in bodies} == {expected}


def test_a_journal_serves_a_run_at_other_addresses(tmp_path: Path) -> None:
    fleet = [Served() for _ in range(3)]

    async def go(*chosen: Served) -> list[Trajectory]:
        with Journal(tmp_path / "journal.sqlite") as journal:
            async with serving(*chosen), CompletionsPolicy(settings(*chosen)) as policy:
                return await roll_out(JournaledPolicy(policy, journal), 10, 4)

    first = run(go(*fleet[:2]))
    assert run(go(fleet[2])) == first
    assert fleet[2].seeds == []


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ((), "each server once"),
        (("http://a/v1", "http://a/v1/"), "each server once"),
        (("http://a/v1", "http://user:secret@b/v1"), "not usable"),
    ],
)
def test_addresses_are_checked(base_url: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        CompletionsPolicy(ServerSettings(base_url, "tiny"))
    assert "secret" not in str(caught.value)


def test_a_session_changes_no_key() -> None:
    policy = CompletionsPolicy(
        ServerSettings(model="tiny", base_url=("http://a/v1", "http://b/v1"))
    )
    asked = Request("Question", (), 64, 0.6, 1.0, 7)
    named = Request("Question", (), 64, 0.6, 1.0, 7, session=session_name("q/coa/0"))

    assert policy_key(policy, named) == policy_key(policy, asked)
    one_address = CompletionsPolicy(ServerSettings(model="tiny"))
    assert policy_key(policy, asked) == policy_key(one_address, asked)


def test_a_request_that_every_server_breaks_is_a_row_and_the_others_go_on() -> None:
    broken = session_name("q3/coa/0")

    def bug(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        is_broken = http_request.headers.get("X-Session-ID") == broken
        return error_response(500, "bug") if is_broken else None

    fleet = [Served(fails=bug), Served(fails=bug)]

    async def go() -> list[Trajectory]:
        async with serving(*fleet):
            return await roll_out_at(settings(*fleet, patience_minutes=0.02), 40, concurrency=8)

    rows = run(go())

    failed = rows.pop(3)
    assert failed.stop_reason is StopReason.POLICY_ERROR and "bug" in failed.error
    assert {row.stop_reason for row in rows} == {StopReason.ANSWERED}
