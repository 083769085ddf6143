"""Close connections of the search server whose clients keep it waiting.

uvicorn closes a connection that is idle between two requests. It waits for ever for a first
request, for the rest of a head or a body and for a client that does not read its reply, takes heads
of any length, and accepts connections until there are no descriptors. `GuardedConnection` is
uvicorn's protocol with a limit on each of these.
"""

import asyncio
import resource
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from coa.search.wire import FINGERPRINT_HEADER

_SECONDS_BETWEEN_LOOKS = 0.5
_OTHER_DESCRIPTORS = 64
"""The index, the event loop and the standard streams need them."""
_MAX_HEAD_BYTES = 65_536
"""Limit for all parts of a request but the body: head, trailers and the lengths of chunks."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of the search server; what exceeds them is refused with a status and a reason."""

    max_query_chars: int = 4096
    """Longer queries are refused: 422."""
    max_batch: int = 512
    """Queries or addresses in one request; more are refused: 422."""
    max_top_k: int = 100
    """More passages are refused: 422."""
    max_body_bytes: int = 4_000_000
    """A larger request is refused: 413."""
    max_waiting: int = 1024
    """Queries that wait or are searched in one worker; more are refused: 429 with Retry-After."""
    timeout_seconds: float = 30.0
    """Requests that take longer are given up: 503 with Retry-After."""
    max_bodies_bytes: int = 32_000_000
    """Bytes of large bodies that one worker holds; more are refused: 503 with Retry-After."""
    max_unread_bytes: int = 256_000_000
    """Bytes of replies that clients have not read yet; more are refused: 503 with Retry-After."""
    max_connections: int = 2048
    """Open connections of one worker, fewer where it may open fewer files. Beyond this, the one
    that has been idle longest is closed."""
    idle_seconds: int = 5
    """How long a connection may be idle between two requests; then it is closed."""
    head_seconds: float = 10.0
    """How long the head of a request may take to arrive; a later one is refused: 408."""
    transfer_seconds: float = 30.0
    """How long the body may take to arrive, and the reply to be read; a later body is refused:
    408."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """The limits of how long the server waits for a client, and for what."""

    deadline: float
    unfinished: str = ""
    """The part of a request that has begun to arrive; empty between requests."""


class Connections:
    """The open connections of one worker, and which of them wait for their client."""

    def __init__(self, limits: RequestLimits, fingerprint: str) -> None:
        self.limits = limits
        self.fingerprint = fingerprint
        self._max_open = _max_open(limits.max_connections)
        self._open: set[GuardedConnection] = set()
        self._waiting: dict[GuardedConnection, _Wait] = {}
        """The one that has waited longest comes first."""

    @property
    def are_too_many(self) -> bool:
        """Tell whether more are open than may be, because none could be closed."""
        return len(self._open) > self._max_open

    def unread_bytes(self) -> int:
        """Count the bytes of replies that clients have not read yet."""
        return sum(connection.transport.get_write_buffer_size() for connection in self._open)

    def add(self, connection: "GuardedConnection") -> None:
        """Count a new connection; close the one that has waited longest if there are too many."""
        self._open.add(connection)
        if self.are_too_many and self._waiting:
            longest = next(iter(self._waiting))
            self._end(longest, HTTPStatus.SERVICE_UNAVAILABLE, "too many connections are open")

    def remove(self, connection: "GuardedConnection") -> None:
        """Stop counting a connection."""
        self._open.discard(connection)
        self.stop_waiting(connection)

    def start_waiting(
        self, connection: "GuardedConnection", seconds: float, unfinished: str = ""
    ) -> None:
        """Give the connection's client so many seconds from now."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = _Wait(time.monotonic() + seconds, unfinished)

    def stop_waiting(self, connection: "GuardedConnection") -> None:
        """Stop waiting for the connection's client: the server has to act now."""
        self._waiting.pop(connection, None)

    async def end_late_ones(self) -> None:
        """Close connections whose clients take too long, again and again until cancelled."""
        while True:
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            now = time.monotonic()
            for connection, wait in list(self._waiting.items()):
                if wait.deadline < now:
                    self._end(connection, HTTPStatus.REQUEST_TIMEOUT, "it took too long to arrive")

    def _end(self, connection: "GuardedConnection", status: HTTPStatus, reason: str) -> None:
        unfinished = self._waiting.pop(connection).unfinished
        self._open.discard(connection)
        if connection.has_unread_reply:
            connection.transport.abort()
        elif unfinished:
            connection.refuse(status, f"{unfinished} was not read: {reason}")
        else:
            connection.transport.close()


class GuardedConnection(HttpToolsProtocol):
    """uvicorn's connection, which tells `Connections` when it waits for its client."""

    _all: Connections
    _bytes_beside_body = 0

    @property
    def has_unread_reply(self) -> bool:
        """Tell whether the client has not read all that was written."""
        return self.transport.get_write_buffer_size() > 0

    def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Reply to a request that the application does not see, or not whole, and close."""
        body = msgspec.json.encode({"detail": detail})
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"{FINGERPRINT_HEADER}: {self._all.fingerprint}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append("Retry-After: 1")
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()
        self._all.start_waiting(self, self._all.limits.transfer_seconds)

    def send_400_response(self, msg: str) -> None:
        """Reply to what is not HTTP."""
        self.refuse(HTTPStatus.BAD_REQUEST, msg)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a first request."""
        super().connection_made(transport)
        self._all = self.app_state["connections"]
        self._all.add(self)
        self._all.start_waiting(self, self._all.limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._all.remove(self)

    def data_received(self, data: bytes) -> None:
        """Read on, unless there is no end to a head."""
        self._bytes_beside_body += len(data)
        super().data_received(data)
        if self._bytes_beside_body > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the head is too large: at most {_MAX_HEAD_BYTES:,} bytes",
            )

    def on_message_begin(self) -> None:
        """Wait for the rest of a head."""
        super().on_message_begin()
        self._bytes_beside_body = 0
        if self.cycle is None or self.cycle.response_complete:
            self._all.start_waiting(self, self._all.limits.head_seconds, "the request's head")

    def on_headers_complete(self) -> None:
        """Wait for a body, unless an earlier request is still being answered."""
        super().on_headers_complete()
        if not self.pipeline:
            self._all.start_waiting(self, self._all.limits.transfer_seconds, "the request's body")

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._bytes_beside_body -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Answer a request, unless it was refused, and so answered, before it ended."""
        super().on_message_complete()
        if not self.cycle.response_complete:
            self._all.stop_waiting(self)

    def on_response_complete(self) -> None:
        """Wait for the client to read the reply, unless the next request is here already."""
        super().on_response_complete()
        if self.cycle.response_complete or self.cycle.more_body or self.flow.write_paused:
            self._all.start_waiting(self, self._all.limits.transfer_seconds)
        else:
            self._all.stop_waiting(self)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._all.start_waiting(self, self._all.limits.transfer_seconds)

    def resume_writing(self) -> None:
        """Go on with the next request, if there is one."""
        super().resume_writing()
        if self.cycle and not self.cycle.response_complete:
            self._all.stop_waiting(self)


def server_config(app: ASGIApp | str, limits: RequestLimits, **options: Any) -> uvicorn.Config:
    """Configure uvicorn to serve an application of `coa.search.app`."""
    return uvicorn.Config(
        app,
        http=GuardedConnection,
        ws="none",  # a connection that becomes a web socket would leave the guard
        timeout_keep_alive=limits.idle_seconds,
        access_log=False,
        server_header=False,
        **options,
    )


def _max_open(wanted: int) -> int:
    """Limit the wanted number of connections to what the process has descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(descriptors - _OTHER_DESCRIPTORS, descriptors // 2))
