"""Run the rollout loop, Algorithm 1 of AutoCoA, for synthesis, forking, RL and evaluation.

A rollout is a `State` with two pure transitions. `advance` reads what the policy wrote, `observe`
what a tool returned. Both count tokens and say what comes next. coa/rollout/drivers.py asks both
parties.

    while actions t < T_max and context n < N_max and there is no answer:
        let the policy write
        if it wrote an action: t += 1, call the tool, append the observation
    if a budget is used up: append the answer marker and let the policy answer
"""

import re
from dataclasses import dataclass

from msgspec import UNSET, Struct
from msgspec.structs import replace

from coa.policy import (
    Completion,
    Encoder,
    Finish,
    Request,
    Turns,
    control_tokens,
    reads_turns,
    session_name,
)
from coa.policy.chat.record import mark_transcribed
from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.ranking import call_seed
from coa.records.trajectory import (
    Author,
    Mode,
    Outcome,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
    merge_thoughts,
)
from coa.store.pending import Call, Done, Failure, Generate
from coa.tools import ToolReply

_WORD = re.compile(r"\S+")
_MOST_CHARS = 32
"""Characters of a token, on average at most: an observation is cut to so many before its tokens
are counted again and again."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The budgets of one rollout (Algorithm 1's T_max and N_max)."""

    max_actions: int = 10
    """T_max: after this many actions the answer is forced."""
    max_context_tokens: int = 8192
    """N_max: when prompt, policy and environment have this many tokens, the answer is forced."""
    max_answer_tokens: int = 64
    """Tokens that a forced answer may add; the policy's window must hold N_max plus these."""
    max_turn_tokens: int = 0
    """A turn that reaches this many tokens ends its rollout, so that one that rambles does not hold
    up its batch; 0 sets no limit."""
    forces_box: bool = False
    """Whether an answer is forced as well where a turn ends without a boxed one."""


@dataclass(frozen=True, slots=True)
class Task:
    """A rollout to be made: of a question from its beginning, or of a fork from a prefix."""

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
    first_turns: Turns | None = None
    """For a fork by a chat policy: what its first request says."""


@dataclass(frozen=True, slots=True)
class RolloutContext:
    """The settings that all rollouts of a run share."""

    encoder: Encoder
    """The policy, for its name and to count tokens; the transitions never ask it to write."""
    sampling: Sampling
    limits: Limits
    search_fingerprint: str = ""


class State(Struct, frozen=True):
    """The state of a rollout (a struct, because each turn replaces it a dozen times)."""

    task: Task
    run: RolloutContext
    context: str
    """Prompt and steps so far: the text that the policy sees."""
    steps: tuple[Step, ...]
    pending: Generate | Call | Done
    """What has to happen next."""
    turns: Turns
    """What a chat policy is given beside the context; a policy that writes tags is not."""
    num_context_tokens: int
    """n of Algorithm 1. The tokens added since the last reply may be an estimate."""
    num_counted_tokens: int = 0
    """n after the last reply, as the policy counts; 0 before the first."""
    num_observed_tokens: int = 0
    """Of the observation that was added since the last reply."""
    ids: tuple[int, ...] | None = None
    """The context as token ids, as the policy sampled them; None where it gives no ids."""
    id_runs: tuple[tuple[Author, int], ...] = ()
    """Who wrote the ids: authors with the number of ids, in order."""
    forced: StopReason | None = None
    """The budget that was used up, once the answer marker is appended."""
    num_prompt_tokens: int = 0
    num_policy_tokens: int = 0
    num_environment_tokens: int = 0
    num_calls: int = 0
    num_actions: int = 0


def start(task: Task, run: RolloutContext) -> State:
    """Return the state before the first request."""
    state = State(
        task=task,
        run=run,
        context=task.prompt,
        steps=(),
        pending=Done(StopReason.NO_ANSWER),  # until the next step is planned below
        turns=task.first_turns or Turns(task.tools, ()),
        num_context_tokens=0,
        ids=(),
    )
    state = _count_text(state, task.prompt, Author.SCAFFOLD, is_prompt=True)
    state = _append_given(state, *task.prefix)
    state = replace(
        state,
        num_prompt_tokens=state.num_context_tokens,
        num_actions=len(protocol.action_indices(task.prefix)),
    )
    return _plan_next(state)


def advance(state: State, event: Completion | Failure) -> State:
    """Return the state after the policy's turn."""
    assert isinstance(state.pending, Generate), state.pending
    state = replace(state, num_calls=state.num_calls + 1)
    if isinstance(event, Failure):
        return _end(state, StopReason.POLICY_ERROR, event.message)
    is_thinking = not any(protocol.closes_thinking(step) for step in state.steps)
    new = protocol.parse_policy(
        event.text, is_thinking=is_thinking, triggered_tool=_triggered_tool(state)
    )
    new = mark_transcribed(new, event.native)
    state = _append_written(state, event, new)
    return _plan_after_turn(state, event, new)


def _triggered_tool(state: State) -> str:
    """Return the tool whose opening tag the scaffold has just inserted, or an empty text."""
    if not state.steps or state.steps[-1].kind is not StepKind.MARKER:
        return ""
    return state.steps[-1].tool or ""


def _plan_after_turn(state: State, event: Completion, new: tuple[Step, ...]) -> State:
    """Decide what comes after the policy's turn, whose steps are `new`."""
    if event.native and event.native.fault:
        return _end(state, StopReason.MALFORMED, event.native.fault)
    last = new[-1] if new else None
    if last is not None and last.kind is StepKind.ACTION:
        return _plan_call(state, last)
    if event.finish is Finish.STOP:
        return _end(state, StopReason.MALFORMED, f"unexpected {event.text[-20:]!r}")
    is_answering = last is not None and last.kind is StepKind.ANSWER
    if event.finish is Finish.LENGTH:
        return _plan_after_limit(state, is_answering=is_answering)
    if state.forced:
        return _end(state, state.forced if is_answering else StopReason.NO_ANSWER)
    if state.run.limits.forces_box and boxed_answer(protocol.answer_text(state.steps)) is None:
        return _force_answer(state, StopReason.UNBOXED)
    return _end(state, StopReason.ANSWERED if is_answering else StopReason.NO_ANSWER)


def _plan_after_limit(state: State, *, is_answering: bool) -> State:
    """Decide what comes after a turn that ended for its length."""
    assert isinstance(state.pending, Generate), state.pending
    if state.forced:
        return _end(state, StopReason.TRUNCATED)
    # Some servers leave only an estimate of what was written, so what was asked for decides.
    limits = state.run.limits
    is_turn_spent = state.pending.max_tokens == limits.max_turn_tokens
    if limits.forces_box and (is_turn_spent or is_answering):
        return _force_answer(state, StopReason.UNBOXED)
    if is_turn_spent:
        return _end(state, StopReason.TURN_BUDGET)
    if is_answering:
        return _end(state, StopReason.TRUNCATED)
    return _force_answer(state, StopReason.CONTEXT_BUDGET)


def _end(state: State, reason: StopReason, error: str = "") -> State:
    return replace(state, pending=Done(reason, error))


def _plan_call(state: State, action: Step) -> State:
    """Call the tool that the policy asks for, or end the rollout where the tool is not offered."""
    if action.tool not in state.task.tools:
        return _end(state, StopReason.FORBIDDEN_ACTION)
    return replace(
        state,
        num_actions=state.num_actions + 1,
        pending=Call(action.tool or "", action.argument or ""),
    )


def observe(state: State, reply: ToolReply) -> State:
    """Return the state after a tool's reply.

    A failed tool ends the rollout. Its message is kept in the row; no model reads it or learns it.
    """
    assert isinstance(state.pending, Call), state.pending
    if reply.outcome is Outcome.ERROR:
        return _end(state, StopReason.TOOL_ERROR, reply.text)
    before = state.num_context_tokens
    state = _append_observation(state, reply)
    num_tokens = state.num_context_tokens - before
    state = replace(
        state,
        num_environment_tokens=state.num_environment_tokens + num_tokens,
        num_observed_tokens=num_tokens,
    )
    return _plan_next(state)


def _append_observation(state: State, reply: ToolReply) -> State:
    """Append what a tool answered, cut after the last word that the context has room for.

    What is cut bears a mark. A passage of which no line is left does not count as shown.
    """
    assert isinstance(state.pending, Call), state.pending
    tool = state.pending.tool
    limit = state.run.limits.max_context_tokens
    names = control_tokens(state.run.encoder)
    step = protocol.observation(tool, reply.text, reply.outcome, reply.passages, names)
    whole = _append_given(state, step)
    if whole.num_context_tokens <= limit:
        return whole
    body = protocol.observation_body(step)
    body = body[: max(limit - state.num_context_tokens, 0) * _MOST_CHARS]
    ends = [word.end() for word in _WORD.finditer(body)]
    kept = whole
    fits, fails = -1, len(ends)
    while fits + 1 < fails:
        middle = (fits + fails) // 2
        shown = body[: ends[middle]]
        lines = shown.count("\n") + 1
        has_lines = reply.text.count("\n") + 1 == len(reply.passages)
        passages = reply.passages[:lines] if has_lines else reply.passages
        text = shown + protocol.CUT_MARK
        tried = _append_given(
            state, protocol.observation(tool, text, reply.outcome, passages, names)
        )
        if tried.num_context_tokens <= limit:
            kept, fits = tried, middle
        else:
            fails = middle
    if fits < 0:  # no word fits
        text = protocol.CUT_MARK.strip()
        kept = _append_given(state, protocol.observation(tool, text, reply.outcome, (), names))
    return kept


def _plan_next(state: State) -> State:
    """Let the policy write, or force the answer when a budget is used up."""
    limits = state.run.limits
    trigger = _triggered_tool(state)
    is_used_up = state.num_actions >= limits.max_actions
    if state.task.tools and is_used_up and not trigger:
        return _force_answer(state, StopReason.ACTION_BUDGET)
    left = limits.max_context_tokens - state.num_context_tokens
    if left <= 0:
        return _force_answer(state, StopReason.CONTEXT_BUDGET)
    tools = (trigger,) if trigger else state.task.tools + state.task.forbidden_tools
    stop = tuple(protocol.close_tag(tool) for tool in tools)
    max_tokens = min(left, limits.max_turn_tokens or left)
    return replace(state, pending=Generate(stop, max_tokens))


def _force_answer(state: State, reason: StopReason) -> State:
    """Append the answer marker and let the policy continue it within the window."""
    limits = state.run.limits
    marked = _append_given(state, protocol.marker(protocol.ANSWER_MARKER))
    left = limits.max_context_tokens + limits.max_answer_tokens - marked.num_context_tokens
    if left <= 0:
        return _end(state, StopReason.TRUNCATED)
    answer = Generate(stop=(), max_tokens=min(left, limits.max_answer_tokens))
    return replace(marked, forced=reason, pending=answer)


def _append_given(state: State, *steps: Step) -> State:
    """Append steps that the policy did not write in this rollout."""
    context = state.context + protocol.render(steps)
    state = replace(state, steps=(*state.steps, *steps), context=context)
    for piece in protocol.pieces("", steps):
        state = _count_text(state, piece.text, piece.author)
    return state


def _count_text(state: State, text: str, author: Author, *, is_prompt: bool = False) -> State:
    """Count a text into the context: by its ids where there are ids, else as the policy does."""
    encoder = state.run.encoder
    ids = None
    if state.ids is not None:
        ids = encoder.encode(text, is_prompt=is_prompt, author=author)
    num_tokens = encoder.count_tokens(text) if ids is None else len(ids)
    return _count(state, num_tokens, ids, author)


def _count(state: State, num_tokens: int, ids: tuple[int, ...] | None, author: Author) -> State:
    """Add tokens to the context; without `ids` for all of them, the context has no ids any more."""
    joined = None
    runs: tuple[tuple[Author, int], ...] = ()
    if ids is not None and state.ids is not None:
        joined = state.ids + ids
        runs = (*state.id_runs, (author, num_tokens))
    num_context_tokens = state.num_context_tokens + num_tokens
    return replace(state, num_context_tokens=num_context_tokens, ids=joined, id_runs=runs)


def _append_written(state: State, event: Completion, new: tuple[Step, ...]) -> State:
    """Append the steps that the policy wrote and count their tokens.

    Where the policy gives its own count of the context, that count corrects ours.
    """
    if event.num_context_tokens is not None:
        state = _corrected(state, event.num_context_tokens)
    if event.native:
        messages = (*state.turns.messages, event.native.message)
        state = replace(state, turns=Turns(state.task.tools, messages))
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
    """Take over the policy's count of the context, and correct the prompt's or the observation's.

    Only part of the tokens added since the last reply may belong to the observation, because the
    marker that forces an answer may be among them. So the corrected number is shared out in the
    proportion that was estimated. Where there are ids, the counts are exact already.
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
    """Return the request that `state` waits for; no two turns of a run have the same seed."""
    assert isinstance(state.pending, Generate), state.pending
    sampling = state.run.sampling
    return Request(
        context=state.context,
        stop=state.pending.stop,
        max_tokens=state.pending.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=call_seed(sampling.seed, state.task.trajectory_id, state.num_calls),
        context_ids=state.ids,
        session=session_name(state.task.trajectory_id),
        turns=state.turns if reads_turns(state.run.encoder) else UNSET,
    )


def finish(state: State) -> Trajectory:
    """Return the record of a rollout that is over."""
    assert isinstance(state.pending, Done), state.pending
    task = state.task
    run = state.run
    return Trajectory(
        trajectory_id=task.trajectory_id,
        question_id=task.question_id,
        mode=task.mode,
        index=task.index,
        question=task.question,
        prompt=task.prompt,
        steps=merge_thoughts(state.steps),
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
