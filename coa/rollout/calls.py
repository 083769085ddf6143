"""Find the calls of the teacher and of search that made a trajectory.

The rollout is run again by the same pure transition that made it (`coa/rollout/loop.py`), with
every reply taken from the journal and none asked for. Where the same record comes out, the calls
are proven to be those of this trajectory: the key of a call is the hash of everything that its
reply depends on, the whole context included. `find_calls` opens what the settings of this run say:
the journal, the policy, the limits and the prompts; `replay` takes them.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from coa.microworld.factory import MicroworldParams
from coa.policy import Completion, Encoder, Turns
from coa.policy.chat.families import ChatFamily
from coa.policy.chat.record import UnforkableError
from coa.policy.local.model import load_encoders
from coa.policy.prompts import Prompt, PromptParams
from coa.policy.react import SUFFIX, react_encoder
from coa.records import protocol
from coa.records.pairs import fork_point
from coa.records.trajectory import Mode, Step, StepKind, Trajectory
from coa.rollout import loop as rollout
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy, template_of
from coa.rollout.forks import (
    BranchParams,
    family_of,
    first_turns,
    forking_policy,
    way_to,
)
from coa.rollout.loop import Limits, RolloutContext, State, Task
from coa.rollout.runtime import JOURNALS
from coa.rollout.toolbox import own_tools
from coa.settings.outputs import journal_name
from coa.settings.params import Params
from coa.shards.files import JOURNAL
from coa.spending.journaled import policy_key
from coa.spending.ledger import Tally, price_recorded
from coa.spending.prices import CostParams
from coa.store.files import EVALUATED
from coa.store.journal import Call as PaidCall
from coa.store.journal import CallKind, Finished, JournalReader, find_readable, request_key
from coa.store.model_files import evaluation_journal
from coa.store.pending import Call, Done, Generate
from coa.tools import ToolReply, tool_fingerprints
from coa.tools.settings import ToolsParams

_COMPLETIONS = msgspec.json.Decoder(Completion)
_TOOL_REPLIES = msgspec.json.Decoder(ToolReply)


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
        _, cost = price_recorded(paid, self.prices)
        return RecordedCall(kind, key, found.finished_at, found.seconds, text, cost)


def replay(
    trajectory: Trajectory,
    run: RolloutContext,
    journal: Path,
    tools: Sequence[str] = ("search",),
    family: ChatFamily | None = None,
    prices: CostParams | None = None,
) -> Replay:
    """Find the calls of a trajectory; a fork's are returned without those of its parent.

    `tools` are those that the run offered, `family` is that of a chat policy's server. A journal
    that is missing holds no calls; an `InputError` is raised where it is damaged.
    """
    if not journal.exists():
        return Replay((), is_same=False)
    calls: list[RecordedCall] = []
    with JournalReader(journal) as reader:
        opened = _Opened(reader, prices or CostParams())
        task = rebuild_task(trajectory, tools, family)
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
    whole_text = protocol.render(trajectory.steps)
    while isinstance(state.pending, Generate | Call):
        if isinstance(state.pending, Generate):
            key = policy_key(run.encoder, rollout.request(state))
            asked = find_readable(opened.journal, key, _COMPLETIONS)
            if asked.reply is None:
                break
            state = rollout.advance(state, asked.reply)
            if not whole_text.startswith(protocol.render(state.steps)):
                break  # The reply is of another run that asked the same.
            text = asked.reply.text
            calls.append(opened.record(CallKind.POLICY, asked.key, asked.finished, text))
        else:
            call = state.pending
            fingerprint = fingerprints.get(call.tool, "")
            key = request_key(CallKind.TOOL, call.tool, fingerprint, call.argument)
            called = find_readable(opened.journal, key, _TOOL_REPLIES)
            calls.append(opened.record(CallKind.TOOL, called.key, called.finished, call.argument))
            reply = next(shown, None)
            if reply is None:
                break
            state = rollout.observe(state, reply)
    return state


def _observations(steps: tuple[Step, ...]) -> Iterator[ToolReply]:
    for step in steps:
        if step.kind is StepKind.OBSERVATION and step.outcome is not None:
            yield ToolReply(step.outcome, protocol.observation_body(step), step.passages)


def rebuild_task(
    trajectory: Trajectory, tools: Sequence[str], family: ChatFamily | None = None
) -> Task:
    """Return the task that a trajectory came from; `family` is that of a chat policy's server."""
    names = tuple(tools)
    offers_tools = trajectory.mode is Mode.COA
    fork = fork_point(trajectory.trajectory_id)
    prefix: tuple[Step, ...] = ()
    turns: Turns | None = None
    if fork is not None:
        prefix, rest = protocol.split_at(trajectory.steps, fork.point)
        # Of the first call, or of the trigger that was inserted for it.
        tool = next((step.tool for step in rest if step.tool), "search")
        if rest and rest[0].kind is StepKind.MARKER:
            prefix = (*prefix, rest[0])
        way = way_to(fork.arm, family)
        if family is not None and way is not None:
            with suppress(UnforkableError):  # other settings than those of the run: not its calls
                turns = first_turns(prefix, fork.arm, way, family, tool)
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
    )


class Maker(NamedTuple):
    """What made a trajectory, as the settings say."""

    policy: TeacherParams
    limits: Limits
    journal: Path


def find_calls(trajectory: Trajectory, params: Params, file: Path | None = None) -> Replay:
    """Find the calls of a trajectory that was not imported, and what they cost.

    Evaluations and shards have journals of their own, so `file` says where it stands. Where no
    replay gives the trajectory again, the one with the most calls is returned.

    Raises:
        ConfigError: the settings are wrong.
        InputError: the journal is damaged.
    """
    maker = _maker_of(trajectory, params, file)
    encoders: Sequence[Encoder]
    if maker.policy.policy is PolicyKind.LOCAL:
        encoders = load_encoders(maker.policy.local)  # the tokenizer alone
    else:
        encoders = [open_policy(maker.policy, params.section(MicroworldParams, "microworld"))]
    if trajectory.model.endswith(SUFFIX):
        encoders = [react_encoder(encoder) for encoder in encoders]
    prices = params.section(CostParams, "costs")
    family = family_of(maker.policy)
    tools = tool_names(params)
    best = Replay((), is_same=False)
    for encoder in encoders:
        search = trajectory.search_fingerprint
        run = RolloutContext(encoder, trajectory.sampling, maker.limits, search)
        found = replay(trajectory, run, maker.journal, tools, family, prices)
        if found.is_same:
            return found
        if len(found.calls) > len(best.calls):
            best = found
    return best


def _maker_of(trajectory: Trajectory, params: Params, file: Path | None) -> Maker:
    """Return what made a trajectory; a model in a folder is named by the trajectory itself."""
    if file is None:
        file = Path()
    beside = file.parent / JOURNAL
    is_of_shard = beside.exists()
    # The folder above a shard's is named after the journal of the whole work.
    work = file.parent.parent.name.partition("-")[0] if is_of_shard else file.parent.name
    if work == EVALUATED.name:
        policy = params.section(TeacherParams, "evaluate.policy")
        limits = params.section(Limits, "evaluate.limits")
        model = trajectory.model.removesuffix(SUFFIX)
        if Path(model).is_dir():
            local = replace(policy.local, model=model)
            policy = replace(policy, policy=PolicyKind.LOCAL, local=local)
        journal = JOURNALS / f"{evaluation_journal(file.stem, model)}.sqlite"
    else:
        policy = policy_of(trajectory, params)
        limits = params.section(Limits, "rollout")
        journal = journal_of(trajectory, params)
    return Maker(policy, limits, beside if is_of_shard else journal)


def policy_of(trajectory: Trajectory, params: Params) -> TeacherParams:
    """Return the settings of the policy that wrote a trajectory; forks may have their own."""
    if fork_point(trajectory.trajectory_id):
        return forking_policy(params)
    return params.section(TeacherParams, "teacher")


def prompts_of(trajectory: Trajectory, params: Params) -> PromptParams:
    """Return the prompts of the policy that wrote a trajectory."""
    own = None
    if fork_point(trajectory.trajectory_id):
        own = params.section(BranchParams, "branch").prompts
    return own or params.section(PromptParams, "prompts")


def journal_of(trajectory: Trajectory, params: Params) -> Path:
    """Return the journal that holds a trajectory's calls; each stage that samples has its own."""
    if fork_point(trajectory.trajectory_id):
        forks = params.section(BranchParams, "branch").out
        return JOURNALS / f"{journal_name(forks)}.sqlite"
    out = yaml.safe_load(params.dump(["sample"]))["sample"]["out"]
    return JOURNALS / f"{journal_name(out, trajectory.mode)}.sqlite"


def tool_names(params: Params) -> tuple[str, ...]:
    """Return the tools that a run offers; those of an MCP server are the ones in the prompt."""
    tools = params.section(ToolsParams, "tools")
    own = ("search", *own_tools(tools))
    if not tools.mcp:
        return own
    path = Path(params.section(PromptParams, "prompts").coa)
    prompt = Prompt.load(path, template_of(params.section(TeacherParams, "teacher")))
    others = [name for name in prompt.shown_tools if name not in own]
    return (*own, *others)
