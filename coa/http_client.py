"""Send HTTP requests to one server, and repeat those that fail for a passing reason.

A reply that no repetition would change raises `Rejection`; a deadline that passes raises `GaveUp`.
The callers decide what these mean for a run: `coa/search/calls.py`, `coa/policy/completions.py`.
While a server fails or is silent, warnings are logged.
"""

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_before_delay,
    wait_random_exponential,
)

from coa.http_proxy import proxy_for

if TYPE_CHECKING:
    # Loaded at run time only where a connection is opened, because that takes most of a second.
    import aiohttp
    from aiolimiter import AsyncLimiter

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_CONNECT_SECONDS = 10.0
"""A server that accepts no connection for so long is unreachable."""
_LONGEST_PAUSE_SECONDS = 10.0
_PASSING_STATUSES = frozenset({408, 409, 425, 429})
"""Statuses below 500 that a repetition may change."""
_MAX_REPLY_BYTES = 64_000_000
"""No reply that is worth reading is longer."""
_MAX_SHOWN_BYTES = 10_000
_MAX_SHOWN_CHARS = 300


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
    """Requests a second to this server; 0 sets no limit."""
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


class Fault(StrEnum):
    """The reason why an attempt failed that may be repeated."""

    UNREACHABLE = "unreachable"
    """No connection was made."""
    TIMED_OUT = "timed_out"
    """The reply took too long."""
    LOST = "lost"
    """The connection broke."""
    STATUS = "status"
    """The server says that it is busy or has failed."""
    ODD_REPLY = "odd_reply"
    """The reply cannot be read."""


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


class GaveUp(Exception):
    """A request kept failing until its deadline."""

    def __init__(self, failure: PassingFailure, *, others_answered: bool) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.others_answered = others_answered
        """Whether other requests were answered while this one failed."""


@dataclass(slots=True)
class _Channel:
    """The connections and counters of one event loop."""

    loop: asyncio.AbstractEventLoop
    session: "aiohttp.ClientSession"
    turns: asyncio.Semaphore
    rate: "AsyncLimiter | None"
    answered_at: float = 0.0
    """The time of the last reply, or of the first request that waits."""
    num_waiting: int = 0
    timer: asyncio.TimerHandle | None = None


def _allow() -> None:
    """Allow every attempt."""


class HttpClient:
    """A client of one server; `secrets` never appear in a message.

    Each event loop has connections of its own: call `aclose` in the loop that used it.
    `before_attempt` is called before each attempt and may raise an error to prevent it;
    `before_repeat` is called when an attempt has failed and another one will follow.
    """

    def __init__(
        self,
        name: str,
        patience: Patience,
        *,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        before_attempt: Callable[[], None] = _allow,
        before_repeat: Callable[[], None] = _allow,
    ) -> None:
        self.name = name
        self._patience = patience
        self._headers = dict(headers)
        self._secrets = tuple(secret for secret in secrets if secret)
        self._before_attempt = before_attempt
        self._before_repeat = before_repeat
        self._channels: dict[asyncio.AbstractEventLoop, _Channel] = {}
        self._warned_at = float("-inf")

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a later request opens new ones."""
        channel = self._channels.pop(asyncio.get_running_loop(), None)
        if channel is not None:
            await channel.session.close()

    async def request(
        self, method: str, url: str, read: Callable[[Reply], _Result], **options: Any
    ) -> _Result:
        """Send a request until it is answered; `options` are aiohttp's (`data`, `json`, `params`).

        `read` turns a reply with status 200 into the result, and raises `PassingFailure` for one
        that it cannot read.

        Raises:
            Rejection: The server rejects it.
            GaveUp: It kept failing until its deadline.
        """
        channel = self._channel(url)
        async with channel.turns:
            with self._waiting(channel):
                return await self._until_deadline(channel, method, url, read, options)

    async def attempt(self, method: str, url: str, seconds: float, **options: Any) -> Reply:
        """Send a request once; the reply may have any status.

        Raises:
            PassingFailure: There is no reply within `seconds`.
        """
        return await self._attempt(self._channel(url).session, seconds, method, url, options)

    def require_success(self, reply: Reply) -> None:
        """Refuse a reply with another status than 200.

        Raises:
            PassingFailure: A repetition may change the status.
            Rejection: No repetition changes it.
        """
        if reply.status == 200:
            return
        reason = f"status {reply.status}: {self.shown(reply.body)}"
        if reply.status in _PASSING_STATUSES or reply.status >= 500:
            raise PassingFailure(Fault.STATUS, reason, reply)
        raise Rejection(reason, reply)

    def shown(self, body: bytes) -> str:
        """Return the start of a reply, quoted, for an error."""
        text = body[:_MAX_SHOWN_BYTES].decode("utf-8", "replace")
        return repr(self.readable(text)[:200])

    def readable(self, text: str) -> str:
        """Return a server's text as one short line, without the secrets, which some repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        printable = "".join(sign if sign.isprintable() else " " for sign in text)
        line = " ".join(printable.split())
        if len(line) <= _MAX_SHOWN_CHARS:
            return line
        return f"{line[:_MAX_SHOWN_CHARS]}..."

    def _channel(self, url: str) -> _Channel:
        import aiohttp
        from aiolimiter import AsyncLimiter

        loop = asyncio.get_running_loop()
        patience = self._patience
        if loop not in self._channels:
            session = aiohttp.ClientSession(
                headers=self._headers,
                connector=aiohttp.TCPConnector(limit=0),
                proxy=proxy_for(url),
            )
            turns = asyncio.Semaphore(patience.max_concurrency or sys.maxsize)
            rate = AsyncLimiter(1, 1 / patience.max_per_second) if patience.max_per_second else None
            self._channels[loop] = _Channel(loop, session, turns, rate)
        return self._channels[loop]

    async def _until_deadline(
        self,
        channel: _Channel,
        method: str,
        url: str,
        read: Callable[[Reply], _Result],
        options: dict[str, Any],
    ) -> _Result:
        patience = self._patience
        failed_at: list[float] = []
        end = channel.loop.time() + patience.deadline_seconds

        def before_pause(state: RetryCallState) -> None:
            failed_at.append(channel.loop.time())
            self._before_repeat()
            self._warn_of_retry(url, state)

        attempts = AsyncRetrying(
            stop=stop_before_delay(patience.deadline_seconds),
            wait=_pause,
            retry=retry_if_exception_type(PassingFailure),
            before_sleep=before_pause,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if channel.rate:
                        await channel.rate.acquire()
                    seconds = patience.timeout_seconds
                    if patience.cuts_attempts:
                        seconds = min(seconds, max(end - channel.loop.time(), 0.001))
                    reply = await self._attempt(channel.session, seconds, method, url, options)
                    self.require_success(reply)
                    result = read(reply)
                    channel.answered_at = channel.loop.time()
                    return result
        except PassingFailure as failure:
            others_answered = bool(failed_at) and channel.answered_at > failed_at[0]
            raise GaveUp(failure, others_answered=others_answered) from failure
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
        self._before_attempt()
        try:
            async with session.request(
                method, url, timeout=timeout, allow_redirects=False, **options
            ) as response:
                return Reply(response.status, await _read(response), response.headers.copy())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise PassingFailure(Fault.UNREACHABLE, f"no connection: {error}") from error
        except TimeoutError as error:
            reason = f"no reply within {seconds:.1f} seconds"
            raise PassingFailure(Fault.TIMED_OUT, reason) from error
        except aiohttp.ClientError as error:
            reason = f"connection lost: {self.readable(repr(error))}"
            raise PassingFailure(Fault.LOST, reason) from error

    @contextmanager
    def _waiting(self, channel: _Channel) -> Iterator[None]:
        """Watch for silence of the server while any request waits."""
        if not channel.num_waiting:
            channel.answered_at = channel.loop.time()
            self._look_later(channel, self._patience.warning_seconds)
        channel.num_waiting += 1
        try:
            yield
        finally:
            channel.num_waiting -= 1
            if not channel.num_waiting and channel.timer is not None:
                channel.timer.cancel()

    def _look_later(self, channel: _Channel, seconds: float) -> None:
        channel.timer = channel.loop.call_later(seconds, self._warn_of_silence, channel)

    def _warn_of_silence(self, channel: _Channel) -> None:
        silent = channel.loop.time() - channel.answered_at
        longest = self._patience.warning_seconds
        if silent >= longest:
            timeout = _span(self._patience.timeout_seconds)
            self._warn(
                f"the {self.name} has answered nobody for {_span(silent)}; "
                f"requests that wait: {channel.num_waiting:,}, each for up to {timeout}"
            )
        next_look = longest - silent if silent < longest else longest
        self._look_later(channel, next_look)

    def _warn_of_retry(self, url: str, state: RetryCallState) -> None:
        failing = state.seconds_since_start or 0.0
        if failing >= self._patience.quiet_seconds:
            reason = state.outcome.exception() if state.outcome else ""
            left = _span(self._patience.deadline_seconds - failing)
            self._warn(
                f"the {self.name} does not answer a request ({bare(url)}: {reason}); "
                f"it is asked again for up to {left}"
            )

    def _warn(self, message: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= self._patience.warning_seconds:
            self._warned_at = now
            logger.warning("%s", message)


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


def _span(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _pause(state: RetryCallState) -> float:
    """Return the seconds until the next attempt: what the server asks for and a growing random."""
    error = state.outcome.exception() if state.outcome else None
    asked = 0.0
    if isinstance(error, PassingFailure) and error.reply:
        asked = _retry_after(error.reply.headers.get("Retry-After", ""))
    random_pause = wait_random_exponential(multiplier=0.25, max=_LONGEST_PAUSE_SECONDS)
    return asked + random_pause(state)


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
