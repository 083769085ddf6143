"""Send an HTTP request once, and tell failures that may pass from those that stay.

`coa/http_client.py` repeats requests; nothing here does.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from coa.http_proxy import proxy_for
from coa.servers import Server
from coa.under_way import CallUnderWay

if TYPE_CHECKING:
    # Loaded at run time only where a connection is opened, because that takes most of a second.
    import aiohttp

_CONNECT_SECONDS = 10.0
"""A server that accepts no connection for so long is unreachable."""
_MAX_REPLY_BYTES = 64_000_000
"""No reply that is worth reading is longer."""
_TOO_MANY_REQUESTS = 429


@dataclass(frozen=True, slots=True)
class Patience:
    """The limits on a request's time and on the number of requests."""

    timeout_seconds: float
    """For one attempt."""
    deadline_seconds: float
    """For a request with all its attempts; waiting for its turn does not count."""
    max_concurrency: int = 0
    """Requests in flight at once; 0 sets no limit."""
    max_per_second: float = 0.0
    """Requests a second; 0 sets no limit."""
    cuts_attempts: bool = True
    """Whether the deadline ends an attempt under way; if not, it only decides whether another one
    begins."""
    quiet_seconds: float = 5.0
    """A request is repeated for so long before a warning is logged."""
    warning_seconds: float = 60.0
    """A warning is logged when the server answers no request for so long. It is also the least time
    between two warnings."""


class Reply(NamedTuple):
    """A server's reply."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    url: str = ""
    """The address that replied."""


class Fault(StrEnum):
    """The reason why an attempt failed that may be repeated."""

    UNREACHABLE = "unreachable"
    """No connection was made."""
    UNRESOLVED = "unresolved"
    """The host's name leads to no address."""
    TIMED_OUT = "timed_out"
    """The reply took too long."""
    LOST = "lost"
    """The connection broke."""
    STATUS = "status"
    """The server says that it is busy or has failed."""
    ODD_REPLY = "odd_reply"
    """The reply cannot be read."""


NO_CONNECTION = frozenset({Fault.UNREACHABLE, Fault.UNRESOLVED})
"""The faults of a server that was not reached at all."""


class PassingFailure(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, fault: Fault, reason: str, reply: Reply | None = None) -> None:
        super().__init__(reason)
        self.fault = fault
        self.reply = reply


class Rejection(Exception):
    """The server rejects the request with a status that no repetition changes."""

    def __init__(self, reason: str, reply: Reply) -> None:
        super().__init__(reason)
        self.reply = reply


@dataclass(slots=True)
class Asking:
    """One request, from its first attempt to its end."""

    method: str
    url: str
    """An address, or a path at one of the servers."""
    options: Mapping[str, Any]
    session: str
    num_tokens: float
    call: CallUnderWay
    started_at: float = field(default_factory=time.monotonic)
    waited: float = 0.0
    """The seconds for which it waited for its turn."""
    failed_at: float | None = None
    """The time of its first failure."""
    server: Server | None = None
    """The server that was asked last."""
    tried: list[Server] = field(default_factory=list)
    """The servers that failed."""

    @property
    def last_url(self) -> str:
        """Return the address that was asked last."""
        return self.server.address + self.url if self.server else self.url

    @property
    def seconds(self) -> float:
        """Return for how long it is under way, without the waiting for its turn."""
        return time.monotonic() - self.started_at - self.waited


class Connections:
    """The connections of one event loop, to any number of servers."""

    def __init__(self, headers: Mapping[str, str], readable: Callable[[str], str]) -> None:
        import aiohttp

        self._session = aiohttp.ClientSession(
            headers=headers, connector=aiohttp.TCPConnector(limit=0)
        )
        self._readable = readable
        self._proxies: dict[str, str | None] = {}

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def send(
        self, method: str, url: str, seconds: float, options: Mapping[str, Any]
    ) -> Reply:
        """Send a request; the reply may have any status.

        Raises:
            PassingFailure: There is no reply within `seconds`.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(_CONNECT_SECONDS, seconds))
        try:
            async with self._session.request(
                method,
                url,
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxy(url),
                **options,
            ) as response:
                body = await _read(response)
                return Reply(response.status, body, response.headers.copy(), url)
        except aiohttp.ClientConnectorDNSError as error:
            reason = f"the host's name does not resolve: {error}"
            raise PassingFailure(Fault.UNRESOLVED, reason) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PassingFailure(Fault.UNREACHABLE, f"no connection: {error}") from error
        except TimeoutError as error:
            reason = f"no reply within {seconds:.1f} seconds"
            raise PassingFailure(Fault.TIMED_OUT, reason) from error
        except aiohttp.ClientError as error:
            reason = f"connection lost: {self._readable(repr(error))}"
            raise PassingFailure(Fault.LOST, reason) from error

    def _proxy(self, url: str) -> str | None:
        """Return the proxy for an address; the environment is read once for each server."""
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._proxies:
            self._proxies[origin] = proxy_for(url)
        return self._proxies[origin]


Connect = Callable[[Mapping[str, str], Callable[[str], str]], Connections]
"""Opens the connections of an event loop: with these headers, and what hides secrets in errors."""


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    received = bytearray()
    async for part in response.content.iter_chunked(65536):
        received += part
        if len(received) > _MAX_REPLY_BYTES:
            reason = f"the reply is too large: more than {_MAX_REPLY_BYTES:,} bytes"
            raise Rejection(
                reason, Reply(response.status, reason.encode(), response.headers.copy())
            )
    return bytes(received)


def bare(url: str) -> str:
    """Return an address without its query, which may hold a key."""
    return url.partition("?")[0]


def is_limit(failure: PassingFailure) -> bool:
    """Tell whether the server refused because of too many requests."""
    return failure.reply is not None and failure.reply.status == _TOO_MANY_REQUESTS


def asked_seconds(failure: PassingFailure) -> float:
    """Return the pause that the server asks for; 0 where it asks for none."""
    if failure.reply is None:
        return 0.0
    return _retry_after(failure.reply.headers.get("Retry-After", ""))


def _retry_after(value: str) -> float:
    """Read a `Retry-After` header, given in seconds or as a date; 0 when it says nothing."""
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
