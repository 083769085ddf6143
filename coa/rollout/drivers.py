"""Drive the rollout loop: one driver for servers, one for engines in this process.

Both take tasks as they come and give finished trajectories in the order of the tasks, so the same
run writes the same file. A slot that becomes free takes the next task at once, however slow the
rollout at the head is. A trajectory that is finished before its turn waits on disk
(`coa/store/spool.py`), so memory does not grow with the number of rows.
"""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from coa.policy import AnyPolicy, BatchPolicy, Completion, Policy, RequestError
from coa.progress import Ended, count_calls
from coa.records.trajectory import FAILED_STOPS, Outcome, Trajectory
from coa.rollout import loop as rollout
from coa.rollout.loop import RolloutContext, State, Task
from coa.store.pending import Call, Done, Failure, Generate
from coa.store.spool import Spool
from coa.tools import Toolbox, ToolReply

Environment = Callable[[Sequence[State]], Awaitable[Sequence[ToolReply]]]
"""A function that answers the calls that states wait for, in their order. It asks tools, or
simulates them (`coa/rollout/simulated.py`)."""


OnEnd = Callable[[Ended], None]
"""A function that is called with each rollout that ends, in the order in which they end."""


def _ignore_end(ended: Ended) -> None:
    """Do nothing when a rollout ends."""


async def roll_out(task: Task, run: RolloutContext, policy: Policy, tools: Toolbox) -> Trajectory:
    """Roll out one task against a server."""
    state = rollout.start(task, run)
    while not isinstance(state.pending, Done):
        state = await _next(state, policy, tools)
    return rollout.finish(state)


async def follow(
    task: Task, run: RolloutContext, policy: Policy, tools: Toolbox
) -> AsyncGenerator[State, None]:
    """Roll out one task and give every state on the way; the last one is done."""
    state = rollout.start(task, run)
    yield state
    while not isinstance(state.pending, Done):
        state = await _next(state, policy, tools)
        yield state


async def _next(state: State, policy: Policy, tools: Toolbox) -> State:
    if isinstance(state.pending, Generate):
        return rollout.advance(state, await _complete(policy, state))
    assert isinstance(state.pending, Call)
    reply = await _call(tools, state.pending)
    return rollout.observe(state, reply)


async def _complete(policy: Policy, state: State) -> Completion | Failure:
    try:
        return await policy.complete(rollout.request(state))
    except RequestError as error:
        return Failure(str(error))


async def _call(tools: Toolbox, call: Call) -> ToolReply:
    tool = tools.get(call.tool)
    if tool is None:
        return ToolReply(Outcome.INVALID, f"There is no tool {call.tool}.")
    return await tool.call(call.argument)


class _Finished(NamedTuple):
    """A rollout that is over, with the position of its task."""

    position: int
    trajectory: Trajectory
    ended: Ended


async def _roll_out_counted(
    position: int, task: Task, run: RolloutContext, policy: Policy, tools: Toolbox
) -> _Finished:
    started = time.monotonic()
    calls = count_calls()
    trajectory = await roll_out(task, run, policy, tools)
    ended = _ended(trajectory, started, is_live=calls.is_live)
    return _Finished(position, trajectory, ended)


def _ended(trajectory: Trajectory, started: float, *, is_live: bool) -> Ended:
    has_failed = trajectory.stop_reason in FAILED_STOPS
    return Ended(
        num_tokens=trajectory.num_policy_tokens,
        is_live=is_live,
        started=started,
        num_actions=trajectory.num_actions,
        failure=str(trajectory.stop_reason) if has_failed else "",
    )


_Over = TypeVar("_Over")
"""A rollout that is over."""


class _UnderWay(Generic[_Over]):
    """The rollouts under way: every slot has one as long as there are rollouts to start."""

    def __init__(
        self, rollouts: Iterator[Coroutine[object, object, _Over]], num_slots: int
    ) -> None:
        self._rollouts = rollouts
        self._num_slots = num_slots
        self._running: set[asyncio.Task[_Over]] = set()
        self._over: asyncio.Queue[asyncio.Task[_Over]] = asyncio.Queue()

    def __len__(self) -> int:
        return len(self._running)

    def fill(self) -> None:
        """Start a rollout in every free slot."""
        num_free = self._num_slots - len(self._running)
        for coroutine in islice(self._rollouts, num_free):
            running = asyncio.create_task(coroutine)
            running.add_done_callback(self._over.put_nowait)
            self._running.add(running)

    @property
    def has_finished(self) -> bool:
        """Return whether `next_finished` has one to give without waiting."""
        return not self._over.empty()

    async def next_finished(self) -> _Over:
        """Wait for the next rollout that ends, whichever it is, and start another in its slot.

        An error of any rollout is raised here as soon as it happens.
        """
        over = await self._over.get()
        finished = over.result()
        self._running.remove(over)
        self.fill()
        return finished

    async def cancel(self) -> None:
        """Cancel what is still running."""
        for running in self._running:
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)


async def roll_out_all(
    tasks: Iterable[Task],
    run: RolloutContext,
    policy: Policy,
    tools: Toolbox,
    *,
    concurrency: int,
    on_end: OnEnd = _ignore_end,
    spool_folder: Path | None = None,
) -> AsyncGenerator[Trajectory, None]:
    """Roll out many tasks at once against a server; trajectories come in the order of the tasks.

    `on_end` is called with each rollout as soon as it ends. Finished trajectories wait for their
    turn in a nameless file in `spool_folder`.

    Raises:
        ServiceError: The policy or a tool cannot be reached. The other rollouts are cancelled at
            once; finished calls are in the journal.
    """
    rollouts = (
        _roll_out_counted(position, task, run, policy, tools) for position, task in enumerate(tasks)
    )
    under_way = _UnderWay(rollouts, concurrency)
    turn = 0
    try:
        with Spool(Trajectory, spool_folder) as waiting:
            under_way.fill()
            while under_way or turn in waiting:
                if turn in waiting:
                    yield waiting.take(turn)
                    turn += 1
                    await asyncio.sleep(0)  # let the rollouts run between two rows
                    # One row in for each row out: a replay, which needs no waiting, would
                    # otherwise write all rows to the spool before the reader had the second.
                    if not under_way.has_finished:
                        continue
                finished = await under_way.next_finished()
                on_end(finished.ended)
                waiting.put(finished.position, finished.trajectory)
    finally:
        await under_way.cancel()


@dataclass(slots=True)
class _Slot:
    """A rollout in a batch."""

    state: State
    position: int = 0
    is_live: bool = False
    started: float = field(default_factory=time.monotonic)

    @property
    def is_done(self) -> bool:
        return isinstance(self.state.pending, Done)


async def roll_out_batched(
    tasks: Iterable[Task],
    run: RolloutContext,
    policy: BatchPolicy,
    tools: Toolbox,
    *,
    batch_size: int,
    on_end: OnEnd = _ignore_end,
    spool_folder: Path | None = None,
) -> AsyncGenerator[Trajectory, None]:
    """Roll out many tasks with an engine in this process, in batches.

    Trajectories come in the order of the tasks.
    """
    environment = tool_environment(tools)
    turn = 0
    with Spool(Trajectory, spool_folder) as waiting:
        async for slot in _run_slots(tasks, run, policy, environment, batch_size):
            trajectory = rollout.finish(slot.state)
            on_end(_ended(trajectory, slot.started, is_live=slot.is_live))
            waiting.put(slot.position, trajectory)
            while turn in waiting:
                yield waiting.take(turn)
                turn += 1


async def roll_out_states(
    tasks: Iterable[Task],
    run: RolloutContext,
    policy: AnyPolicy,
    environment: Environment,
    *,
    batch_size: int,
    in_turns: bool = False,
) -> AsyncGenerator[State, None]:
    """Roll out many tasks and give the final states, all `Done`, in the order of the tasks.

    Against a server each rollout continues by itself, as soon as its own reply is there. With an
    engine in this process, or `in_turns`, all wait for the slowest reply of each turn: then the
    engine, or an environment that holds one, answers them in batches.

    It is meant for callers that need the token ids. States that are finished before their turn
    wait in memory, so use it for groups that fit there.
    """
    finished: dict[int, State] = {}
    turn = 0
    if in_turns or isinstance(policy, BatchPolicy):
        slots = _run_slots(tasks, run, policy, environment, batch_size)
    else:
        slots = _run_each(tasks, run, policy, environment, batch_size)
    async for slot in slots:
        finished[slot.position] = slot.state
        while turn in finished:
            yield finished.pop(turn)
            turn += 1


async def _run_each(
    tasks: Iterable[Task],
    run: RolloutContext,
    policy: Policy,
    environment: Environment,
    num_slots: int,
) -> AsyncIterator[_Slot]:
    """Run so many rollouts at once, each by itself, and give each as it ends."""

    async def go_on(position: int, task: Task) -> _Slot:
        slot = _Slot(rollout.start(task, run), position)
        while not slot.is_done:
            if isinstance(slot.state.pending, Generate):
                slot.state = rollout.advance(slot.state, await _complete(policy, slot.state))
            await _observe_batch([slot], environment)
        return slot

    rollouts = (go_on(position, task) for position, task in enumerate(tasks))
    under_way = _UnderWay(rollouts, num_slots)
    try:
        under_way.fill()
        while under_way:
            yield await under_way.next_finished()
    finally:
        await under_way.cancel()


async def _run_slots(
    tasks: Iterable[Task],
    run: RolloutContext,
    policy: AnyPolicy,
    environment: Environment,
    batch_size: int,
) -> AsyncIterator[_Slot]:
    """Run a batch of slots and give each as its rollout ends; a free slot takes the next task."""
    source = enumerate(tasks)
    slots: list[_Slot] = []
    while True:
        for position, task in islice(source, batch_size - len(slots)):
            slots.append(_Slot(rollout.start(task, run), position))
        if not slots:
            return
        await _generate_batch(slots, policy)
        await asyncio.sleep(0)  # a batch blocks the event loop: here a cancellation arrives
        await _observe_batch(slots, environment)
        for slot in slots:
            if slot.is_done:
                yield slot
        slots = [slot for slot in slots if not slot.is_done]


async def _generate_batch(slots: list[_Slot], policy: AnyPolicy) -> None:
    """Let the policy write in all slots that wait for it."""
    ready = [slot for slot in slots if isinstance(slot.state.pending, Generate)]
    completions: Sequence[Completion | Failure]
    if isinstance(policy, BatchPolicy):
        completions = policy.complete_batch([rollout.request(slot.state) for slot in ready])
    else:
        completions = await asyncio.gather(*(_complete(policy, slot.state) for slot in ready))
    # Behind a journal (`JournaledBatchPolicy`) some calls were not made.
    made: Sequence[bool] = getattr(policy, "was_made", [True] * len(ready))
    for slot, completion, is_live in zip(ready, completions, made, strict=True):
        slot.state = rollout.advance(slot.state, completion)
        slot.is_live |= is_live


async def _observe_batch(slots: list[_Slot], environment: Environment) -> None:
    """Answer the calls of all slots that wait for a tool."""
    waiting = [slot for slot in slots if isinstance(slot.state.pending, Call)]
    if not waiting:
        return
    replies = await environment([slot.state for slot in waiting])
    for slot, reply in zip(waiting, replies, strict=True):
        slot.state = rollout.observe(slot.state, reply)


def tool_environment(tools: Toolbox) -> Environment:
    """Return the environment that sends each call to its tool, all at once."""

    async def answer(states: Sequence[State]) -> Sequence[ToolReply]:
        calls = []
        for state in states:
            if isinstance(state.pending, Call):
                calls.append(_call(tools, state.pending))
        return await asyncio.gather(*calls)

    return answer
