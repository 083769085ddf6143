"""A search engine to a web application that speaks every dialect of `coa/search/wire`.

Each endpoint stands under `/{dialect}{path}` and, together with those that share its path, on the
bare path. `/health` says what is served; `/openapi.json` describes it all. Every reply names the
index in `X-Search-Fingerprint`. Errors are `{"detail": "..."}`, as the servers that this one
replaces write them, also where the engine fails (500).
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coa.search.bodies import Bodies
from coa.search.connections import FINGERPRINT_HEADER, Connections
from coa.search.limits import RequestLimits
from coa.search.openapi import describe
from coa.search.search_pool import BusyError, Finder, SearchPool
from coa.search.wire import Dialect, InvalidSearchError, SearchEndpoint, id_of, sizes_in
from coa.search.wire.endpoints import PAGES, SEARCHES, resolve_endpoint
from coa.search.wire.pages import PageEndpoint

_LARGE_REPLY_BYTES = 65_536
"""Smaller replies are not worth counting what is unread."""
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Serving:
    """How an engine is served."""

    default_dialect: Dialect = Dialect.SEARCH_R1
    """For requests on bare paths that nothing tells apart."""
    threads: int = 1
    limits: RequestLimits = field(default_factory=RequestLimits)
    token: str = field(default="", repr=False)
    """Requests must carry it as a bearer token; empty: none is needed."""


def create_app(finder: Finder, serving: Serving) -> ASGIApp:
    """The application; its threads end with it."""
    gate = SearchPool(finder, threads=serving.threads, max_waiting=serving.limits.max_waiting)
    connections = Connections(serving.limits, finder.fingerprint)
    service = _Service(finder, gate, connections, serving)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Connections]]:
        looking = asyncio.create_task(connections.end_late_ones())
        yield {"connections": connections}  # for `GuardedConnection`
        looking.cancel()
        gate.close()

    app = Starlette(
        routes=service.routes(),
        exception_handlers={HTTPException: _http_error, Exception: _failure},
        lifespan=lifespan,
    )
    # Not as Starlette's middleware: its replies to unexpected errors do not pass through that.
    return _Envelope(app, connections, serving.token)


class _Service:
    def __init__(
        self, finder: Finder, gate: SearchPool, connections: Connections, serving: Serving
    ) -> None:
        self._finder, self._gate, self._connections = finder, gate, connections
        self._serving, self._limits = serving, serving.limits
        self._bodies = Bodies(serving.limits)
        self._description = msgspec.json.encode(describe(serving.limits))

    def routes(self) -> list[Route]:
        found = [_get("/openapi.json", self._openapi)]
        found += [
            _get(f"{prefix}/health", self._health)
            for prefix in ("", *(f"/{name}" for name in Dialect))
        ]
        for search in SEARCHES:
            found.append(
                _post(f"/{search.dialect}{search.path}", self._answering(partial(_always, search)))
            )
        for path in dict.fromkeys(search.path for search in SEARCHES):
            found.append(_post(path, self._answering(self._chooser(path))))
        for page in PAGES:
            found += [
                _post(path, self._opening(page))
                for path in (f"/{page.dialect}{page.path}", page.path)
            ]
        return found

    def _chooser(self, path: str) -> "Callable[[bytearray], SearchEndpoint[Any]]":
        return lambda body: resolve_endpoint(path, _object(body), self._serving.default_dialect)

    def _answering(self, choose: "Callable[[bytearray], SearchEndpoint[Any]]") -> Handler:
        async def answer(request: Request) -> Response:
            endpoint, asked = await self._asked(request, choose)
            results = await self._search(asked.queries, asked.top_k)
            reply = _json(endpoint.write(asked, results))
            self._check_unread(len(reply.body))
            return reply

        return answer

    async def _asked(
        self, request: Request, choose: "Callable[[bytearray], SearchEndpoint[Any]]"
    ) -> tuple[SearchEndpoint[Any], Any]:
        """The endpoint and what it is asked; the body is given up on return, before the search."""
        with self._bodies.place() as place:
            body = await place.read(request)
            endpoint = choose(body)
            decoded = _decoded(body, endpoint.request)
            try:
                asked = endpoint.read(decoded)
            except InvalidSearchError as error:
                raise HTTPException(400, str(error)) from error
            self._check(asked.queries, max(sizes_in(decoded), default=1))
            return endpoint, asked

    def _opening(self, endpoint: PageEndpoint[Any]) -> Handler:
        async def open_pages(request: Request) -> Response:
            with self._bodies.place() as place:
                body = await place.read(request)
                urls = endpoint.urls(_decoded(body, endpoint.request))
                self._check(urls, 1)
            reply = endpoint.write(await self._gate.passages([id_of(url) for url in urls]))
            if reply is None:
                raise HTTPException(404, "there is no page at this address")
            return _json(reply)

        return open_pages

    def _check(self, queries: Sequence[str], top_k: int) -> None:
        limits = self._limits
        longest = max(map(len, queries), default=0)
        for what, got, most in (
            ("queries in one request", len(queries), limits.max_batch),
            ("top_k", top_k, limits.max_top_k),
            ("characters in a query", longest, limits.max_query_chars),
        ):
            if got > most:
                raise HTTPException(422, f"{what}: at most {most:,}, got {got:,}")

    def _check_unread(self, num_bytes: int) -> None:
        """Refuse a large reply where clients have left too much of others unread."""
        if num_bytes < _LARGE_REPLY_BYTES:
            return
        unread = self._connections.unread_bytes()
        if unread and unread + num_bytes > self._limits.max_unread_bytes:
            raise HTTPException(503, "too many replies are not read", {"Retry-After": "1"})

    async def _search(self, queries: Sequence[str], top_k: int) -> Sequence[Any]:
        try:
            return await self._gate.search(queries, top_k, self._limits.timeout_seconds)
        except BusyError as error:
            raise HTTPException(
                429, str(error), {"Retry-After": str(error.pause_seconds)}
            ) from error
        except TimeoutError as error:
            detail = f"no answer within {self._limits.timeout_seconds:g} s"
            raise HTTPException(503, detail, {"Retry-After": "1"}) from error

    async def _health(self, _: Request) -> Response:
        """In ReCall's form, and what a client wants to know before it asks."""
        return _json(
            {
                "status": "healthy",
                "retrievers": {"total": self._serving.threads, "available": self._serving.threads},
                "fingerprint": self._finder.fingerprint,
                "num_passages": self._finder.num_passages,
                "num_waiting": self._gate.num_waiting,
                "default_dialect": self._serving.default_dialect,
            }
        )

    async def _openapi(self, _: Request) -> Response:
        return Response(self._description, media_type="application/json")


class _Envelope:
    """Name the index in every reply; refuse requests without the token and beyond the connections."""

    def __init__(self, app: ASGIApp, connections: Connections, token: str) -> None:
        self._app, self._connections = app, connections
        self._headers = [(FINGERPRINT_HEADER.lower().encode(), connections.fingerprint.encode())]
        self._expected = f"Bearer {token}".encode() if token else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        answer = self._app
        if self._connections.are_too_many:
            headers = {"Retry-After": "1", "Connection": "close"}
            answer = _json({"detail": "too many connections are open"}, 503, headers)
        elif not self._is_allowed(scope):
            headers = {"WWW-Authenticate": "Bearer"}
            answer = _json({"detail": "a bearer token is needed"}, 401, headers)
        await answer(scope, receive, send_named)

    def _is_allowed(self, scope: Scope) -> bool:
        if not self._expected or scope["path"].endswith("/health"):
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._expected)


def _always(endpoint: SearchEndpoint[Any], _: bytearray) -> SearchEndpoint[Any]:
    return endpoint


def _get(path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=["GET"])


def _post(path: str, handler: Handler) -> Route:
    return Route(path, handler, methods=["POST"])


def _decoded(body: bytearray, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise HTTPException(422, str(error)) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error


def _object(body: bytearray) -> dict[str, Any]:
    """The body's keys with their values undecoded, but for lists, which are told from texts."""
    raw: dict[str, msgspec.Raw] = _decoded(body, dict[str, msgspec.Raw])
    return {
        name: [] if bytes(value).lstrip().startswith(b"[") else "" for name, value in raw.items()
    }


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"detail": error.detail}, error.status_code, dict(error.headers or {}))


async def _failure(_: Request, error: Exception) -> Response:
    """Starlette raises the error again after this, so uvicorn logs it and closes the connection."""
    detail = f"the search failed: {type(error).__name__}; the server's log says more"
    return _json({"detail": detail}, 500, {"Connection": "close"})
