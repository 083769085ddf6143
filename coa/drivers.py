"""The two thin drivers of the rollout loop: one for servers, one for engines in this process.

Both take tasks as they come and give finished trajectories in the order of the tasks, with a bounded number in hand, so
memory does not grow with the number of rows and the same run writes the same file.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from coa import rollout
from coa.policy import BatchPolicy, Completion, Policy, RequestError
from coa.rollout import Call, Done, Failure, Generate, Run, State, Task
from coa.tools import Toolbox, ToolReply
from coa.tools.repeats import without_repeats
from coa.trajectory import Outcome, Trajectory

Environment = Callable[[Sequence[State]], Awaitable[Sequence[ToolReply]]]
"""Answers the calls that states wait for, in their order: tools, or a simulation of them (`coa/tools/simulated.py`)."""

OnEnd = Callable[[int], None]
"""Called with the policy's tokens of each rollout that ends, in the order in which they end."""

_WAITING_PER_SLOT = 4
"""How many finished trajectories may wait, per slot, for a slow one before them; more would only cost memory."""


def _nobody(num_tokens: int) -> None:
    """Whom a driver tells where nobody listens."""


async def roll_out(task: Task, run: Run, policy: Policy, tools: Toolbox) -> Trajectory:
    """Roll out one task against a server; each turn starts as soon as the reply before it is there."""
    state = rollout.start(task, run)
    while not isinstance(state.pending, Done):
        state = await _next(state, policy, tools)
    return rollout.finish(state)


async def follow(
    task: Task, run: Run, policy: Policy, tools: Toolbox
) -> AsyncGenerator[State, None]:
    """Roll out one task and give every state on the way, for those who want to watch; the last one is done."""
    state = rollout.start(task, run)
    yield state
    while not isinstance(state.pending, Done):
        state = await _next(state, policy, tools)
        yield state


async def _next(state: State, policy: Policy, tools: Toolbox) -> State:
    if isinstance(state.pending, Generate):
        return rollout.advance(state, await _complete(policy, state))
    assert isinstance(state.pending, Call)
    return rollout.observe(state, without_repeats(await _call(tools, state.pending), state.steps))


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


async def roll_out_all(
    tasks: Iterable[Task],
    run: Run,
    policy: Policy,
    tools: Toolbox,
    *,
    concurrency: int,
    on_end: OnEnd = _nobody,
) -> AsyncGenerator[Trajectory, None]:
    """Roll out many tasks at once against a server; trajectories come in the order of the tasks.

    Raises:
        ServiceError: the policy or a tool cannot be reached; the rollouts in hand are cancelled, finished calls are
            in the journal.
    """
    slots = asyncio.Semaphore(concurrency)
    window: deque[asyncio.Task[Trajectory]] = deque()

    async def in_slot(task: Task) -> Trajectory:
        async with slots:
            trajectory = await roll_out(task, run, policy, tools)
        on_end(trajectory.num_policy_tokens)
        return trajectory

    try:
        for task in tasks:
            window.append(asyncio.create_task(in_slot(task)))
            while len(window) >= concurrency * _WAITING_PER_SLOT or (window and window[0].done()):
                yield await window.popleft()
        while window:
            yield await window.popleft()
    finally:
        for waiting in window:
            waiting.cancel()
        await asyncio.gather(*window, return_exceptions=True)


@dataclass(slots=True)
class _Slot:
    state: State
    position: int = field(default=0)


async def roll_out_batched(
    tasks: Iterable[Task],
    run: Run,
    policy: BatchPolicy,
    tools: Toolbox,
    *,
    batch_size: int,
    on_end: OnEnd = _nobody,
) -> AsyncGenerator[Trajectory, None]:
    """Roll out many tasks with an engine in this process; trajectories come in the order of the tasks."""
    environment = tool_environment(tools)
    async for state in roll_out_states(
        tasks, run, policy, environment, batch_size=batch_size, on_end=on_end
    ):
        yield rollout.finish(state)


async def roll_out_states(
    tasks: Iterable[Task], run: Run, policy: BatchPolicy, environment: Environment, *, batch_size: int,
    on_end: OnEnd = _nobody,
) -> AsyncGenerator[State, None]:  # fmt: skip
    """Like `roll_out_batched`, in any environment, for those who need the ids: the final states, all `Done`.

    A slot that becomes free takes the next task at once.
    """
    source = enumerate(tasks)
    slots: list[_Slot] = []
    finished: dict[int, State] = {}
    emitted = 0
    while True:
        room = min(batch_size - len(slots), batch_size * _WAITING_PER_SLOT - len(finished))
        slots += [_Slot(rollout.start(task, run), i) for i, task in _take(source, room)]
        if not slots:
            return
        _generate_batch(slots, policy)
        await _observe_batch(slots, environment)
        for slot in filter(_is_done, slots):
            finished[slot.position] = slot.state
            on_end(slot.state.num_policy_tokens)
        slots = [slot for slot in slots if not _is_done(slot)]
        while emitted in finished:
            yield finished.pop(emitted)
            emitted += 1


def _take(source: Iterator[tuple[int, Task]], count: int) -> Iterator[tuple[int, Task]]:
    for _ in range(count):
        item = next(source, None)
        if item is None:
            return
        yield item


def _is_done(slot: _Slot) -> bool:
    return isinstance(slot.state.pending, Done)


def _generate_batch(slots: list[_Slot], policy: BatchPolicy) -> None:
    ready = [slot for slot in slots if isinstance(slot.state.pending, Generate)]
    completions = policy.complete_batch([rollout.request(slot.state) for slot in ready])
    for slot, completion in zip(ready, completions, strict=True):
        slot.state = rollout.advance(slot.state, completion)


async def _observe_batch(slots: list[_Slot], environment: Environment) -> None:
    waiting = [slot for slot in slots if isinstance(slot.state.pending, Call)]
    replies = await environment([slot.state for slot in waiting]) if waiting else ()
    for slot, reply in zip(waiting, replies, strict=True):
        slot.state = rollout.observe(slot.state, without_repeats(reply, slot.state.steps))


def tool_environment(tools: Toolbox) -> Environment:
    """The environment in which each call goes to its tool, all at once."""

    async def answer(states: Sequence[State]) -> Sequence[ToolReply]:
        calls = [state.pending for state in states if isinstance(state.pending, Call)]
        return await asyncio.gather(*(_call(tools, call) for call in calls))

    return answer
