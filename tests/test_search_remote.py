"""Search through the client of retrieval servers, on a real server that fails on demand."""

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.search import Hit, Passage, SearchError
from coa.search.remote import RemoteSearch
from coa.search.settings import RemoteSettings
from coa.search.wire import TOKEN_VARIABLE
from tests.search_remote_support import (
    ENGINE,
    Fault,
    reply,
    search,
)


class Server:
    """Speaks the protocol over the embedded engine; each of `faults` answers a request instead."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.is_scored = True
        self.delay_seconds = 0.0
        self.requests: list[dict[str, object]] = []
        self.authorizations: list[str | None] = []
        self.most_in_flight = self._in_flight = 0
        self.url = ""

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization"))
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        await asyncio.sleep(self.delay_seconds)
        body = await request.json()
        self._in_flight -= 1
        self.requests.append(body)
        if self.faults:
            return self.faults.pop(0)(request)
        return web.json_response(
            {"result": [self._documents(query, body["topk"]) for query in body["queries"]]}
        )

    def _documents(self, query: str, top_k: int) -> list[object]:
        hits = ENGINE.find(query, top_k)
        return [
            self._scored(hit) if self.is_scored else self._document(hit.passage) for hit in hits
        ]

    def _scored(self, hit: Hit) -> dict[str, object]:
        return {"document": self._document(hit.passage), "score": hit.score}

    @staticmethod
    def _document(passage: Passage) -> dict[str, str]:
        return {"id": passage.id, "contents": f'"{passage.title}"\n{passage.text}'}

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/retrieve", self.retrieve)
        return app


@pytest.fixture
def server(served_app: Any) -> Iterator[Server]:
    served = Server()
    with served_app(served.app()) as served.url:
        yield served


def status(code: int, text: str = "", **headers: str) -> Fault:
    return lambda request: web.Response(status=code, text=text, headers=headers)


def test_hits_come_through_as_the_engine_found_them(server: Server) -> None:
    assert search(server.url, "blue danube")[0] == list(ENGINE.find("blue danube", 2))
    assert server.requests == [{"queries": ["blue danube"], "topk": 2, "return_scores": True}]


def test_bare_documents_keep_the_order_of_the_server(server: Server) -> None:
    server.is_scored = False
    hits = search(server.url, "blue danube")[0]
    assert [(hit.passage.id, hit.score) for hit in hits] == [("p2", 0.0), ("p1", 0.0)]


def test_ties_break_by_id_and_surplus_hits_are_cut(server: Server) -> None:
    documents = [
        {"document": {"id": name, "contents": name}, "score": 1} for name in ("b", "c", "a")
    ]
    server.faults = [lambda request: web.json_response({"result": [documents]})]
    hits = search(server.url, "q")[0]
    assert [hit.passage for hit in hits] == [Passage("a", "", "a"), Passage("b", "", "b")]


def test_a_search_that_keeps_failing_is_given_up_at_the_deadline(server: Server) -> None:
    server.faults = [status(500, "boom")] * 1000
    start = time.monotonic()
    with pytest.raises(SearchError, match=r"failed for 0\.5 seconds: status 500: 'boom'"):
        search(server.url, "rhine", deadline_seconds=0.5)
    assert time.monotonic() - start < 15
    assert 1 < len(server.requests) < 100


def test_a_server_that_hangs_is_given_up_at_the_deadline(server: Server) -> None:
    server.delay_seconds = 0.6
    with pytest.raises(SearchError, match="no reply within"):
        search(server.url, "rhine", timeout_seconds=0.1, deadline_seconds=0.5)


def test_a_server_that_is_not_there_is_a_service_error_that_names_it(free_url: str) -> None:
    with pytest.raises(
        ServiceError, match=rf"cannot be reached[\s\S]*{free_url}[\s\S]*start the server"
    ):
        search(free_url, "rhine", deadline_seconds=0.3)


@pytest.mark.parametrize("code", [401, 403, 404, 307])
def test_a_server_that_refuses_us_is_a_service_error_at_once(server: Server, code: int) -> None:
    server.faults = [status(code, Location="http://elsewhere.invalid")]
    with pytest.raises(ServiceError, match=rf"refuses us[\s\S]*{code}[\s\S]*{TOKEN_VARIABLE}"):
        search(server.url, "rhine")
    assert len(server.requests) == 1


def test_a_query_that_the_server_rejects_is_a_search_error_at_once(server: Server) -> None:
    server.faults = [status(422, "too long")]
    with pytest.raises(SearchError, match="status 422: 'too long'"):
        search(server.url, "rhine")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<html>", r"expected JSON, got '<html>'"),
        ("[" * 100_000, "expected JSON"),
        ('{"result": [[{"id": "1", "contents": "te', "expected JSON"),
        ("[]", r'expected \{"result"'),
        ('{"result": []}', r'expected \{"result"'),
        ('{"result": [[], []]}', "for the one query"),
        ('{"result": [[1]]}', "expected documents"),
        ('{"result": [[{"document": {"id": "1"}, "score": 1}]]}', "expected documents"),
        ('{"result": [[{"document": {"contents": 7}, "score": 1}]]}', "expected documents"),
        (
            '{"result": [[{"document": {"id": "1", "contents": "t"}, "score": "high"}]]}',
            "scores that are numbers",
        ),
        (
            '{"result": [[{"document": {"id": "1", "contents": "t"}, "score": NaN}]]}',
            "scores that are numbers",
        ),
    ],
)
def test_a_malformed_reply_says_what_was_expected_and_got(
    server: Server, text: str, expected: str
) -> None:
    server.faults = [reply(text)]
    with pytest.raises(SearchError, match=rf"malformed: .*{expected}"):
        search(server.url, "rhine")


def test_no_more_searches_are_in_flight_than_allowed(server: Server) -> None:
    server.delay_seconds = 0.02
    assert len(search(server.url, *["rhine"] * 12, max_concurrency=3)) == 12
    assert server.most_in_flight == 3


def test_a_client_can_be_used_again_in_another_event_loop(server: Server) -> None:
    client = RemoteSearch(RemoteSettings(url=server.url))

    async def search_and_close() -> str:
        hits = await client.search("rhine", 1)
        await client.aclose()
        return hits[0].passage.id

    assert [asyncio.run(search_and_close()) for _ in range(2)] == ["p3", "p3"]


def test_the_token_is_sent_and_shown_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    server.faults = [status(403, "bad token s3cret")]
    with pytest.raises(ServiceError) as refused:
        search(server.url, "rhine")
    assert server.authorizations == ["Bearer s3cret"]
    assert "bad token ***" in str(refused.value)
    settings = RemoteSettings(url=server.url)
    shown = [
        str(refused.value),
        repr(RemoteSearch(settings)),
        repr(settings),
        RemoteSearch(settings).fingerprint,
    ]
    assert not any("s3cret" in text for text in shown)


@pytest.mark.parametrize("padding", [0, 140, 193, 290])
def test_the_token_is_in_no_error_about_a_malformed_reply(
    server: Server, monkeypatch: pytest.MonkeyPatch, padding: int
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret-token")
    server.faults = [reply(json.dumps({"result": " " * padding + "s3cret-token"}))]
    with pytest.raises(SearchError, match="malformed") as error:
        search(server.url, "rhine")
    assert "s3c" not in str(error.value)


def test_a_token_that_cannot_be_sent_is_not_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret\nX-Other: 1")
    with pytest.raises(ConfigError, match=TOKEN_VARIABLE) as error:
        search(server.url, "rhine")
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("url", ["", "search:8000", "ftp://search", "http://user:s3cret@search"])
def test_an_unusable_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"search\.server\.url") as error:
        RemoteSettings(url=url)
    assert "s3cret" not in str(error.value)


def test_no_more_requests_a_second_are_sent_than_allowed(server: Server) -> None:
    started = time.monotonic()
    search(server.url, *["rhine"] * 6, max_per_second=10)
    assert time.monotonic() - started > 0.45


def test_a_reply_that_never_ends_is_given_up(server: Server) -> None:
    def endless(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * 64_000_001)

    server.faults = [endless]
    with pytest.raises(SearchError, match="too large"):
        search(server.url, "rhine")


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(server: Server, form: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.faults = [status(429, **{"Retry-After": "1" if form == "seconds" else date})]
    start = time.monotonic()
    search(server.url, "rhine")
    assert time.monotonic() - start >= 0.9


@pytest.mark.parametrize("value", ["9" * 5000, "soon", "-1", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_a_retry_after_without_sense_is_survived(server: Server, value: str) -> None:
    server.faults = [status(429, **{"Retry-After": value})]
    assert search(server.url, "rhine")[0]
