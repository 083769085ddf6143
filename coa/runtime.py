"""From params.yaml to all that a rollout needs: the policy, the tools, the budgets and the journal around them."""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from coa.drivers import OnEnd, roll_out_all, roll_out_batched
from coa.factory import AnyPolicy, SearchParams, TeacherParams, open_library, open_policy
from coa.failing import stop_if_all_fail
from coa.journal import Journal
from coa.journaled import JournaledBatchPolicy, JournaledPolicy, JournaledTool
from coa.microworld.factory import MicroworldParams
from coa.params import Params
from coa.policy import BatchPolicy, Policy, UnbatchedPolicy
from coa.progress import Progress
from coa.rollout import Limits, RolloutContext, Task
from coa.tools import Toolbox, library_fingerprint
from coa.tools.factory import ToolsParams
from coa.trajectory import Trajectory

JOURNALS = Path(".journal")
"""Beside data/, not in it: DVC deletes a stage's outputs before it runs the stage again."""

_SHOWN_EVERY_SECONDS = 2.0
"""How often a bar says where the requests stand."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A policy and tools whose every finished call is kept."""

    run: RolloutContext
    policy: JournaledPolicy | JournaledBatchPolicy
    tools: Toolbox
    journal: Journal
    concurrency: int

    async def roll_out_all(
        self, tasks: Iterable[Task], progress: Progress
    ) -> AsyncGenerator[Trajectory, None]:
        """Roll out the tasks with the driver that fits the policy; trajectories come in the tasks' order.

        `progress` hears of each as soon as it is over, which may be long before its turn comes.

        Raises:
            ServiceError: the policy or a tool cannot be reached, or every rollout fails.
        """
        rows = stop_if_all_fail(self._drive(tasks, progress.end))
        watching = asyncio.create_task(self._watch(progress))
        try:
            async with aclosing(rows):
                async for row in rows:
                    yield row
        finally:
            watching.cancel()

    def _drive(self, tasks: Iterable[Task], on_end: OnEnd) -> AsyncGenerator[Trajectory, None]:
        if isinstance(self.policy, JournaledBatchPolicy):
            return roll_out_batched(
                tasks,
                self.run,
                self.policy,
                self.tools,
                batch_size=self.concurrency,
                on_end=on_end,
                spool_folder=JOURNALS,
            )
        return roll_out_all(
            tasks,
            self.run,
            self.policy,
            self.tools,
            concurrency=self.concurrency,
            on_end=on_end,
            spool_folder=JOURNALS,
        )

    async def _watch(self, progress: Progress) -> None:
        """Show where the requests stand, also while no rollout ends."""
        while isinstance(self.policy, JournaledPolicy):
            progress.show(self.policy.traffic)
            await asyncio.sleep(_SHOWN_EVERY_SECONDS)

    @property
    def unbatched_policy(self) -> Policy:
        """The policy for a single rollout."""
        return (
            UnbatchedPolicy(self.policy)
            if isinstance(self.policy, JournaledBatchPolicy)
            else self.policy
        )

    @property
    def journal_summary(self) -> str:
        """What the journal did, for a summary line."""
        return f"{self.journal.num_recorded:,} calls made, {self.journal.num_replayed:,} taken from the journal"


@asynccontextmanager
async def open_runtime(
    params: Params,
    journal_name: str,
    *,
    teacher: TeacherParams | None = None,
    limits: Limits | None = None,
    wrap_policy: Callable[[AnyPolicy], AnyPolicy] | None = None,
) -> AsyncIterator[Runtime]:
    """Open what the sections search, tools and microworld describe; closes it all at the end.

    Args:
        params: the sections.
        journal_name: of the file in .journal/ that keeps the finished calls.
        teacher: the policy; as the section teacher says where none is given.
        limits: of a rollout; as the section rollout says where none are given.
        wrap_policy: makes of the policy one that is asked otherwise, such as in ReAct's lines.

    Raises:
        ConfigError: a setting is wrong.
        InputError: the search index is missing.
    """
    teacher = teacher or params.section(TeacherParams, "teacher")
    limits = limits or params.section(Limits, "rollout")
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(JOURNALS / f"{journal_name}.sqlite"))
        policy = open_policy(teacher, params.section(MicroworldParams, "microworld"))
        if close := getattr(policy, "aclose", None):
            stack.push_async_callback(close)
        if wrap_policy is not None:
            policy = wrap_policy(policy)
        tools = await open_library(
            params.section(SearchParams, "search"), params.section(ToolsParams, "tools"), stack
        )
        run = RolloutContext(policy, teacher.sampling, limits, library_fingerprint(tools))
        kept = {name: JournaledTool(tool, journal) for name, tool in tools.items()}
        try:
            yield Runtime(run, _journaled(policy, journal), kept, journal, teacher.concurrency)
        except asyncio.CancelledError:
            await _wait_for_calls(journal)
            raise
        finally:
            await _cancel_calls(journal)


async def _wait_for_calls(journal: Journal) -> None:
    """Let the calls under way end, because they are paid for; each is recorded as it ends."""
    calls = list(journal.in_flight.values())
    if calls:
        print(f"waiting for {len(calls):,} calls under way, to keep their replies", file=sys.stderr)
        await asyncio.wait(calls)


async def _cancel_calls(journal: Journal) -> None:
    """End the calls that nobody waits for any more, before the journal is closed."""
    calls = list(journal.in_flight.values())
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


def _journaled(policy: AnyPolicy, journal: Journal) -> JournaledPolicy | JournaledBatchPolicy:
    if isinstance(policy, BatchPolicy):
        return JournaledBatchPolicy(policy, journal)
    return JournaledPolicy(policy, journal)
