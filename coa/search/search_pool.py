"""Queries to hits on a few threads, and no more in hand than these can answer soon: what is too much is refused."""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from coa.search import Hit, Passage

_QUERIES_PER_TURN = 8
"""A batch is searched in pieces of so many queries, so that single queries need not wait for all of
it."""
_LONGEST_PAUSE_SECONDS = 30


class Finder(Protocol):
    """An engine in this process that several threads may ask, such as `EmbeddedSearch`."""

    @property
    def fingerprint(self) -> str:
        """Identifies corpus, engine and settings."""

    @property
    def num_passages(self) -> int:
        """Passages in the corpus."""

    def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """The best passages, best first."""

    def passage(self, passage_id: str) -> Passage | None:
        """The passage with this id; None where there is none."""


class BusyError(Exception):
    """There is no room for more queries; `pause_seconds` says when there will be some."""

    def __init__(self, pause_seconds: int) -> None:
        super().__init__(f"too many queries are waiting; try again in {pause_seconds} s")
        self.pause_seconds = pause_seconds


class SearchPool:
    """Searches on `threads` threads, with at most `max_waiting` queries in hand. Belongs to one event loop."""

    def __init__(self, finder: Finder, *, threads: int, max_waiting: int) -> None:
        self._finder = finder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._threads, self._max_waiting = threads, max_waiting
        self._seconds_per_query = 0.001
        self.num_waiting = 0
        """Queries in hand, those being searched included."""
        self.num_answered = 0

    async def search(
        self, queries: Sequence[str], top_k: int, timeout_seconds: float
    ) -> list[Sequence[Hit]]:
        """The hits for each query.

        Raises:
            BusyError: too many queries are in hand already.
            TimeoutError: it took too long; what has not begun is given up.
        """
        if self.num_waiting and self.num_waiting + len(queries) > self._max_waiting:
            raise BusyError(self._pause())
        self.num_waiting += len(queries)
        loop = asyncio.get_running_loop()
        pieces = [
            queries[start : start + _QUERIES_PER_TURN]
            for start in range(0, len(queries), _QUERIES_PER_TURN)
        ]
        turns = [self._submit(loop, piece, top_k) for piece in pieces]
        async with asyncio.timeout(timeout_seconds):
            return [
                hits
                for turn in await asyncio.gather(*map(asyncio.wrap_future, turns))
                for hits in turn
            ]

    async def passages(self, ids: Sequence[str]) -> list[Passage | None]:
        """The passages with these ids."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._pool, lambda: [self._finder.passage(name) for name in ids]
        )

    def close(self) -> None:
        """End the threads once they have nothing left to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, loop: asyncio.AbstractEventLoop, queries: Sequence[str], top_k: int
    ) -> "Future[list[Sequence[Hit]]]":
        turn = self._pool.submit(self._turn, queries, top_k)
        # Not when the waiting ends: a search that nobody waits for any more still takes up its thread.
        turn.add_done_callback(lambda _: _call_soon(loop, self._leave, len(queries)))
        return turn

    def _turn(self, queries: Sequence[str], top_k: int) -> list[Sequence[Hit]]:
        started = time.perf_counter()
        found = [self._finder.find(query, top_k) for query in queries]
        seconds = (time.perf_counter() - started) / len(queries)
        self._seconds_per_query += 0.05 * (seconds - self._seconds_per_query)
        return found

    def _leave(self, count: int) -> None:
        self.num_waiting -= count
        self.num_answered += count

    def _pause(self) -> int:
        """Whole seconds until about half of what waits will be done."""
        seconds = self.num_waiting * self._seconds_per_query / self._threads / 2
        return min(max(math.ceil(seconds), 1), _LONGEST_PAUSE_SECONDS)


def _call_soon(loop: asyncio.AbstractEventLoop, call: "object", *values: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *values)  # type: ignore[arg-type]
