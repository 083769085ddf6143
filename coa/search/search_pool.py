"""Run queries on a small thread pool and reject overload."""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from coa.search import Finder, Hit, Passage

_QUERIES_PER_TURN = 8
"""A batch is searched in pieces of so many queries, so that single queries need not wait for all of
it."""
_LONGEST_PAUSE_SECONDS = 30


class BusyError(Exception):
    """Report that there is no room for more queries; `pause_seconds` says when to try again."""

    def __init__(self, pause_seconds: int) -> None:
        super().__init__(f"too many queries are waiting; try again in {pause_seconds} s")
        self.pause_seconds = pause_seconds


class SearchPool:
    """Pool of `threads` threads that search, with at most `max_waiting` queries accepted at once.

    A pool belongs to one event loop.
    """

    def __init__(self, finder: Finder, *, threads: int, max_waiting: int) -> None:
        self._finder = finder
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._threads = threads
        self._max_waiting = max_waiting
        self._seconds_per_query = 0.001
        self.num_waiting = 0
        """Number of accepted queries without an answer, those being searched included."""

    async def search(
        self, queries: Sequence[str], top_k: int, timeout_seconds: float
    ) -> list[Sequence[Hit]]:
        """Find the hits for each query.

        Raises:
            BusyError: too many queries are waiting already.
            TimeoutError: it took too long; what has not begun is given up.
        """
        if self.num_waiting and self.num_waiting + len(queries) > self._max_waiting:
            # Until half of the waiting queries will be done.
            seconds = math.ceil(self.num_waiting * self._seconds_per_query / self._threads / 2)
            raise BusyError(min(max(seconds, 1), _LONGEST_PAUSE_SECONDS))
        self.num_waiting += len(queries)
        loop = asyncio.get_running_loop()
        turns = []
        for start in range(0, len(queries), _QUERIES_PER_TURN):
            piece = queries[start : start + _QUERIES_PER_TURN]
            turns.append(self._submit(loop, piece, top_k))
        async with asyncio.timeout(timeout_seconds):
            answers = await asyncio.gather(*[asyncio.wrap_future(turn) for turn in turns])
        found: list[Sequence[Hit]] = []
        for hits in answers:
            found += hits
        return found

    async def passages(self, ids: Sequence[str]) -> list[Passage | None]:
        """Return the passages with these ids."""

        def read_all() -> list[Passage | None]:
            return [self._finder.passage(passage_id) for passage_id in ids]

        return await asyncio.get_running_loop().run_in_executor(self._pool, read_all)

    def close(self) -> None:
        """End the threads once they have nothing left to do."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _submit(
        self, loop: asyncio.AbstractEventLoop, queries: Sequence[str], top_k: int
    ) -> "Future[list[Sequence[Hit]]]":
        turn = self._pool.submit(self._find_all, queries, top_k)

        # Counted until the search is done: after a timeout it still takes up its thread.
        def count_answered() -> None:
            self.num_waiting -= len(queries)

        def note_done(_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(count_answered)

        turn.add_done_callback(note_done)
        return turn

    def _find_all(self, queries: Sequence[str], top_k: int) -> list[Sequence[Hit]]:
        started = time.perf_counter()
        found = [self._finder.find(query, top_k) for query in queries]
        seconds = (time.perf_counter() - started) / len(queries)
        self._seconds_per_query += 0.05 * (seconds - self._seconds_per_query)
        return found
