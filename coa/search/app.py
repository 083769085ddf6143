"""Serve a search engine as a web application that speaks every dialect of `coa/search/wire`.

Each endpoint is served under `/{dialect}{path}` and, together with those that share its path, on
the bare path. `/health` says what is served. Every reply names the index in
`X-Search-Fingerprint`. Errors are `{"detail": "..."}`, as the servers that this one replaces write
them, also where the engine fails (500).
"""

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coa.search import Finder, Hit
from coa.search.connections import Connections, RequestLimits
from coa.search.search_pool import BusyError, SearchPool
from coa.search.settings import Dialect
from coa.search.wire import (
    FINGERPRINT_HEADER,
    PAGES,
    SEARCHES,
    InvalidSearchError,
    PageEndpoint,
    ParsedSearch,
    SearchEndpoint,
    SearchRequest,
    id_of,
    resolve_endpoint,
)

_SMALL_BYTES = 65_536
"""Bodies up to this size are not counted, so that large ones do not block ordinary searches.
uvicorn holds as much of every connection in any case."""
_LARGE_REPLY_BYTES = 65_536
"""For smaller replies, the unread bytes of others are not counted."""
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Serving:
    """Settings for serving an engine."""

    default_dialect: Dialect = Dialect.SEARCH_R1
    """Dialect of requests on bare paths that could belong to several."""
    threads: int = 1
    limits: RequestLimits = field(default_factory=RequestLimits)
    token: str = field(default="", repr=False)
    """Bearer token that requests must carry; empty: none is needed."""


def create_app(finder: Finder, serving: Serving) -> ASGIApp:
    """Create the application; its threads end with it."""
    pool = SearchPool(finder, threads=serving.threads, max_waiting=serving.limits.max_waiting)
    connections = Connections(serving.limits, finder.fingerprint)
    service = _Service(finder, pool, connections, serving)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Connections]]:
        guard = asyncio.create_task(connections.end_late_ones())
        yield {"connections": connections}  # for `GuardedConnection`
        guard.cancel()
        pool.close()

    app = Starlette(
        routes=service.routes(),
        exception_handlers={HTTPException: _http_error, Exception: _failure},
        lifespan=lifespan,
    )
    # This is not Starlette's middleware: its replies to unexpected errors do not pass through that.
    return _Envelope(app, connections, serving.token)


class _Service:
    def __init__(
        self, finder: Finder, pool: SearchPool, connections: Connections, serving: Serving
    ) -> None:
        self._finder = finder
        self._pool = pool
        self._connections = connections
        self._serving = serving
        self._limits = serving.limits
        self._bodies = Bodies(serving.limits)

    def routes(self) -> list[Route]:
        """List the routes of all endpoints."""
        routes = [_get("/health", self._health)]
        for dialect in Dialect:
            routes.append(_get(f"/{dialect}/health", self._health))
        for search in SEARCHES:
            path = f"/{search.dialect}{search.path}"
            routes.append(_post(path, self._search_handler(search.path, search)))
        for path in dict.fromkeys(search.path for search in SEARCHES):
            routes.append(_post(path, self._search_handler(path)))
        for page in PAGES:
            for path in (f"/{page.dialect}{page.path}", page.path):
                routes.append(_post(path, self._page_handler(page)))
        return routes

    def _search_handler(self, path: str, endpoint: SearchEndpoint | None = None) -> Handler:
        """Answer requests to `endpoint`, or to whichever on the bare `path` they are meant for."""

        async def answer(request: Request) -> Response:
            chosen, asked = await self._read_search(request, path, endpoint)
            results = await self._search(asked.queries, asked.top_k)
            reply = _json(chosen.write(asked, results))
            self._check_unread(len(reply.body))
            return reply

        return answer

    async def _read_search(
        self, request: Request, path: str, endpoint: SearchEndpoint | None
    ) -> tuple[SearchEndpoint, ParsedSearch]:
        """Read and check a search request; its body is dropped on return, before the search."""
        async with self._bodies.read(request) as body:
            sent = _decoded(body, SearchRequest)
        endpoint = endpoint or resolve_endpoint(path, sent, self._serving.default_dialect)
        try:
            asked = endpoint.read(sent)
        except InvalidSearchError as error:
            raise HTTPException(error.status, str(error)) from error
        self._check(asked.queries, max(sent.sizes(), default=1))
        return endpoint, asked

    def _page_handler(self, endpoint: PageEndpoint) -> Handler:
        async def open_pages(request: Request) -> Response:
            async with self._bodies.read(request) as body:
                urls = _decoded(body, endpoint.request).urls
                self._check(urls, 1)
            pages = await self._pool.passages([id_of(url) for url in urls])
            reply = endpoint.write(pages)
            if reply is None:
                raise HTTPException(404, "there is no page at this address")
            return _json(reply)

        return open_pages

    def _check(self, queries: Sequence[str], top_k: int) -> None:
        limits = self._limits
        longest = max((len(query) for query in queries), default=0)
        checks = (
            ("queries in one request", len(queries), limits.max_batch),
            ("top_k", top_k, limits.max_top_k),
            ("characters in a query", longest, limits.max_query_chars),
        )
        for what, got, most in checks:
            if got > most:
                raise HTTPException(422, f"{what}: at most {most:,}, got {got:,}")

    def _check_unread(self, num_bytes: int) -> None:
        """Refuse a large reply where clients have left too much of others unread."""
        if num_bytes < _LARGE_REPLY_BYTES:
            return
        unread = self._connections.unread_bytes()
        if unread and unread + num_bytes > self._limits.max_unread_bytes:
            raise HTTPException(503, "too many replies are not read", {"Retry-After": "1"})

    async def _search(self, queries: Sequence[str], top_k: int) -> Sequence[Sequence[Hit]]:
        try:
            return await self._pool.search(queries, top_k, self._limits.timeout_seconds)
        except BusyError as error:
            headers = {"Retry-After": str(error.pause_seconds)}
            raise HTTPException(429, str(error), headers) from error
        except TimeoutError as error:
            detail = f"no answer within {self._limits.timeout_seconds:g} s"
            raise HTTPException(503, detail, {"Retry-After": "1"}) from error

    async def _health(self, _: Request) -> Response:
        """Say what is served, in ReCall's form with fields of our own."""
        return _json(
            {
                "status": "healthy",
                "retrievers": {"total": self._serving.threads, "available": self._serving.threads},
                "fingerprint": self._finder.fingerprint,
                "num_passages": self._finder.num_passages,
                "num_waiting": self._pool.num_waiting,
                "default_dialect": self._serving.default_dialect,
            }
        )


class _Envelope:
    """Outer application that names the index in every reply and refuses some requests.

    Refused are requests without the token and those on more connections than may be open.
    """

    def __init__(self, app: ASGIApp, connections: Connections, token: str) -> None:
        self._app = app
        self._connections = connections
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
        for name, value in scope["headers"]:
            if name == b"authorization":
                return hmac.compare_digest(value, self._expected)
        return False


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


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), status, headers, "application/json")


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"detail": error.detail}, error.status_code, dict(error.headers or {}))


async def _failure(_: Request, error: Exception) -> Response:
    """Reply that the search failed.

    Starlette raises the error again afterwards, so uvicorn logs it and closes the connection.
    """
    detail = f"the search failed: {type(error).__name__}; the server's log says more"
    return _json({"detail": detail}, 500, {"Connection": "close"})


class Bodies:
    """Counter of the bytes that one worker holds in large request bodies."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._num_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytearray]:
        """Read the request's whole body, which counts until the end of the `with` statement.

        Raises:
            HTTPException: it is too long (413), there is no room for it (503 with Retry-After), or
                the client hung up (400).
        """
        taken = 0
        received = bytearray()
        try:
            taken = self._make_room(taken, int(request.headers.get("content-length", 0)))
            async for part in request.stream():
                received += part
                taken = self._make_room(taken, len(received))
            yield received
        except ClientDisconnect as error:
            raise HTTPException(400, "the client hung up") from error
        finally:
            self._num_bytes -= taken

    def _make_room(self, taken: int, length: int) -> int:
        """Take room for a body that has got so long; return what it takes now."""
        if length > self._limits.max_body_bytes:
            detail = f"the request is too large: at most {self._limits.max_body_bytes:,} bytes"
            raise HTTPException(413, detail)
        if length <= max(taken, _SMALL_BYTES):
            return taken
        if self._num_bytes + length - taken > self._limits.max_bodies_bytes:
            detail = "too many large requests at once"
            raise HTTPException(503, detail, {"Retry-After": "1"})
        self._num_bytes += length - taken
        return length
