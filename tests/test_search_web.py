"""Test web search on servers that answer as Serper, SearXNG and Tavily do.

Recordings and their replay offline are tested as well.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, InputError, ServiceError
from coa.records.trajectory import Outcome
from coa.search import Hit, Passage, SearchError
from coa.search.app import Serving
from coa.search.embedded import EmbeddedSearch
from coa.search.factory import open_engine, open_search_tool
from coa.search.recorded import RecordedSearch
from coa.search.settings import (
    EngineKind,
    Provider,
    RecordingMode,
    RecordingSettings,
    RemoteSettings,
    SearchParams,
    WebSettings,
)
from coa.search.web import WebSearch

PAGES = [
    ("https://a.example/1", "Danube", "A river."),
    ("https://b.example", "Blue Danube", "A waltz."),
]


class Web:
    """Answers as the three providers do; each of `faults` answers one request instead."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.faults: list[int] = []
        self.url = ""

    async def search(self, request: web.Request) -> web.Response:
        body = dict(request.query) if request.method == "GET" else await request.json()
        self.requests.append((request.method, body, dict(request.headers)))
        if self.faults:
            return web.Response(
                status=self.faults.pop(0), text=f"bad key {request.headers.get('X-API-KEY', '')}"
            )
        if "X-API-KEY" in request.headers:
            rows = [
                {"link": u, "title": t, "snippet": s, "position": n}
                for n, (u, t, s) in enumerate(PAGES, 1)
            ]
            return web.json_response(
                {"organic": [*rows, {"title": "no address"}], "peopleAlsoAsk": []}
            )
        rows = [{"url": u, "title": t, "content": s, "score": 0.5} for u, t, s in PAGES]
        return web.json_response({"query": body.get("q"), "results": rows})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/search", self.search)
        return app


@pytest.fixture
def internet(served_app: Any) -> Iterator[Web]:
    served = Web()
    with served_app(served.app()) as served.url:
        yield served


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERPER_API_KEY", "s3cret")
    monkeypatch.setenv("TAVILY_API_KEY", "s3cret")


def run(engine: Any, *queries: str) -> list[list[Hit]]:
    async def search_all() -> list[list[Hit]]:
        try:
            return [list(await engine.search(query, 3)) for query in queries]
        finally:
            await engine.aclose()

    return asyncio.run(search_all())


def web_search(internet: Web, provider: Provider = Provider.SERPER, **settings: Any) -> WebSearch:
    return WebSearch(
        WebSettings(provider, internet.url, deadline_seconds=2.0, max_per_second=0, **settings)
    )


@pytest.mark.parametrize(
    ("provider", "method", "body", "header"),
    [
        (Provider.SERPER, "POST", {"q": "danube", "num": 3}, ("X-API-KEY", "s3cret")),
        (Provider.SEARXNG, "GET", {"q": "danube", "format": "json"}, ("Accept", "*/*")),
        (
            Provider.TAVILY,
            "POST",
            {"query": "danube", "max_results": 3},
            ("Authorization", "Bearer s3cret"),
        ),
    ],
)
def test_each_provider_is_asked_and_read_in_its_own_way(
    internet: Web, provider: Provider, method: str, body: dict[str, Any], header: tuple[str, str]
) -> None:
    (hits,) = run(web_search(internet, provider), "danube")
    assert [hit.passage for hit in hits] == [Passage(*page) for page in PAGES]
    sent_method, sent_body, headers = internet.requests[0]
    assert (sent_method, sent_body, headers[header[0]]) == (method, body, header[1])


def test_paid_calls_are_counted_repeats_included_and_end_at_the_limit(internet: Web) -> None:
    internet.faults = [500]
    engine = web_search(internet, max_paid_calls=3)
    run(engine, "a", "b")
    assert len(internet.requests) == 3
    with pytest.raises(ServiceError, match=r"3 paid searches[\s\S]*max_paid_calls"):
        run(engine, "c")
    free = web_search(internet, Provider.SEARXNG, max_paid_calls=0)
    assert run(free, "a")[0]


def test_no_paid_call_beyond_the_limit_is_sent_by_searches_at_once(internet: Web) -> None:
    engine = web_search(internet, max_paid_calls=3)

    async def search_at_once() -> list[object]:
        try:
            searches = [engine.search(f"city {i}", 3) for i in range(8)]
            return list(await asyncio.gather(*searches, return_exceptions=True))
        finally:
            await engine.aclose()

    found = asyncio.run(search_at_once())
    assert sum(isinstance(item, ServiceError) for item in found) == 5
    assert len(internet.requests) == 3


def test_settings_and_keys_that_cannot_work_are_named(
    internet: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"search\.recording\.path"):
        RecordingSettings(RecordingMode.REPLAY)
    for name in ("timeout_seconds", "max_concurrency", "max_per_second", "max_paid_calls"):
        with pytest.raises(ConfigError, match=rf"search\.web\.{name}"):
            WebSettings(**{name: -1})  # type: ignore[arg-type]
    for value in ("", "two\nlines"):
        monkeypatch.setenv("SERPER_API_KEY", value)
        with pytest.raises(ConfigError, match="SERPER_API_KEY"):
            run(web_search(internet), "a")


def test_a_refusal_names_the_variable_and_never_the_key(internet: Web) -> None:
    internet.faults = [403]
    engine = web_search(internet)
    with pytest.raises(
        ServiceError, match=r"refuses us[\s\S]*bad key \*\*\*[\s\S]*SERPER_API_KEY"
    ) as error:
        run(engine, "a")
    assert "s3cret" not in str(error.value) + repr(engine) + engine.fingerprint


# --- recordings


class Counting:
    """An engine that counts, and fails where it is told to."""

    def __init__(
        self, engine: EmbeddedSearch, fails: Callable[[str], bool] = lambda query: False
    ) -> None:
        self.engine, self.fails, self.queries = engine, fails, [""][:0]
        self.fingerprint = engine.fingerprint

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        self.queries.append(query)
        await asyncio.sleep(0.01)
        if self.fails(query):
            raise SearchError(f"no luck with {query!r}")
        return await self.engine.search(query, top_k)


ENGINE = EmbeddedSearch.in_memory(
    [
        Passage("p1", "Danube", "A river\ud800".replace("\ud800", "\0")),
        Passage("p2", "Rhine", "Another river."),
    ]
)


def recorded(engine: Any, path: Path, mode: RecordingMode) -> RecordedSearch:
    return RecordedSearch(engine, RecordingSettings(mode, str(path)))


def test_what_was_recorded_is_replayed_exactly_without_the_engine(tmp_path: Path) -> None:
    live, offline = Counting(ENGINE), Counting(ENGINE)
    queries = ["danube", "rhine river", "zymurgy", "a lone \ud800 surrogate"]
    found = run(recorded(live, tmp_path / "r.sqlite", RecordingMode.RECORD), *queries)
    assert run(recorded(offline, tmp_path / "r.sqlite", RecordingMode.REPLAY), *queries) == found
    assert (live.queries, offline.queries) == (queries, [])


def test_two_runs_may_replay_one_recording_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    found = run(recorded(Counting(ENGINE), path, RecordingMode.RECORD), "danube")

    async def both() -> list[Sequence[Hit]]:
        engines = [recorded(Counting(ENGINE), path, RecordingMode.REPLAY) for _ in range(2)]
        hits = [await engine.search("danube", 3) for engine in engines]
        for engine in engines:
            await engine.aclose()
        return hits

    first, second = asyncio.run(both())
    assert [list(first)] == [list(second)] == found


def test_a_search_that_was_not_recorded_is_an_error_in_replay(tmp_path: Path) -> None:
    run(recorded(Counting(ENGINE), tmp_path / "r.sqlite", RecordingMode.RECORD), "danube")
    with pytest.raises(InputError, match=r"does not hold this search[\s\S]*'rhine'"):
        run(recorded(Counting(ENGINE), tmp_path / "r.sqlite", RecordingMode.REPLAY), "rhine")


def test_recording_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run(recorded(Counting(ENGINE), tmp_path / "r.sqlite", RecordingMode.RECORD), "danube")
    second = Counting(ENGINE)
    run(recorded(second, tmp_path / "r.sqlite", RecordingMode.RECORD), "danube", "rhine")
    assert second.queries == ["rhine"]


def test_a_failed_search_fails_in_the_same_way_in_replay(tmp_path: Path) -> None:
    messages = []
    for mode in (RecordingMode.RECORD, RecordingMode.REPLAY):
        with pytest.raises(SearchError) as error:
            run(
                recorded(Counting(ENGINE, lambda query: True), tmp_path / "r.sqlite", mode),
                "danube",
            )
        messages.append(str(error.value))
    assert messages == ["no luck with 'danube'"] * 2


def test_the_same_search_twice_at_once_is_made_once(tmp_path: Path) -> None:
    live = Counting(ENGINE)

    async def both() -> list[Sequence[Hit]]:
        engine = recorded(live, tmp_path / "r.sqlite", RecordingMode.RECORD)
        hits = await asyncio.gather(*(engine.search("danube", 2) for _ in range(5)))
        await engine.aclose()
        return hits

    found = asyncio.run(both())
    assert all(hits == found[0] for hits in found)
    assert live.queries == ["danube"]


def test_a_run_on_the_web_is_repeated_offline_byte_for_byte(internet: Web, tmp_path: Path) -> None:
    def replies(mode: RecordingMode, url: str) -> bytes:
        web_settings = WebSettings(Provider.SERPER, url, deadline_seconds=1.0, max_per_second=0)
        recording = RecordingSettings(mode, str(tmp_path / "web.sqlite"))

        async def call_all() -> list[tuple[str, str, tuple[str, ...]]]:
            tool = open_search_tool(
                SearchParams(EngineKind.WEB, web=web_settings, recording=recording)
            )
            found = [await tool.call(query) for query in ("danube", "waltz", "danube", "down")]
            await tool.aclose()
            return [(reply.outcome, reply.text, reply.passages) for reply in found]

        return json.dumps(asyncio.run(call_all())).encode()

    internet.faults = []
    live = replies(RecordingMode.RECORD, internet.url)
    asked = len(internet.requests)
    assert replies(RecordingMode.REPLAY, internet.url) == live
    assert len(internet.requests) == asked == 3
    assert Outcome.OK in json.loads(live)[0]


def test_a_recording_of_a_server_without_a_name_is_replayed_when_the_server_is_gone(
    served_search: Any, tmp_path: Path
) -> None:
    def hits(mode: RecordingMode, url: str) -> tuple[str, Sequence[Hit]]:
        recording = RecordingSettings(mode, str(tmp_path / "server.sqlite"))
        server = RemoteSettings(url)
        engine = open_engine(SearchParams(EngineKind.SERVER, server=server, recording=recording))
        return engine.fingerprint, run(engine, "danube")[0]

    with served_search(ENGINE, Serving()) as served:
        live = hits(RecordingMode.RECORD, served.url)
    assert ENGINE.fingerprint in live[0]
    assert hits(RecordingMode.REPLAY, served.url) == live
    with pytest.raises(ConfigError, match="which index is meant"):
        hits(RecordingMode.REPLAY, "http://127.0.0.1:9")
