"""Requests to a server into replies, through faults that pass: retries with jitter, deadlines, rate limits.

What fails is either this one request (`SearchError`) or the server as a whole (`ServiceError`).
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from coa.errors import ServiceError
from coa.search import SearchError

if TYPE_CHECKING:
    import aiohttp  # at run time only where a connection is opened: it takes most of a second to load
    from aiolimiter import AsyncLimiter

_CONNECT_SECONDS = 10.0
"""A server that does not even accept a connection for so long is away."""
_LONGEST_PAUSE_SECONDS = 10.0
_REFUSALS = frozenset({401, 403, 404, 405})
"""Statuses that no other request would escape."""
_MAX_REPLY_BYTES = 64_000_000
"""A reply that is longer is no search result."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request is tried, and how many at once."""

    timeout_seconds: float
    deadline_seconds: float
    max_concurrency: int
    max_per_second: float = 0.0
    """Requests a second to this server; 0 sets no limit."""


class Reply(NamedTuple):
    """A reply with status 200."""

    body: bytes
    headers: Mapping[str, str]


class _Failure(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(
        self, reason: str, *, is_unreachable: bool = False, pause_seconds: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.is_unreachable = is_unreachable
        self.pause_seconds = pause_seconds


class _Channel(NamedTuple):
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    session: "aiohttp.ClientSession"
    turns: asyncio.Semaphore
    rate: "AsyncLimiter | None"


class Caller:
    """Requests to one server; `secrets` never appear in an error, `fix` says what to do when it refuses us.

    `used_up` is raised in place of a request beyond `max_sent`.
    """

    def __init__(
        self, patience: Patience, *, headers: Mapping[str, str], secrets: tuple[str, ...], name: str, fix: str,
        max_sent: int | None = None, used_up: ServiceError | None = None,
    ) -> None:  # fmt: skip
        self._patience, self._headers, self._secrets = patience, dict(headers), secrets
        self._name, self._fix = name, fix
        self._max_sent, self._used_up = max_sent, used_up
        self._channel: _Channel | None = None
        self.num_sent = 0
        """Requests that were sent, repeated ones included."""

    async def aclose(self) -> None:
        """Close the connections; the caller can be used again."""
        channel, self._channel = self._channel, None
        if channel:
            await channel.session.close()

    async def call(self, method: str, url: str, **options: Any) -> Reply:
        """The reply; `options` are aiohttp's (`json`, `params`).

        Raises:
            SearchError: the request kept failing until its deadline, or the server rejects it.
            ServiceError: the server cannot be reached or refuses us, or all requests are used up.
        """
        channel = self._open_channel()
        async with channel.turns:
            return await self._until_deadline(channel, method, url, options)

    def _open_channel(self) -> _Channel:
        import aiohttp
        from aiolimiter import AsyncLimiter

        loop, patience = asyncio.get_running_loop(), self._patience
        if self._channel is None or self._channel.loop is not loop:
            session = aiohttp.ClientSession(
                headers=self._headers, connector=aiohttp.TCPConnector(limit=0)
            )
            rate = AsyncLimiter(1, 1 / patience.max_per_second) if patience.max_per_second else None
            self._channel = _Channel(
                loop, session, asyncio.Semaphore(patience.max_concurrency), rate
            )
        return self._channel

    async def _until_deadline(
        self, channel: _Channel, method: str, url: str, options: dict[str, Any]
    ) -> Reply:
        end = channel.loop.time() + self._patience.deadline_seconds
        attempts = AsyncRetrying(
            stop=stop_before_delay(self._patience.deadline_seconds),
            wait=_pause,
            retry=retry_if_exception_type(_Failure),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if channel.rate:
                        await channel.rate.acquire()
                    left = max(end - channel.loop.time(), 0.001)
                    seconds = min(self._patience.timeout_seconds, left)
                    return await self._attempt(channel.session, seconds, method, url, options)
        except _Failure as failure:
            raise self._final_error(url, failure) from failure
        raise AssertionError("unreachable: the attempts end with a reply or an error")

    async def _attempt(
        self,
        session: "aiohttp.ClientSession",
        seconds: float,
        method: str,
        url: str,
        options: dict[str, Any],
    ) -> Reply:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(_CONNECT_SECONDS, seconds))
        if self._used_up and self._max_sent is not None and self.num_sent >= self._max_sent:
            raise self._used_up
        self.num_sent += 1
        try:
            async with session.request(
                method, url, timeout=timeout, allow_redirects=False, **options
            ) as response:
                body = await _read(response)
                headers = response.headers.copy()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _Failure(f"no connection: {error}", is_unreachable=True) from error
        except TimeoutError as error:
            raise _Failure(f"no reply within {seconds:.1f} seconds") from error
        except aiohttp.ClientError as error:
            raise _Failure(f"connection lost: {error!r}") from error
        self._require_success(response.status, body, headers, url)
        return Reply(body, headers)

    def _require_success(
        self, status: int, body: bytes, headers: Mapping[str, str], url: str
    ) -> None:
        reason = f"status {status}: {self.shown(body)}"
        if status in (408, 425, 429) or status >= 500:
            raise _Failure(reason, pause_seconds=_retry_after(headers.get("Retry-After", "")))
        if status in _REFUSALS or 300 <= status < 400:
            raise ServiceError(
                f"the {self._name} refuses us", where=_bare(url), got=reason, fix=self._fix
            )
        if status != 200:
            raise SearchError(f"the {self._name} rejects the query with {reason}")

    def _final_error(self, url: str, failure: _Failure) -> Exception:
        seconds = self._patience.deadline_seconds
        if not failure.is_unreachable:
            return SearchError(f"the search failed for {seconds:g} seconds: {failure}")
        return ServiceError(
            f"the {self._name} cannot be reached", where=_bare(url), got=failure, fix=self._fix
        )

    def shown(self, body: bytes) -> str:
        """The start of a reply for an error, without the secrets: a server may echo them."""
        text = body[:10_000].decode("utf-8", "replace")
        for secret in filter(None, self._secrets):
            text = text.replace(secret, "***")
        return repr(text[:200])


async def _read(response: "aiohttp.ClientResponse") -> bytes:
    received = bytearray()
    async for part in response.content.iter_chunked(65536):
        received += part
        if len(received) > _MAX_REPLY_BYTES:
            raise SearchError(f"the reply is too large: more than {_MAX_REPLY_BYTES:,} bytes")
    return bytes(received)


def _bare(url: str) -> str:
    """An address without its query, which may hold a key."""
    return url.partition("?")[0]


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, or random and growing."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.pause_seconds if isinstance(error, _Failure) else 0.0
    return asked + wait_random_exponential(multiplier=0.25, max=_LONGEST_PAUSE_SECONDS)(state)


def _retry_after(value: str) -> float:
    """Seconds that a `Retry-After` header asks for, given in seconds or as a date; 0 when it says nothing."""
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
