"""What all HTTP clients share: deadlines, warnings while a server fails or is silent, the proxy."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from coa.network.http_client import GaveUp, HttpClient, Patience, Reply, proxy_for

SECRET = "sk-secret-123"
Answer = Callable[[int], web.StreamResponse]


def ask(served_app: Any, answer: Answer, seconds: float = 0.0, **patience: float) -> bytes:
    """The reply to one request; `answer` knows how many came before it, and takes `seconds`."""
    count = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        await asyncio.sleep(seconds)
        return answer(count - 1)

    async def send(url: str) -> bytes:
        chosen = {"timeout_seconds": 5.0, "deadline_seconds": 5.0, **patience}
        patient = Patience(**chosen)  # type: ignore[arg-type]
        client = HttpClient("test server", patient, headers={}, secrets=(SECRET,))
        try:
            return await client.request("GET", f"{url}/page?key={SECRET}", body_of)
        finally:
            await client.aclose()

    app = web.Application()
    app.router.add_get("/page", handle)
    with served_app(app) as url:
        return asyncio.run(send(url))


def body_of(reply: Reply) -> bytes:
    return reply.body


def test_a_server_that_is_silent_is_warned_of_once_in_a_while(
    served_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    body = ask(served_app, lambda _: web.Response(text="yes"), seconds=0.5, warning_seconds=0.2)

    assert body == b"yes"
    assert len(caplog.messages) == 2
    assert "the test server has answered nobody for 0 seconds; requests that wait: 1" in caplog.text
    assert "each for up to 5 seconds" in caplog.text


def test_a_failing_server_is_warned_of_with_the_reason_and_the_time_left(
    served_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_at_first(count: int) -> web.Response:
        return web.Response(status=503 if count < 3 else 200, text=f"busy, {SECRET}")

    ask(served_app, fail_at_first, quiet_seconds=0.0, warning_seconds=100.0)

    (warning,) = caplog.messages
    assert "does not answer a request (http://127.0.0.1" in warning
    assert "status 503: 'busy, ***'" in warning and "for up to 5 seconds" in warning
    assert SECRET not in caplog.text


def test_what_passes_soon_is_not_warned_of(
    served_app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ask(served_app, lambda count: web.Response(status=200 if count else 503))

    assert not [it for it in caplog.records if it.levelno >= logging.WARNING]


def test_a_deadline_that_cuts_ends_an_attempt_under_way(served_app: Any) -> None:
    with pytest.raises(GaveUp, match="no reply within"):
        ask(served_app, lambda _: web.Response(), seconds=1.0, deadline_seconds=0.2)


def test_a_deadline_that_does_not_cut_lets_an_attempt_end(served_app: Any) -> None:
    patience = {"deadline_seconds": 0.1, "cuts_attempts": False}
    assert ask(served_app, lambda _: web.Response(text="yes"), seconds=0.4, **patience) == b"yes"


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
def test_requests_go_through_the_proxy_that_the_environment_names(
    served_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords: list[str | None] = []

    async def handle(request: web.Request) -> web.Response:
        passwords.append(request.headers.get("Proxy-Authorization"))
        return web.Response(text=f"for {request.host}")

    async def send() -> bytes:
        client = HttpClient("test server", Patience(5.0, 5.0), headers={}, secrets=())
        try:
            return await client.request("GET", "http://host.example/page", body_of)
        finally:
            await client.aclose()

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    with served_app(app) as url:
        monkeypatch.setenv("http_proxy", url.replace("//", "//user:pass@"))
        assert asyncio.run(send()) == b"for host.example"

    assert passwords == ["Basic dXNlcjpwYXNz"]


@pytest.mark.usefixtures("no_proxies")
def test_hosts_that_no_proxy_can_reach_are_asked_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("no_proxy", "inner.example")

    assert proxy_for("http://host.example/v1") == "http://proxy:3128"
    for host in ("inner.example", "127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        assert proxy_for(f"http://{host}/v1") is None
    assert proxy_for("https://host.example/v1") is None
