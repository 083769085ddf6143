"""Algorithm 1 of AutoCoA, and the only rollout loop of the project: synthesis, forking, RL and evaluation all run here.

A rollout is a `State` and one pure transition, `advance(state, event)`: it reads what the policy wrote or the tool
returned, charges the budgets and says what comes next. The drivers in `coa/drivers.py` feed it.

    while actions t < T_max and context n < N_max and no answer:  generate; on an action t += 1, call the tool, append
    budget used up:  append the answer marker and let the policy answer
"""

import hashlib
from dataclasses import dataclass, replace

from coa import protocol
from coa.policy import Completion, Encoder, Finish, Request, control_tokens
from coa.tools import ToolReply
from coa.trajectory import (
    Author,
    Mode,
    Outcome,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The budgets of one rollout (Algorithm 1's T_max and N_max)."""

    max_actions: int = 10
    """T_max: after this many actions the answer is forced."""
    max_context_tokens: int = 8192
    """N_max: prompt, policy and environment together; when they are used up the answer is forced."""
    max_answer_tokens: int = 64
    """What a forced answer may cost on top, so the policy's window must hold N_max plus this."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to roll out: a question from its beginning, or a fork from a prefix."""

    trajectory_id: str
    question_id: str
    mode: Mode
    index: int
    question: str
    prompt: str
    """Ends with the opening of the thinking."""
    prompt_hash: str
    tools: tuple[str, ...] = ()
    """Names of the tools offered."""
    forbidden_tools: tuple[str, ...] = ()
    """Names of tools whose calls end the rollout at once."""
    prefix: tuple[Step, ...] = ()
    """Steps that are already there; they may end with an inserted trigger."""


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """What all rollouts of a run share."""

    encoder: Encoder
    """The policy, for its name and for what text costs; the transition never asks it to write."""
    sampling: Sampling
    limits: Limits
    search_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Generate:
    """Next: let the policy write."""

    stop: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Call:
    """Next: call a tool."""

    tool: str
    argument: str


@dataclass(frozen=True, slots=True)
class Done:
    """The rollout is over."""

    reason: StopReason
    error: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a policy's server said when it refused the request."""

    message: str


@dataclass(frozen=True, slots=True)
class State:
    """Where a rollout stands. `pending` says what has to happen next."""

    task: Task
    run: RolloutContext
    context: str
    """Prompt and steps so far: what the policy sees."""
    steps: tuple[Step, ...]
    pending: Generate | Call | Done
    num_context_tokens: int
    """n of Algorithm 1; what was added since the last reply may be an estimate."""
    num_counted_tokens: int = 0
    """n after the last reply, as the policy counts; 0 before the first."""
    num_observed_tokens: int = 0
    """Of the observation that was added since the last reply."""
    ids: tuple[int, ...] | None = None
    """The context as token ids, where the policy gives ids: what it sampled, never re-tokenised."""
    id_runs: tuple[tuple[Author, int], ...] = ()
    """Who wrote the ids: authors with the number of ids, in order."""
    forced: StopReason | None = None
    """The budget that was used up, once the answer marker stands."""
    num_prompt_tokens: int = 0
    num_policy_tokens: int = 0
    num_environment_tokens: int = 0
    num_calls: int = 0
    num_actions: int = 0


def start(task: Task, run: RolloutContext) -> State:
    """The state before the first request."""
    state = State(task, run, "", (), Done(StopReason.NO_ANSWER), 0, ids=())
    state = _charge(
        replace(state, context=task.prompt), task.prompt, Author.SCAFFOLD, is_prompt=True
    )
    for step in task.prefix:
        state = _append_given(state, step)
    num_actions = len(protocol.action_indices(task.prefix))
    return _go_on(
        replace(state, num_prompt_tokens=state.num_context_tokens, num_actions=num_actions)
    )


def advance(state: State, event: Completion | Failure) -> State:
    """The state after the policy's turn: one pure transition."""
    assert isinstance(state.pending, Generate), state.pending
    state = replace(state, num_calls=state.num_calls + 1)
    if isinstance(event, Failure):
        return replace(state, pending=Done(StopReason.POLICY_ERROR, event.message))
    thinking = not any(protocol.closes_thinking(step) for step in state.steps)
    new = protocol.parse_policy(event.text, is_thinking=thinking, triggered_tool=_trigger(state))
    return _after_turn(_append_written(state, event, new), event, new)


def _trigger(state: State) -> str:
    """The tool whose opening tag the scaffold has just inserted."""
    last = state.steps[-1] if state.steps else None
    return last.tool or "" if last is not None and last.kind is StepKind.MARKER else ""


def _after_turn(state: State, event: Completion, new: tuple[Step, ...]) -> State:
    """Say what follows what the policy wrote."""
    last = new[-1] if new else None
    if last is not None and last.kind is StepKind.ACTION:
        return _act(state, last)
    if event.finish is Finish.STOP:
        return replace(
            state, pending=Done(StopReason.MALFORMED, f"unexpected {event.text[-20:]!r}")
        )
    is_answering = last is not None and last.kind is StepKind.ANSWER
    if event.finish is Finish.LENGTH:
        if state.forced or is_answering:
            return replace(state, pending=Done(StopReason.TRUNCATED))
        return _force_answer(state, StopReason.CONTEXT_BUDGET)
    if is_answering:
        return replace(state, pending=Done(state.forced or StopReason.ANSWERED))
    return replace(state, pending=Done(StopReason.NO_ANSWER))


def _act(state: State, action: Step) -> State:
    if action.tool not in state.task.tools:
        return replace(state, pending=Done(StopReason.FORBIDDEN_ACTION))
    return replace(
        state,
        num_actions=state.num_actions + 1,
        pending=Call(action.tool or "", action.argument or ""),
    )


def observe(state: State, reply: ToolReply) -> State:
    """The state after a tool's reply: the other half of the transition.

    A failed tool ends the rollout: its message is kept in the row and is never text that a model reads or learns.
    """
    assert isinstance(state.pending, Call), state.pending
    if reply.outcome is Outcome.ERROR:
        return replace(state, pending=Done(StopReason.TOOL_ERROR, reply.text))
    step = protocol.observation(
        state.pending.tool,
        reply.text,
        reply.outcome,
        reply.passages,
        control_tokens(state.run.encoder),
    )
    before = state.num_context_tokens
    state = _append_given(state, step)
    num_tokens = state.num_context_tokens - before
    return _go_on(
        replace(
            state,
            num_environment_tokens=state.num_environment_tokens + num_tokens,
            num_observed_tokens=num_tokens,
        )
    )


def _go_on(state: State) -> State:
    """Generate, or force the answer when a budget is used up."""
    limits, trigger = state.run.limits, _trigger(state)
    if not trigger and state.task.tools and state.num_actions >= limits.max_actions:
        return _force_answer(state, StopReason.ACTION_BUDGET)
    left = limits.max_context_tokens - state.num_context_tokens
    if left <= 0:
        return _force_answer(state, StopReason.CONTEXT_BUDGET)
    tools = (trigger,) if trigger else state.task.tools + state.task.forbidden_tools
    return replace(state, pending=Generate(tuple(protocol.close_tag(tool) for tool in tools), left))


def _force_answer(state: State, reason: StopReason) -> State:
    state = replace(_append_given(state, protocol.marker(protocol.ANSWER_MARKER)), forced=reason)
    return replace(state, pending=Generate((), state.run.limits.max_answer_tokens))


def _append_given(state: State, step: Step) -> State:
    """Append a step that the policy did not write in this rollout."""
    state = replace(state, steps=(*state.steps, step), context=state.context + step.text)
    for piece in protocol.pieces("", (step,)):
        state = _charge(state, piece.text, piece.author)
    return state


def _charge(state: State, text: str, author: Author, *, is_prompt: bool = False) -> State:
    encoder = state.run.encoder
    ids = (
        encoder.encode(text, is_prompt=is_prompt, author=author) if state.ids is not None else None
    )
    num_tokens = encoder.count_tokens(text) if ids is None else len(ids)
    return _count(state, num_tokens, ids, author)


def _count(state: State, num_tokens: int, ids: tuple[int, ...] | None, author: Author) -> State:
    joined = None if ids is None or state.ids is None else state.ids + ids
    runs = (*state.id_runs, (author, num_tokens)) if joined is not None else ()
    return replace(
        state, num_context_tokens=state.num_context_tokens + num_tokens, ids=joined, id_runs=runs
    )


def _append_written(state: State, event: Completion, new: tuple[Step, ...]) -> State:
    """Append what the policy wrote; its own count of the context corrects ours, where it gives one."""
    if event.num_context_tokens is not None:
        state = _corrected(state, event.num_context_tokens)
    state = replace(
        state,
        steps=state.steps + new,
        context=state.context + event.text,
        num_policy_tokens=state.num_policy_tokens + event.num_tokens,
    )
    if event.opening_ids:
        state = _count(state, len(event.opening_ids), event.opening_ids, Author.SCAFFOLD)
    state = _count(state, event.num_tokens, event.ids, Author.POLICY)
    if event.closing_ids:
        state = _count(state, len(event.closing_ids), event.closing_ids, Author.SCAFFOLD)
    return replace(state, num_counted_tokens=state.num_context_tokens, num_observed_tokens=0)


def _corrected(state: State, counted: int) -> State:
    """Take over the policy's count of the context, for the prompt or the observation behind it too.

    The tokens that came since the last reply are shared out as they were estimated, for the marker
    that forces an answer may be among them. Ids are counted exactly already.
    """
    corrected = replace(state, num_context_tokens=counted)
    num_estimated = state.num_context_tokens - state.num_counted_tokens
    if state.ids is not None or num_estimated <= 0:
        return corrected
    num_added = max(counted - state.num_counted_tokens, 0)
    if not state.num_counted_tokens:
        num_prompt_tokens = state.num_prompt_tokens * num_added // num_estimated
        return replace(corrected, num_prompt_tokens=num_prompt_tokens)
    num_observed = state.num_observed_tokens * num_added // num_estimated
    num_before = state.num_environment_tokens - state.num_observed_tokens
    return replace(corrected, num_environment_tokens=num_before + num_observed)


def request(state: State) -> Request:
    """The request that `state` waits for; its seed follows from the run's seed, the trajectory's id and the turn."""
    assert isinstance(state.pending, Generate), state.pending
    sampling = state.run.sampling
    turn = f"{sampling.seed}/{state.task.trajectory_id}/{state.num_calls}"
    seed = (
        int.from_bytes(hashlib.sha256(turn.encode()).digest()[:4], "big") >> 1
    )  # fits a signed 32-bit seed
    return Request(
        context=state.context,
        stop=state.pending.stop,
        max_tokens=state.pending.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=seed,
        context_ids=state.ids,
    )


def finish(state: State) -> Trajectory:
    """The record of a rollout that is over."""
    assert isinstance(state.pending, Done), state.pending
    task, run = state.task, state.run
    return Trajectory(
        trajectory_id=task.trajectory_id,
        question_id=task.question_id,
        mode=task.mode,
        index=task.index,
        question=task.question,
        prompt=task.prompt,
        steps=_merge_thoughts(state.steps),
        stop_reason=state.pending.reason,
        model=run.encoder.name,
        sampling=run.sampling,
        prompt_hash=task.prompt_hash,
        search_fingerprint=run.search_fingerprint if task.tools else "",
        num_prompt_tokens=state.num_prompt_tokens,
        num_policy_tokens=state.num_policy_tokens,
        num_environment_tokens=state.num_environment_tokens,
        num_calls=state.num_calls,
        num_actions=state.num_actions,
        error=state.pending.error,
    )


def _merge_thoughts(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Join a thought that a fork's prefix cut with the one that went on from it."""
    merged: list[Step] = []
    for step in steps:
        last = merged[-1] if merged else None
        if (
            last is not None
            and last.kind is step.kind is StepKind.THOUGHT
            and last.author is step.author
        ):
            merged[-1] = replace(last, text=last.text + step.text)
        else:
            merged.append(step)
    return tuple(merged)
