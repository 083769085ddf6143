"""Open all that a rollout needs, as params.yaml says: policy, tools, budgets and journal."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from coa.errors import CapError, ConfigError
from coa.interruption import tell
from coa.microworld.factory import MicroworldParams
from coa.policy import (
    AnyPolicy,
    BatchPolicy,
    Policy,
    UnbatchedPolicy,
    reads_turns,
    sent_sampling,
)
from coa.policy.chat.families import Waiver
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.progress import Ended, Progress, Standing, Traffic
from coa.records.trajectory import Trajectory
from coa.rollout.drivers import OnEnd, roll_out_all, roll_out_batched
from coa.rollout.factory import TeacherParams, open_policy
from coa.rollout.failures import stop_if_all_fail
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.rollout.probe import Probe
from coa.rollout.toolbox import open_library
from coa.search.settings import SearchParams
from coa.settings.params import Params
from coa.shards.files import JOURNAL, Shard
from coa.shards.stage import ShardRun
from coa.spending.journaled import JournaledBatchPolicy, JournaledPolicy, JournaledTool
from coa.spending.ledger import Ledger, Spending, price_journal
from coa.spending.prices import CostParams
from coa.store.journal import Journal
from coa.store.journal_file import JOURNALS as JOURNALS
from coa.tools import Toolbox, library_fingerprint, own_schemas
from coa.tools.settings import ToolsParams

_SHOWN_EVERY_SECONDS = 2.0
"""The time between two updates of the requests' counts in a progress bar."""


@dataclass(slots=True)
class Clock:
    """The time that a run takes, and the rollouts in it that needed a call."""

    started: float = field(default_factory=time.monotonic)
    num_live: int = 0
    num_under_way: int = 0
    """Rollouts that have begun and are not over."""

    def record(self, journal: Journal) -> None:
        """Record the run, for its costs."""
        if journal.num_recorded or journal.num_replayed:
            journal.put_run(time.monotonic() - self.started, self.num_live)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A policy and tools whose finished calls are all kept in a journal."""

    run: RolloutContext
    policy: JournaledPolicy | JournaledBatchPolicy
    tools: Toolbox
    journal: Journal
    ledger: Ledger
    clock: "Clock"
    concurrency: int
    shard: ShardRun | None = None
    """For a stage that can run in shards."""
    probe: Probe | None = None
    """For policies behind a server."""
    waived: tuple[Waiver, ...] = ()
    """Faults of a chat server that the settings accept."""

    async def roll_out_all(
        self, tasks: Iterable[Task], progress: Progress, *, may_all_fail: bool = False
    ) -> AsyncGenerator[Trajectory, None]:
        """Roll out the tasks with the driver that fits the policy.

        Trajectories come in the tasks' order. `progress` counts each as soon as it is over, which
        may be long before its turn comes. With `may_all_fail`, as after tasks that succeeded, even
        a run continues in which every rollout fails.

        Raises:
            ServiceError: the policy or a tool cannot be reached, or every rollout fails.
        """

        def end(rollout: Ended) -> None:
            self.clock.num_under_way -= 1
            self.clock.num_live += rollout.is_live
            progress.end(rollout)

        rows = self._drive(self._begin(tasks), end)
        if not may_all_fail:
            rows = stop_if_all_fail(rows)
        watching = asyncio.create_task(self._watch(progress))
        try:
            async with aclosing(rows):
                async for row in rows:
                    yield row
        finally:
            watching.cancel()
            self._tell(progress)

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

    def _begin(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """Count the tasks as the driver takes them."""
        for task in tasks:
            self.clock.num_under_way += 1
            yield task

    async def _watch(self, progress: Progress) -> None:
        """Show now and then how the run stands, even while no rollout ends."""
        while True:
            progress.show(self._standing)
            self._tell(progress)
            await asyncio.sleep(_SHOWN_EVERY_SECONDS)

    def _tell(self, progress: Progress) -> None:
        """Write down how far a shard is."""
        if self.shard:
            self.shard.tell(progress.done, progress.total, self.ledger.paid.total.dollars)

    @property
    def _standing(self) -> Standing:
        policy = self.policy
        traffic = policy.traffic if isinstance(policy, JournaledPolicy) else Traffic()
        paid = self.ledger.paid.total
        used = self.ledger.used.total
        # Nothing was paid, or it has no price: there is no cost to show.
        has_price = used.dollars > 0
        return Standing(
            traffic,
            self.clock.num_under_way,
            paid.known_dollars if has_price else None,
            used.known_dollars if has_price else None,
        )

    @property
    def unbatched_policy(self) -> Policy:
        """Return the policy for a single rollout."""
        if isinstance(self.policy, JournaledBatchPolicy):
            return UnbatchedPolicy(self.policy)
        return self.policy

    @property
    def server_metrics(self) -> dict[str, object]:
        """Return what is known of the policy's server, for metrics; empty where there is none."""
        metrics: dict[str, object] = {}
        if self.probe and self.probe.seen:
            metrics["probe"] = dict(self.probe.seen)
        if self.waived:
            metrics["waived"] = sorted(self.waived)
        return metrics

    @property
    def journal_summary(self) -> str:
        """Return how many calls were made and replayed, and their price, for a summary line."""
        made = f"{self.journal.num_recorded:,} calls made"
        replayed = f"{self.journal.num_replayed:,} taken from the journal"
        paid = self.ledger.paid.total.known_dollars
        if not paid:
            return f"{made}, {replayed}"
        cents = f"${paid:,.2f}" if paid >= 0.005 else "less than $0.01"
        return f"{made}, {replayed}, {cents} paid so far"


@asynccontextmanager
async def open_runtime(
    params: Params,
    work: ShardRun | str,
    *,
    teacher: TeacherParams | None = None,
    section: str = "teacher",
    limits: Limits | None = None,
    wrap_policy: Callable[[AnyPolicy], AnyPolicy] | None = None,
    tools: Toolbox | None = None,
) -> AsyncIterator[Runtime]:
    """Open the policy, the tools and the journal, and close them at the end.

    `work` is the stage's work or the shard of it, which knows its journal, or the name of a file in
    .journal/. The policy's settings are those of `section`; `wrap_policy` puts it into another
    form, such as ReAct's lines. `tools` take the place of those of the settings.

    Raises:
        ConfigError: A setting is wrong.
        InputError: The search index is missing.
        CapError: The body asked for a call beyond a limit of the section costs.
    """
    teacher = teacher or params.section(TeacherParams, "teacher")
    limits = limits or params.section(Limits, "rollout")
    shard = None if isinstance(work, str) else work
    teacher = share_rates(teacher, shard.shard.count) if shard else teacher
    async with AsyncExitStack() as stack:
        policy = _open_policy(teacher, section, params, stack)
        journal, ledger = open_account(work, params, stack)
        probe = None
        if teacher.probe and isinstance(policy, CompletionsPolicy):
            probe = Probe(policy, journal, ledger)
        if tools is None:
            search = params.section(SearchParams, "search")
            tools = await open_library(search, params.section(ToolsParams, "tools"), stack)
        if isinstance(policy, ChatPolicy):
            policy.describe_tools(own_schemas(tools))
        sampling = sent_sampling(policy, teacher.sampling)
        if wrap_policy is not None:
            policy = wrap_policy(policy)
        run = RolloutContext(policy, sampling, limits, library_fingerprint(tools))
        runtime = Runtime(
            run=run,
            policy=_journaled(policy, journal, ledger, probe),
            tools={name: JournaledTool(tool, journal, ledger) for name, tool in tools.items()},
            journal=journal,
            ledger=ledger,
            clock=Clock(),
            concurrency=teacher.concurrency,
            shard=shard,
            probe=probe,
            waived=teacher.chat.waives if reads_turns(policy) else (),
        )
        stack.callback(runtime.clock.record, journal)
        async with keep_calls(journal, ledger):
            yield runtime


@asynccontextmanager
async def keep_calls(journal: Journal, ledger: Ledger) -> AsyncIterator[None]:
    """Wait for the calls under way where a run was cancelled or reached a cap; cancel mere waits.

    Raises:
        CapError: The body asked for a call beyond a limit of the section costs.
    """
    try:
        yield
    except asyncio.CancelledError:
        await _wait_for_calls(journal)
        raise
    except CapError as error:
        await _wait_for_calls(journal)
        raise ledger.final_error(error) from error
    finally:
        # No rollout waits for these any more.
        left = [call.task for call in journal.in_flight.values() if call.task]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def open_account(
    work: ShardRun | str, params: Params, stack: AsyncExitStack, journal_name: str = JOURNAL
) -> tuple[Journal, Ledger]:
    """Open a journal, which `stack` closes, and the account of what it paid.

    A shard has the part of the limits that is its own; `journal_name` says which of its journals.
    """
    costs = params.section(CostParams, "costs")
    if isinstance(work, str):
        journal = stack.enter_context(Journal(JOURNALS / f"{work}.sqlite"))
    else:
        journal = stack.enter_context(work.open_journal(journal_name))
        costs = share_caps(costs, journal, work)
    return journal, Ledger(journal, costs)


def share_rates(teacher: TeacherParams, count: int) -> TeacherParams:
    """Divide the requests and tokens that a server allows in a minute among shards."""
    server = teacher.server
    return replace(
        teacher,
        server=replace(
            server,
            max_requests_per_minute=_rate_share(server.max_requests_per_minute, count),
            max_tokens_per_minute=_rate_share(server.max_tokens_per_minute, count),
        ),
    )


def _rate_share(limit: int, count: int) -> int:
    """Return a shard's part of a rate, at least 1; 0, which is no limit, stays."""
    return max(limit // count, 1) if limit else 0


def share_caps(costs: CostParams, journal: Journal, work: ShardRun) -> CostParams:
    """Divide among the shards what may still be spent after earlier runs.

    Raises:
        ConfigError: A limit is smaller than the number of shards.
    """
    if not work.is_part:
        return costs
    before = Spending()
    for earlier in journal.earlier:
        before.add(price_journal(earlier, costs))
    paid = before.total
    work.paid_before = paid.dollars
    shard = work.shard
    for name in ("max_calls", "max_tokens"):
        limit: int = getattr(costs, name)
        if 0 < limit < shard.count:
            raise ConfigError(
                f"costs.{name} cannot be divided among {shard.count} shards",
                expected=f"at least one for each, or costs.{name}=0 for no limit",
                got=f"costs.{name}={limit}",
                fix="raise it, or run fewer shards",
            )
    dollars_left = max(costs.max_dollars - paid.dollars, 0.0)
    return replace(
        costs,
        max_calls=_share(costs.max_calls, paid.calls, shard),
        max_tokens=_share(costs.max_tokens, paid.tokens, shard),
        max_dollars=min(costs.max_dollars, paid.dollars + dollars_left / shard.count),
    )


def _share(limit: int, spent: int, shard: Shard) -> int:
    """Return up to where a shard may spend: to what is spent, and its part of what is left.

    The parts of all shards add up to what is left. 0, which is no limit, stays.
    """
    left = max(limit - spent, 0)
    part = left // shard.count + (shard.number <= left % shard.count)
    return min(limit, spent + part)


async def _wait_for_calls(journal: Journal) -> None:
    """Wait for the calls under way, because they are paid for; each is recorded as it ends.

    Calls that only wait, such as to be repeated, are cancelled.
    """
    for call in journal.in_flight.values():
        call.stop()
    await asyncio.sleep(0)  # lets the cancelled ones end
    tasks = [call.task for call in journal.in_flight.values() if call.task]
    if tasks:
        tell(f"waiting for {len(tasks):,} calls under way, to keep their replies")
        await asyncio.wait(tasks)


def _open_policy(
    teacher: TeacherParams, section: str, params: Params, stack: AsyncExitStack
) -> AnyPolicy:
    """Open the policy, which `stack` closes; a key that its server needs must be there."""
    policy = open_policy(teacher, params.section(MicroworldParams, "microworld"), section)
    if isinstance(policy, CompletionsPolicy):
        policy.require_key()
    close = getattr(policy, "aclose", None)
    if close is not None:
        stack.push_async_callback(close)
    return policy


def _journaled(
    policy: AnyPolicy, journal: Journal, ledger: Ledger, probe: Probe | None
) -> JournaledPolicy | JournaledBatchPolicy:
    if isinstance(policy, BatchPolicy):
        return JournaledBatchPolicy(policy, journal, ledger)
    return JournaledPolicy(policy, journal, ledger, probe)
