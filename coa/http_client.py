"""Send HTTP requests to a server, or to several, and repeat those that fail for a passing reason.

A reply that no repetition would change raises `Rejection`; a deadline that passes raises `GaveUp`.
The callers decide what these mean for a run: `coa/search/remote.py`, `coa/policy/completions.py`.
Which of several servers is asked is decided in `coa/servers.py`; `coa/pacing.py` keeps to limits.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_random_exponential,
)

from coa.http_attempts import (
    NO_CONNECTION,
    Asking,
    Connect,
    Connections,
    Fault,
    PassingFailure,
    Patience,
    Rejection,
    Reply,
    asked_seconds,
    bare,
    is_limit,
)
from coa.http_warnings import Watch, warn_of_rest
from coa.pacing import Limits
from coa.servers import Server, Servers
from coa.under_way import call_under_way

__all__ = [
    "Fault",
    "GaveUp",
    "HttpClient",
    "PassingFailure",
    "Patience",
    "Rejection",
    "Reply",
    "bare",
]

_Result = TypeVar("_Result")

_LONGEST_PAUSE_SECONDS = 10.0
_CROWDED_PAUSE_SECONDS = 2.0
_PASSING_STATUSES = frozenset({408, 409, 425, 429})
"""Statuses below 500 that a repetition may change."""
_LONGEST_STAY_SECONDS = 10.0
"""A server that asks for a longer pause is left alone, if there are others."""
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


def _allow() -> None:
    """Allow every attempt."""


class HttpClient:
    """A client of one server, or of several; `secrets` never appear in a message.

    With `servers`, requests name a path, and each attempt is sent to the server that is chosen.
    Each event loop has connections of its own: call `aclose` in the loop that used it.
    `connect` opens them. `before_attempt` is called before each attempt and may raise an error to
    prevent it; `before_repeat` is called when an attempt has failed and another one will follow.
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
        servers: Servers | None = None,
        limits: Limits | None = None,
        connect: Connect = Connections,
    ) -> None:
        self.name = name
        self._patience = patience
        self._headers = dict(headers)
        self._secrets = tuple(secret for secret in secrets if secret)
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
        `num_tokens` are counted against the limit on tokens.

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
                    return await self._until_deadline(channel, asking, read)

    async def attempt(self, method: str, url: str, seconds: float, **options: Any) -> Reply:
        """Send a request once; the reply may have any status.

        Raises:
            PassingFailure: There is no reply within `seconds`.
        """
        self._before_attempt()
        return await self._channel().connections.send(method, url, seconds, options)

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

    def without_secrets(self, text: str) -> str:
        """Return a server's text without the secrets, which some repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def readable(self, text: str) -> str:
        """Return a server's text as one short line, without the secrets."""
        text = self.without_secrets(text)
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

    async def _until_deadline(
        self, channel: _Channel, asking: Asking, read: Callable[[Reply], _Result]
    ) -> _Result:
        try:
            return await self._ask(channel, asking, read)
        except PassingFailure as failure:
            # Most requests never come here: tenacity would take a fifth of their time.
            return await self._repeat(channel, asking, read, failure)

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
                    await asking.call.wait_for_room()
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
            with asking.call.sending():
                reply = await channel.connections.send(asking.method, url, seconds, asking.options)
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
        """Tell whether a server was left alone since, and another one is there."""
        return server.rested_at > chosen_at and self._servers.another_is_awake(server)

    def _note_failure(
        self, asking: Asking, server: Server, failure: PassingFailure, sent_at: float
    ) -> None:
        """Pause where the server asks for it, and leave alone a server that is down."""
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
        is_down = is_unreachable or is_silent or is_refused
        least = time.monotonic() - sent_at if is_silent else asked
        if self._servers.failed(server, sent_at, is_down=is_down, seconds=least):
            warn_of_rest(self.name, server.address, failure)

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
