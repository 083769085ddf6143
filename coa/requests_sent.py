"""Count the HTTP requests that a tool's call sends, because a provider may charge for each.

    with count_requests() as sent:
        reply = await tool.call(argument)
    sent.number

The client that sends them (`coa/search/remote.py`) knows nothing of the tool's call: the count
travels with the asyncio task, and with the tasks that it starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Sent:
    """The requests that were sent, repeated ones included."""

    number: int = 0


_counting: ContextVar[Sent | None] = ContextVar("requests_sent", default=None)


@contextmanager
def count_requests() -> Iterator[Sent]:
    """Count the requests that are sent inside the block."""
    sent = Sent()
    token = _counting.set(sent)
    try:
        yield sent
    finally:
        _counting.reset(token)


def note_request() -> None:
    """Count one request; nothing happens where nobody counts."""
    sent = _counting.get()
    if sent is not None:
        sent.number += 1
