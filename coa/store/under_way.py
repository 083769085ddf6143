"""Follow one call of a policy or a tool while it is made, through all its requests.

    with follow(CallUnderWay()) as call:
        reply = await tool.call(argument)
    call.num_requests

The client that sends requests (`coa/network/http_client.py`) knows nothing of journals and caps:
the call travels with the asyncio task, and with the tasks that it starts.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from coa.records.usage import Usage


async def _nothing_to_wait_for() -> None:
    """Let a request be repeated at once."""


def _not_counted(usage: Usage) -> None:
    """Count nothing."""


@dataclass(eq=False, slots=True)
class CallUnderWay:
    """One call, from its admission to its reply."""

    num_requests: int = 0
    """Requests that were sent, repeated ones included, because a provider may charge for each."""
    num_waiting: int = 0
    """Waits for room under a cap and requests; a request of these may be under way."""
    num_sending: int = 0
    """Requests under way."""
    is_stopping: bool = False
    """Whether no further request is sent; one under way is waited for."""
    task: asyncio.Task[Any] | None = None
    wait_for_room: Callable[[], Awaitable[None]] = _nothing_to_wait_for
    """Waits until the caps allow to send the request once more, or raises `CapError`."""
    lose: Callable[[Usage], None] = _not_counted
    """Counts a reply that was paid and cannot be used."""

    @property
    def is_waiting(self) -> bool:
        """Tell whether it only waits: for room under a cap, for its turn, or to be repeated."""
        return self.num_waiting > 0 and not self.num_sending

    def stop(self) -> None:
        """Cancel the call where it only waits; else the request under way is its last one."""
        self.is_stopping = True
        if self.is_waiting and self.task is not None:
            self.task.cancel()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait inside the block, unless a request is under way."""
        self.num_waiting += 1
        try:
            yield
        finally:
            self.num_waiting -= 1

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Have a request under way inside the block."""
        self.num_sending += 1
        try:
            yield
        finally:
            self.num_sending -= 1

    def require_going_on(self) -> None:
        """Raise CancelledError where the run is stopping, so nothing is repeated."""
        if self.is_stopping:
            raise asyncio.CancelledError


_current: ContextVar[CallUnderWay | None] = ContextVar("call_under_way", default=None)


@contextmanager
def follow(call: CallUnderWay) -> Iterator[CallUnderWay]:
    """Let the requests that are sent inside the block belong to this call."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)


def call_under_way() -> CallUnderWay:
    """Return the call that the running task makes; one that nobody follows where there is none."""
    return _current.get() or CallUnderWay()
