"""Model the latency of an inference engine that batches continuously.

Each step takes 20 ms and 0.05 ms for every request in the batch, of which there are at most 256,
and gives every one a token. `bound_seconds` simulates it. `RunningEngine` runs it in an event loop,
where `bench.engine` serves it in real time.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from coa.foreign.files import read_foreign_file
from coa.foreign.record import Format
from coa.foreign.rows import read_foreign_row
from coa.records.trajectory import Author, Step

IN_FLIGHT = 512
MAX_BATCH = 256
STEP_SECONDS = 0.02
STEP_SECONDS_EACH = 0.00005
SEARCH_SECONDS = 0.1
RAMBLING_TIMES = 50
CHARS_PER_TOKEN = 5
"""Of the texts made here, `word` and a blank for each token."""
MAX_ROW_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The lengths of one trajectory."""

    turns: tuple[int, ...]
    """Tokens that the policy writes in each turn."""

    def rambling(self) -> "Plan":
        """Return a plan whose last turn is fifty times as long as the whole trajectory."""
        last = RAMBLING_TIMES * sum(self.turns)
        return replace(self, turns=(*self.turns[:-1], last))


def read_plans(files: Sequence[str], number: int) -> list[Plan]:
    """Read the lengths of so many trajectories, from the first again after the last."""
    plans = []
    for name in files:
        for row in read_foreign_file(Path(name), MAX_ROW_BYTES):
            if isinstance(row.values, Exception):
                continue
            foreign = read_foreign_row(row.values, Format.R1_SEARCHER)
            plans.append(plan_of(foreign.steps))
    assert plans, "no trajectory was read"
    return [plans[i % len(plans)] for i in range(number)]


def plan_of(steps: Sequence[Step]) -> Plan:
    """Measure the turns of a trajectory, each of which ends with an observation or the answer."""
    turns = [0]
    for step in steps:
        if step.author is Author.POLICY:
            turns[-1] += len(step.text)
        else:
            turns.append(0)
    return Plan(tuple(1 + chars // CHARS_PER_TOKEN for chars in turns))


@dataclass(slots=True)
class Engine:
    """Decode requests in steps, as many at once as fit into a batch."""

    left: dict[int, int] = field(default_factory=dict)
    """Tokens that each request in the batch still needs, by its key."""
    waiting: deque[tuple[int, int]] = field(default_factory=deque)
    """Requests that wait for a place: key and tokens."""

    def add(self, key: int, num_tokens: int) -> None:
        """Take a request."""
        self.waiting.append((key, num_tokens))

    def begin_step(self) -> float:
        """Fill the batch, and return how many seconds its next step takes; 0 if it is empty."""
        while self.waiting and len(self.left) < MAX_BATCH:
            key, num_tokens = self.waiting.popleft()
            self.left[key] = num_tokens
        if not self.left:
            return 0.0
        return STEP_SECONDS + STEP_SECONDS_EACH * len(self.left)

    def end_step(self) -> list[int]:
        """Give every request in the batch a token, and return the keys of those that are over."""
        over = []
        for key in self.left:
            self.left[key] -= 1
            if not self.left[key]:
                over.append(key)
        for key in over:
            del self.left[key]
        return over


class RunningEngine:
    """The engine in an event loop, by the loop's own clock."""

    def __init__(self) -> None:
        self._engine = Engine()
        self._is_asked = asyncio.Event()
        self._replies: dict[int, asyncio.Future[None]] = {}

    async def write(self, key: int, num_tokens: int) -> None:
        """Wait until the request has its tokens."""
        reply = self._replies[key] = asyncio.get_running_loop().create_future()
        self._engine.add(key, num_tokens)
        self._is_asked.set()
        await reply

    async def run(self) -> None:
        """Decode until it is cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            seconds = self._engine.begin_step()
            if not seconds:
                self._is_asked.clear()
                await self._is_asked.wait()
                due = loop.time()
                continue
            due += seconds
            await asyncio.sleep(due - loop.time())
            for key in self._engine.end_step():
                reply = self._replies.pop(key)
                if not reply.done():  # it is cancelled where the client has gone
                    reply.set_result(None)


def bound_seconds(plans: Sequence[Plan]) -> float:
    """Simulate all trajectories, in as many slots, where only engine and search take time."""
    engine = Engine()
    clock = 0.0
    arriving: list[tuple[float, int, int]] = []
    """Requests that will be made: when, of which trajectory, and which turn."""
    turn_of: dict[int, int] = {}
    unbegun = iter(range(len(plans)))
    for number in islice(unbegun, IN_FLIGHT):
        heapq.heappush(arriving, (clock, number, 0))
    while arriving or engine.left or engine.waiting:
        while arriving and arriving[0][0] <= clock:
            _, number, turn = heapq.heappop(arriving)
            turn_of[number] = turn
            engine.add(number, plans[number].turns[turn])
        seconds = engine.begin_step()
        if not seconds:
            clock = arriving[0][0]
            continue
        clock += seconds
        for number in engine.end_step():
            if turn_of[number] + 1 < len(plans[number].turns):
                heapq.heappush(arriving, (clock + SEARCH_SECONDS, number, turn_of[number] + 1))
            elif (begun := next(unbegun, None)) is not None:
                heapq.heappush(arriving, (clock, begun, 0))
    return clock
