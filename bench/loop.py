"""Measure the CPU time of the rollout loop itself, with a policy and a search that answer at once.

    python -m bench.loop

A turn is one request to the policy with the action that may follow. The policy's answers are
ready-made and the search returns a constant, so nothing but the loop is measured: transition, tags,
budgets, requests, drivers. With a journal, each turn records two calls in SQLite (or replays them).
Target: at most 0.3 ms of CPU a turn without the journal.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar

from coa.policy import Completion, Finish, Request
from coa.records import protocol
from coa.records.trajectory import Author, Mode, Outcome, Sampling, Trajectory
from coa.rollout.drivers import roll_out_all, roll_out_batched
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.spending.journaled import JournaledBatchPolicy, JournaledPolicy, JournaledTool
from coa.store.journal import Journal
from coa.tools import ToolReply

NUM_TRAJECTORIES = 300
NUM_REPEATS = 5
CONCURRENCY = 64
CALL = (
    "I do not know this yet, so I look it up. "
    f"{protocol.open_tag('search')} who {protocol.close_tag('search')}"
)
ANSWER = f"That settles it. {protocol.THINK_CLOSE} \\boxed{{Ada}}"


class InstantPolicy:
    """Policy that acts `num_actions` times, then answers.

    Its texts, token counts and ids are made once.
    """

    name = "instant"
    identity: ClassVar[dict[str, object]] = {}

    def __init__(self, num_actions: int, *, has_ids: bool) -> None:
        self._has_ids = has_ids
        self._call = self._completion(CALL)
        self._answer = self._completion(ANSWER)
        self._answer_after = num_actions

    def _completion(self, text: str) -> Completion:
        ids = self.encode(text)
        finish = Finish.STOP if text is CALL else Finish.END
        return Completion(text, finish, self.count_tokens(text), None, ids)

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...] | None:
        """Make an id for every four characters."""
        return _ids(self.count_tokens(text)) if self._has_ids else None

    def count_tokens(self, text: str) -> int:
        """Count a token for every four characters."""
        return len(text) // 4 + 1

    async def complete(self, request: Request) -> Completion:
        """Answer at once."""
        return self._next(request)

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer all at once."""
        return [self._next(request) for request in requests]

    def _next(self, request: Request) -> Completion:
        return self._call if request.context.count(CALL) < self._answer_after else self._answer


class InstantSearch:
    """Search tool that returns one passage."""

    name = "search"
    fingerprint = "instant"

    async def call(self, argument: str) -> ToolReply:
        """Answer at once."""
        return ToolReply(
            Outcome.OK, "The book was written by Ada in a year that nobody remembers.", ("p1",)
        )


@cache
def _ids(count: int) -> tuple[int, ...]:
    return tuple(range(count))


@dataclass(frozen=True, slots=True)
class Case:
    """Settings of one line of the table."""

    num_actions: int
    context_tokens: int
    has_ids: bool = False

    def tasks(self, repeat: int) -> Iterator[Task]:
        """Make tasks with prompts of the wanted length."""
        prompt = "who wrote the book? " * (self.context_tokens // 5) + protocol.THINK_OPEN
        for i in range(NUM_TRAJECTORIES):
            yield Task(
                f"q{i}/coa/{repeat}", f"q{i}", Mode.COA, repeat, "Who?", prompt, "hash", ("search",)
            )


Driver = Callable[[Case, int, Journal | None], AsyncIterator[Trajectory]]


def asynchronous(case: Case, repeat: int, journal: Journal | None) -> AsyncIterator[Trajectory]:
    """Roll out with the driver for servers."""
    policy, tool = InstantPolicy(case.num_actions, has_ids=case.has_ids), InstantSearch()
    run = RolloutContext(policy, Sampling(), Limits(max_context_tokens=16_384))
    if journal is None:
        return roll_out_all(
            case.tasks(repeat), run, policy, {"search": tool}, concurrency=CONCURRENCY
        )
    wrapped, tools = JournaledPolicy(policy, journal), {"search": JournaledTool(tool, journal)}
    return roll_out_all(case.tasks(repeat), run, wrapped, tools, concurrency=CONCURRENCY)


def batched(case: Case, repeat: int, journal: Journal | None) -> AsyncIterator[Trajectory]:
    """Roll out with the driver for engines in the process."""
    policy, tool = InstantPolicy(case.num_actions, has_ids=case.has_ids), InstantSearch()
    run = RolloutContext(policy, Sampling(), Limits(max_context_tokens=16_384))
    if journal is None:
        return roll_out_batched(
            case.tasks(repeat), run, policy, {"search": tool}, batch_size=CONCURRENCY
        )
    wrapped, tools = JournaledBatchPolicy(policy, journal), {"search": JournaledTool(tool, journal)}
    return roll_out_batched(case.tasks(repeat), run, wrapped, tools, batch_size=CONCURRENCY)


async def count_turns(rows: AsyncIterator[Trajectory]) -> int:
    """Roll all out and add up the requests."""
    return sum([row.num_calls async for row in rows])


def milliseconds_per_turn(drive: Driver, case: Case, repeat: int, journal: Journal | None) -> float:
    """Measure the CPU time of one run, divided by its turns."""
    started = time.process_time()
    num_turns = asyncio.run(count_turns(drive(case, repeat, journal)))
    assert num_turns == NUM_TRAJECTORIES * (case.num_actions + 1), num_turns
    return (time.process_time() - started) / num_turns * 1000


def measure(drive: Driver, case: Case) -> tuple[float, float, float]:
    """Return medians in milliseconds: without a journal, recording into one, replaying from it."""
    plain, recorded, replayed = [], [], []
    for repeat in range(NUM_REPEATS):
        plain.append(milliseconds_per_turn(drive, case, repeat, None))
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            journal = stack.enter_context(Journal(Path(folder) / "calls.sqlite"))
            recorded.append(milliseconds_per_turn(drive, case, repeat, journal))
            replayed.append(milliseconds_per_turn(drive, case, repeat, journal))
    return statistics.median(plain), statistics.median(recorded), statistics.median(replayed)


def main() -> None:
    """Print the table."""
    runs = f"{NUM_REPEATS} runs of {NUM_TRAJECTORIES} trajectories, {CONCURRENCY} at once"
    print(f"CPU ms a turn, medians of {runs}")
    times = f"{'plain':>9}{'recorded':>10}{'replayed':>10}{'ratio':>8}"
    print(f"{'driver':14}{'context':>8}{'ids':>5}{'actions':>9}{times}")
    cases = []
    for context in (200, 8000):
        cases += [Case(actions, context) for actions in (1, 3, 5)]
    cases += [Case(3, context, has_ids=True) for context in (200, 8000)]
    for drive in (asynchronous, batched):
        for case in cases:
            plain, recorded, replayed = measure(drive, case)
            name = getattr(drive, "__name__", "")
            ids = "yes" if case.has_ids else "no"
            print(
                f"{name:14}{case.context_tokens:8,}{ids:>5}{case.num_actions:9}"
                f"{plain:9.3f}{recorded:10.3f}{replayed:10.3f}{recorded / plain:8.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
