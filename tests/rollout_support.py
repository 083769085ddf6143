"""Run tasks through both drivers, for the tests of the rollout."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from coa.records import protocol
from coa.records.trajectory import (
    Mode,
    Outcome,
    Trajectory,
)
from coa.rollout.loop import Task
from coa.tools import ToolReply

OPEN, CLOSE = protocol.open_tag("search"), protocol.close_tag("search")


class Echo:
    """A search tool that returns its query."""

    name = "search"
    fingerprint = "echo"

    def __init__(self, outcome: Outcome = Outcome.OK) -> None:
        self.outcome = outcome
        self.queries: list[str] = []

    async def call(self, argument: str) -> ToolReply:
        self.queries.append(argument)
        return ToolReply(self.outcome, f"about {argument}", ("p1",))


def task(**changes: object) -> Task:
    base = Task(
        "q/coa/0", "q", Mode.COA, 0, "Who?", "Question: Who?\n<think>\n", "hash", ("search",)
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def collect(rows: AsyncIterator[Trajectory]) -> list[Trajectory]:
    async def gather() -> list[Trajectory]:
        return [row async for row in rows]

    return asyncio.run(gather())
