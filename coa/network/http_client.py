"""Send HTTP requests to a server, or to several, and repeat those that fail for a passing reason.

A reply that no repetition would change raises `Rejection`; a deadline that passes raises `GaveUp`.
The callers decide what these mean for a run: `coa/search/remote.py`, `coa/policy/completions.py`.
`Connections` sends a request once, `HttpClient` repeats it, `Watch` warns while a server is silent.
Which of several servers is asked is decided in `coa/network/servers.py`; `coa/network/pace.py`
keeps to limits.
"""

import asyncio
import logging
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from coa.network.pace import Limits
from coa.network.servers import Server, Servers
from coa.store.under_way import CallUnderWay, call_under_way

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
        """Send a request; the reply may have any status. Without one it is a `PassingFailure`."""
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
        """Return the proxy for an address; the environment is read once for each server.

        aiohttp's own trust_env would read it for every request, and send passwords of .netrc.
        """
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
    """Return the seconds of pause that the server asks for; 0 where it asks for none."""
    asked = failure.reply.headers.get("Retry-After", "") if failure.reply else ""
    if re.fullmatch(r"\d{1,9}", asked, re.ASCII):
        return float(asked)
    try:
        moment = parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are always reached without a proxy."""


def proxy_for(url: str) -> str | None:
    """Return the proxy for requests to the host of `url`; None where they go straight there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or host in _THIS_MACHINE or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


logger = logging.getLogger(__name__)


class Watch:
    """Watches the requests of one event loop, and logs a warning now and then."""

    def __init__(self, name: str, timeout_seconds: float, warning_seconds: float) -> None:
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._warning_seconds = warning_seconds
        self._loop = asyncio.get_running_loop()
        self._warned_at = float("-inf")
        self._num_waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self.answered_at = 0.0
        """The time of the last reply, or of the first request that waits."""

    def answered(self) -> None:
        """Note that a request was answered."""
        self.answered_at = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Watch for silence of the server while any request waits."""
        if not self._num_waiting:
            self.answered()
            self._timer = self._loop.call_later(self._warning_seconds, self._warn_of_silence)
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1
            if not self._num_waiting and self._timer is not None:
                self._timer.cancel()

    def warn_of_retry(self, url: str, reason: object, seconds_left: float) -> None:
        """Warn of a request that fails and is repeated."""
        self._warn(
            f"the {self._name} does not answer a request ({url}: {reason}); "
            f"retrying for up to {_span(seconds_left)}"
        )

    def _warn_of_silence(self) -> None:
        silent = time.monotonic() - self.answered_at
        longest = self._warning_seconds
        if silent >= longest:
            self._warn(
                f"the {self._name} has answered nobody for {_span(silent)}; requests that wait: "
                f"{self._num_waiting:,}, each for up to {_span(self._timeout_seconds)}"
            )
        later = longest - silent if silent < longest else longest
        self._timer = self._loop.call_later(later, self._warn_of_silence)

    def _warn(self, message: str) -> None:
        now = time.monotonic()
        if now - self._warned_at >= self._warning_seconds:
            self._warned_at = now
            logger.warning("%s", message)


def _span(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


_Result = TypeVar("_Result")

_LONGEST_PAUSE_SECONDS = 10.0
_CROWDED_PAUSE_SECONDS = 2.0
_PASSING_STATUSES = frozenset({408, 409, 425, 429})
"""Statuses below 500 that a repetition may change."""
_LONGEST_STAY_SECONDS = 10.0
"""A server that asks for a longer pause is avoided, if there are others."""
_LONGEST_SLEEP_SECONDS = 1.0
"""The time after which a waiting request looks again at a limit, which may have changed."""
_MAX_SHOWN_BYTES = 10_000
_MAX_SHOWN_CHARS = 300
_SECONDS_PER_MINUTE = 60.0


class GaveUp(Exception):
    """A request kept failing until its deadline."""

    def __init__(self, failure: PassingFailure, *, url: str, others_answered: bool) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.url = url
        """The address that was asked last."""
        self.others_answered = others_answered
        """Whether other requests were answered while this one failed."""


@dataclass(slots=True)
class _Channel:
    """The connections of one event loop, and the queues in which requests wait for their turn."""

    connections: Connections
    watch: Watch
    slots: asyncio.Semaphore
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the request that waits for the limits over all servers."""


def allow() -> None:
    """Allow every attempt."""


_MIN_MASKED_CHARS = 8
"""Shorter values, such as `EMPTY`, are words that a model may write."""


class _Mask:
    """Masks secrets in replies, also where JSON or an address spells their characters otherwise."""

    def __init__(self, secrets: Sequence[str]) -> None:
        longest_first = sorted(secrets, key=len, reverse=True)
        spelt = [b"".join(map(_spellings, secret)) for secret in longest_first]
        self._pattern = re.compile(b"|".join(spelt))
        self._plain = [secret.encode() for secret in secrets]

    def hide(self, body: bytes) -> bytes:
        """Return the body of a reply with `***` for each secret."""
        has_plain = any(secret in body for secret in self._plain)
        if not has_plain and not any(escape in body for escape in _ESCAPES):
            return body
        return self._pattern.sub(_MASKED, body)


_MASKED = b"***"
_ESCAPES = (b"\\u00", b"\\/", b'\\"', b"%")
"""What a spelling other than the plain one has."""


def _spellings(sign: str) -> bytes:
    """Return the expression of a character as itself or escaped."""
    plain = re.escape(sign).encode()
    if not sign.isascii():
        return plain
    code = b"%02x" % ord(sign)
    slashed = b"|\\\\" + plain if sign in '/"\\' else b""
    return b"(?:%b|\\\\u00(?i:%b)|%%(?i:%b)%b)" % (plain, code, code, slashed)


class HttpClient:
    """A client of one server, or of several; `secrets` never appear in a message.

    Those that are `masked` are hidden in replies too, because some servers repeat them. With
    `servers`, requests name a path. Each event loop has connections of its own: call `aclose` in
    the loop that used it. `before_attempt` may raise an error to prevent an attempt.
    """

    def __init__(
        self,
        name: str,
        patience: Patience,
        *,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        masked: tuple[str, ...] = (),
        before_attempt: Callable[[], None] = allow,
        before_repeat: Callable[[], None] = allow,
        servers: Servers | None = None,
        limits: Limits | None = None,
        connect: Connect = Connections,
    ) -> None:
        self.name = name
        self._patience = patience
        self._headers = dict(headers)
        self._secrets = tuple(secret for secret in secrets if secret)
        long_enough = [secret for secret in masked if len(secret) >= _MIN_MASKED_CHARS]
        self._mask = _Mask(long_enough) if long_enough else None
        self._before_attempt = before_attempt
        self._before_repeat = before_repeat
        self._servers = servers or Servers([""])
        self._limits = limits or Limits(_SECONDS_PER_MINUTE * patience.max_per_second)
        self._connect = connect
        self._channels: dict[asyncio.AbstractEventLoop, _Channel] = {}

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a later request opens new ones."""
        channel = self._channels.pop(asyncio.get_running_loop(), None)
        if channel is not None:
            await channel.connections.close()

    async def request(
        self,
        method: str,
        url: str,
        read: Callable[[Reply], _Result],
        *,
        session: str = "",
        num_tokens: float = 0.0,
        **options: Any,
    ) -> _Result:
        """Send a request until it is answered; `options` are aiohttp's (`data`, `json`, `params`).

        `read` turns a reply with status 200 into the result, and raises `PassingFailure` for one
        that it cannot read. The requests of one `session` go to the same server while it answers.

        Raises:
            Rejection: The server rejects it.
            GaveUp: It kept failing until its deadline.
        """
        channel = self._channel()
        call = call_under_way()
        with call.waiting():
            async with channel.slots:
                with channel.watch.waiting():
                    asking = Asking(method, url, options, session, num_tokens, call)
                    try:
                        return await self._ask(channel, asking, read)
                    except PassingFailure as failure:
                        # Most requests never come here: tenacity would take a fifth of their time.
                        return await self._repeat(channel, asking, read, failure)

    async def attempt(self, method: str, url: str, seconds: float, **options: Any) -> Reply:
        """Send a request once; the reply may have any status. Without one: `PassingFailure`."""
        self._before_attempt()
        return self._masked(await self._channel().connections.send(method, url, seconds, options))

    def _masked(self, reply: Reply) -> Reply:
        return reply._replace(body=self._mask.hide(reply.body)) if self._mask else reply

    def require_success(self, reply: Reply) -> None:
        """Raise a `PassingFailure` for a status that may pass, a `Rejection` for other errors."""
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
        """Return a server's text as one short line, without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        printable = "".join(sign if sign.isprintable() else " " for sign in text)
        line = " ".join(printable.split())
        if len(line) <= _MAX_SHOWN_CHARS:
            return line
        return f"{line[:_MAX_SHOWN_CHARS]}..."

    def _channel(self) -> _Channel:
        loop = asyncio.get_running_loop()
        if loop not in self._channels:
            patience = self._patience
            connections = self._connect(self._headers, self.readable)
            watch = Watch(self.name, patience.timeout_seconds, patience.warning_seconds)
            slots = asyncio.Semaphore(patience.max_concurrency or sys.maxsize)
            self._channels[loop] = _Channel(connections, watch, slots)
        return self._channels[loop]

    async def _repeat(
        self, channel: _Channel, asking: Asking, read: Callable[[Reply], _Result], first: Exception
    ) -> _Result:
        """Repeat a request, whose first attempt failed, until its deadline."""

        def before_pause(state: RetryCallState) -> None:
            asking.call.require_going_on()
            self._before_repeat()
            if asking.seconds >= self._patience.quiet_seconds:
                left = self._patience.deadline_seconds - asking.seconds
                channel.watch.warn_of_retry(bare(asking.last_url), _failure(state), left)

        attempts = AsyncRetrying(
            stop=lambda state: self._is_over(channel, asking, state),
            wait=lambda state: self._pause(asking, state),
            retry=retry_if_exception_type(PassingFailure),
            before_sleep=before_pause,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    if attempt.retry_state.attempt_number == 1:
                        raise first
                    # Caps of a run may not allow another attempt yet; that uses up no patience.
                    began_at = time.monotonic()
                    await asking.call.wait_for_room()
                    asking.waited += time.monotonic() - began_at
                    return await self._ask(channel, asking, read)
        except PassingFailure as failure:
            failed_at = asking.failed_at
            others_answered = failed_at is not None and channel.watch.answered_at > failed_at
            raise GaveUp(failure, url=asking.last_url, others_answered=others_answered) from failure
        raise AssertionError("unreachable: the attempts end with a reply or an error")

    async def _ask(
        self, channel: _Channel, asking: Asking, read: Callable[[Reply], _Result]
    ) -> _Result:
        """Send a request once, to the server whose turn it is, and note how the server does."""
        server = await self._wait_for_turn(channel, asking)
        sent_at = time.monotonic()
        seconds = self._patience.timeout_seconds
        if self._patience.cuts_attempts:
            left = self._patience.deadline_seconds - asking.seconds
            seconds = min(seconds, max(left, 0.001))
        url = server.address + asking.url
        try:
            self._before_attempt()
            asking.call.num_requests += 1
            with asking.call.sending():
                reply = await channel.connections.send(asking.method, url, seconds, asking.options)
            reply = self._masked(reply)
            self.require_success(reply)
            result = read(reply)
        except PassingFailure as failure:
            self._note_failure(asking, server, failure, sent_at)
            raise
        finally:
            server.num_requests -= 1
        self._servers.answered(server)
        channel.watch.answered()
        return result

    async def _wait_for_turn(self, channel: _Channel, asking: Asking) -> Server:
        """Wait until limits allow a request; return its server, which counts it from now on."""
        began_at = time.monotonic()
        server = None
        while server is None:
            server = await self._take_turn(channel, asking)
        asking.server = server
        asking.waited += time.monotonic() - began_at
        return server

    async def _take_turn(self, channel: _Channel, asking: Asking) -> Server | None:
        """Choose a server and wait for a turn there; None if the server fails meanwhile."""
        chosen_at = time.monotonic()
        server = self._servers.choose(asking.session)
        server.num_requests += 1  # also while it waits, so that others choose another server
        is_taken = False
        try:
            while (seconds := server.resumes_at - time.monotonic()) > 0:
                if self._has_left(server, chosen_at):
                    return None
                await asyncio.sleep(min(seconds, _LONGEST_SLEEP_SECONDS))
            async with channel.turn:
                while (seconds := self._limits.seconds_until_free()) > 0:
                    await asyncio.sleep(min(seconds, _LONGEST_SLEEP_SECONDS))
                if not self._has_left(server, chosen_at):
                    self._limits.take(asking.num_tokens)
                    is_taken = True
        finally:
            if not is_taken:
                server.num_requests -= 1
        return server if is_taken else None

    def _has_left(self, server: Server, chosen_at: float) -> bool:
        """Tell whether a server gets no new requests since, and another one is there."""
        return server.rested_at > chosen_at and self._servers.another_is_awake(server)

    def _note_failure(
        self, asking: Asking, server: Server, failure: PassingFailure, sent_at: float
    ) -> None:
        """Pause where the server asks for it, and avoid a server that is down."""
        asking.tried.append(server)
        if asking.failed_at is None:
            asking.failed_at = time.monotonic()
        is_refused = is_limit(failure)
        is_unreachable = failure.fault in NO_CONNECTION
        if is_refused or is_unreachable:
            self._limits.correct_tokens(-asking.num_tokens)  # they were not used
        asked = asked_seconds(failure)
        asks_for_long = asked > _LONGEST_STAY_SECONDS and self._servers.are_several
        if not asks_for_long and 0 < asked < self._patience.deadline_seconds:
            server.pause(asked)
        if is_refused:
            server.refuse()
            # A crowded server keeps its trajectories, whose prefixes it has in a cache.
            if not asks_for_long and not server.refuses_all:
                return
        is_silent = failure.fault is Fault.TIMED_OUT and server.answered_at < sent_at
        is_down = is_unreachable or is_silent or is_refused or asks_for_long
        least = time.monotonic() - sent_at if is_silent else asked
        if self._servers.failed(server, sent_at, is_down=is_down, seconds=least):
            logger.warning(
                "the %s at %s fails (%s); it is avoided for a while, and the others continue",
                self.name,
                server.address,
                failure,
            )

    def _is_over(self, channel: _Channel, asking: Asking, state: RetryCallState) -> bool:
        """Tell whether a request that failed is not repeated any more."""
        if _failure(state).fault is Fault.UNRESOLVED and self._servers.none_answered:
            return True
        failing = asking.seconds
        if is_limit(_failure(state)) and asking.failed_at is not None:
            # While others are answered, a limit lets us in sooner or later.
            last_moved_at = max(asking.failed_at, channel.watch.answered_at)
            failing = time.monotonic() - last_moved_at
        if failing + state.upcoming_sleep < self._patience.deadline_seconds:
            return False
        return not (asking.server and self._servers.another_is_awake(asking.server, asking.tried))

    def _pause(self, asking: Asking, state: RetryCallState) -> float:
        """Return the seconds until the next attempt: what the server asks, and a growing random."""
        failure = _failure(state)
        server = asking.server
        if server and self._servers.another_is_awake(server):
            return 0.0
        asked = asked_seconds(failure)
        longest = _LONGEST_PAUSE_SECONDS
        if server and is_limit(failure) and server.answered_at > time.monotonic() - longest:
            longest = _CROWDED_PAUSE_SECONDS  # it lets others in: its turn may come soon
        random_pause = wait_random_exponential(multiplier=0.25, max=longest)
        return asked + random_pause(state)


def _failure(state: RetryCallState) -> PassingFailure:
    """Return the failure of the last attempt."""
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, PassingFailure)
    return failure
