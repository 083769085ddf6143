"""Find the calls of the teacher and of search that made a trajectory.

The rollout is run again by the same pure transition that made it (`coa/rollout.py`), with every
reply taken from the journal and none asked for. Where the same record comes out, the calls are
proven to be those of this trajectory: the key of a call is the hash of everything that its reply
depends on, the whole context included.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from coa import protocol, rollout
from coa.forking import first_turns, way_to
from coa.journal import Call as PaidCall
from coa.journal import CallKind, Finished, JournalReader, request_key
from coa.journaled import policy_key
from coa.ledger import Tally, price_recorded
from coa.pairs import Arm
from coa.pending import Call, Done, Generate
from coa.policy import Completion, Turns
from coa.policy.chat.families import ChatFamily
from coa.policy.chat.record import UnforkableError
from coa.prices import CostParams
from coa.rollout import RolloutContext, State, Task
from coa.tools import ToolReply, tool_fingerprints
from coa.trajectory import Mode, Step, StepKind, Trajectory


class RecordedCall(NamedTuple):
    """A call as the journal has it."""

    kind: CallKind
    key: str
    finished_at: str
    """UTC, ISO 8601; empty where the journal does not hold the call."""
    seconds: float
    text: str
    """The text that the policy wrote, or what it asked the tool."""
    cost: Tally
    """Its tokens or requests, and its dollars where there is a price."""


class Replay(NamedTuple):
    """The calls behind a trajectory."""

    calls: tuple[RecordedCall, ...]
    """Up to the first whose reply is not what is in the trajectory."""
    is_same: bool
    """Whether the replies in the journal give exactly this trajectory, its counts included."""
    messages: tuple[str, ...] = ()
    """A chat policy's own messages (`coa.policy.Native.message`)."""

    @property
    def cost(self) -> Tally:
        """Return what all the calls cost; other trajectories may have needed a search, too."""
        total = Tally()
        for call in self.calls:
            total.add(call.cost)
        return total


class _Opened(NamedTuple):
    journal: JournalReader
    prices: CostParams

    def record(self, kind: CallKind, key: str, found: Finished | None, text: str) -> RecordedCall:
        """Describe a call; `found` is None where the journal does not hold it."""
        if found is None:
            return RecordedCall(kind, key, "", 0.0, text, Tally())
        paid = PaidCall(kind, found.who, found.seconds, found.reply)
        cost = price_recorded(paid, self.prices, self.journal.path)
        return RecordedCall(kind, key, found.finished_at, found.seconds, text, cost)


def replay(
    trajectory: Trajectory,
    run: RolloutContext,
    journal: Path,
    tools: Sequence[str] = ("search",),
    family: ChatFamily | None = None,
    opening_prompt: str = "",
    prices: CostParams | None = None,
) -> Replay:
    """Find the calls of a trajectory; a fork's are returned without those of its parent.

    Args:
        trajectory: The trajectory as it was recorded.
        run: What its rollout shared with all others. Only the names and the token counts of its
            encoder are asked for.
        journal: The journal's file; a missing one holds no calls.
        tools: Names of the run's tools, as they were offered.
        family: The family of the server, for a chat policy.
        opening_prompt: The prompt without tools, for a fork that thought first and may act later.
        prices: What models and searches cost.

    Raises:
        InputError: the file is not a journal, or is damaged.
    """
    if not journal.exists():
        return Replay((), is_same=False)
    calls: list[RecordedCall] = []
    with JournalReader(journal) as reader:
        opened = _Opened(reader, prices or CostParams())
        task = rebuild_task(trajectory, tools, family, opening_prompt)
        state = _follow(trajectory, task, run, opened, calls)
    is_same = isinstance(state.pending, Done) and rollout.finish(state) == trajectory
    return Replay(tuple(calls), is_same, state.turns.messages)


def _follow(
    trajectory: Trajectory,
    task: Task,
    run: RolloutContext,
    opened: _Opened,
    calls: list[RecordedCall],
) -> State:
    """Run the rollout as far as the journal and the recorded observations go."""
    state = rollout.start(task, run)
    fingerprints = tool_fingerprints(run.search_fingerprint, task.tools)
    shown = _observations(trajectory.steps[len(state.steps) :])
    while isinstance(state.pending, Generate | Call):
        if isinstance(state.pending, Generate):
            completion = _completion(state, run, opened, calls)
            if completion is None:
                break
            state = rollout.advance(state, completion)
            if not _begins(trajectory, state):
                calls.pop()  # Of another run that asked the same.
                break
        else:
            calls.append(_search(state.pending, fingerprints, opened))
            reply = next(shown, None)
            if reply is None:
                break
            state = rollout.observe(state, reply)
    return state


def _begins(trajectory: Trajectory, state: State) -> bool:
    """Return whether a trajectory begins with the text of a rollout so far."""
    return protocol.render(trajectory.steps).startswith(protocol.render(state.steps))


def _completion(
    state: State, run: RolloutContext, opened: _Opened, calls: list[RecordedCall]
) -> Completion | None:
    """Return the journal's reply to what the rollout asks now, and add the call to `calls`."""
    key = policy_key(run.encoder, rollout.request(state))
    found = opened.journal.find(key)
    if found is None:
        return None
    completion = msgspec.json.decode(found.reply, type=Completion)
    calls.append(opened.record(CallKind.POLICY, key, found, completion.text))
    return completion


def _search(call: Call, fingerprints: Mapping[str, str], opened: _Opened) -> RecordedCall:
    """Return a call of a tool with the time that the journal has for it."""
    key = request_key(CallKind.TOOL, call.tool, fingerprints.get(call.tool, ""), call.argument)
    return opened.record(CallKind.TOOL, key, opened.journal.find(key), call.argument)


def _observations(steps: tuple[Step, ...]) -> Iterator[ToolReply]:
    for step in steps:
        if step.kind is StepKind.OBSERVATION and step.outcome is not None:
            yield ToolReply(step.outcome, observation_body(step), step.passages)


def observation_body(step: Step) -> str:
    """Return what a tool answered, without the tags around it."""
    opening, closing = protocol.observation_text(step.tool or "", "\0").split("\0")
    return step.text.removeprefix(opening).removesuffix(closing)


class ForkPoint(NamedTuple):
    """The place where a fork left its parent."""

    parent_id: str
    point: int
    arm: Arm


def fork_point(trajectory_id: str) -> ForkPoint | None:
    """Read the end of a fork's id, `{parent}/{point}/{arm}/{k}`.

    It is None for a trajectory that is not a fork.
    """
    parts = trajectory_id.rsplit("/", 3)
    if len(parts) < 4 or parts[2] not in frozenset(Arm) or not parts[1].isdecimal():
        return None
    return ForkPoint(parts[0], int(parts[1]), Arm(parts[2]))


def rebuild_task(
    trajectory: Trajectory,
    tools: Sequence[str],
    family: ChatFamily | None = None,
    opening_prompt: str = "",
) -> Task:
    """Return the task that a trajectory came from; `family` is that of a chat policy's server."""
    names = tuple(tools)
    offers_tools = trajectory.mode is Mode.COA
    fork = fork_point(trajectory.trajectory_id)
    prefix: tuple[Step, ...] = ()
    turns: Turns | None = None
    opening = ""
    if fork is not None:
        prefix, rest = protocol.split_at(trajectory.steps, fork.point)
        tool = _tool_of(rest)
        if rest and rest[0].kind is StepKind.MARKER:
            prefix = (*prefix, rest[0])
        way = way_to(fork.arm, family)
        if family is not None and way is not None:
            with suppress(UnforkableError):  # other settings than those of the run: not its calls
                turns = first_turns(prefix, fork.arm, way, family, tool)
        if offers_tools and fork.arm is Arm.THINK:
            opening = opening_prompt
    return Task(
        trajectory_id=trajectory.trajectory_id,
        question_id=trajectory.question_id,
        mode=trajectory.mode,
        index=trajectory.index,
        question=trajectory.question,
        prompt=trajectory.prompt,
        prompt_hash=trajectory.prompt_hash,
        tools=names if offers_tools else (),
        forbidden_tools=() if offers_tools else names,
        prefix=prefix,
        first_turns=turns,
        opening_prompt=opening,
    )


def _tool_of(steps: Sequence[Step]) -> str:
    """Return the tool of the first call, or of the trigger that was inserted for it."""
    for step in steps:
        if step.tool:
            return step.tool
    return "search"
