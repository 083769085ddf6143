"""Probe a chat server: reasoning, tool calls, earlier turns, a forced answer, seeds, usage."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from coa import protocol
from coa.policy import Request, Turns
from coa.policy.chat.families import ChatFamily
from coa.policy.chat.replies import ChatBody, Shown, decode_chat, is_served_model, read_reply
from coa.policy.chat.waivers import ADVICE, SAID, Waiver
from coa.policy.probe.questions import (
    TOLD_TOKENS,
    TURN_TOKENS,
    call_question,
    plain_question,
    result_of_call,
    story_question,
)
from coa.policy.probe.run import (
    REFUSAL_ADVICE,
    UNKNOWN,
    Ask,
    Capability,
    Findings,
    ProbeReply,
    seen_of_seeds,
    seen_of_usage,
)
from coa.policy.react import THINKING_OPENED
from coa.trajectory import Step, StepKind

_SEED = 20_251
_MARKS_OF_CALLS = re.compile(
    r"<tool_call>|<\|tool_call|<function=|<｜tool|\[TOOL_CALLS\]"  # noqa: RUF001
    r"|\"(?:name|arguments)\"\s*:"
)
"""How models write calls that no parser of the server has read."""
_PARSER_ADVICE = (
    "switch the server's tool parser on, and that of the reasoning (vLLM: "
    "--enable-auto-tool-choice, --tool-call-parser, --reasoning-parser)"
)
_FAMILY_ADVICE = (
    "check teacher.chat.family, which says what the server wants back and how an answer is forced"
)


class ChatServer(NamedTuple):
    """What the settings say of a chat server."""

    where: str
    model: str
    served_as: Sequence[str]
    family: ChatFamily
    waives: Sequence[Waiver]


class _Looked(NamedTuple):
    """A turn of the policy."""

    reply: ProbeReply
    body: ChatBody
    steps: tuple[Step, ...]

    @property
    def reasoning(self) -> str:
        """Return what was thought, or said beside a call."""
        thoughts = [step.text for step in self.steps if step.kind is StepKind.THOUGHT]
        return "".join(thoughts)

    @property
    def makes_call(self) -> bool:
        """Return whether a tool was called."""
        return any(step.kind is StepKind.ACTION for step in self.steps)


async def probe_chat(ask: Ask, like: Request, server: ChatServer) -> Findings:
    """Ask at most six questions.

    Args:
        ask: Asks the server.
        like: A request of the run, which has its tools and its sampling settings.
        server: What the settings say of the server.
    """
    findings = Findings(server.where)
    tools = like.turns.tools if isinstance(like.turns, Turns) else ()
    opening = _opening(like, tools)
    draws = _draws(like, server.family)
    replies = await asyncio.gather(ask(opening), *(ask(draw) for draw in draws))
    advice = f"{REFUSAL_ADVICE}; {_PARSER_ADVICE}" if tools else REFUSAL_ADVICE
    asked_for = "a turn with tools" if tools else "a turn"
    if not findings.require_answer(replies[0], asked_for, advice):
        return findings
    if not all(findings.require_answer(it, "a turn", REFUSAL_ADVICE) for it in replies):
        return findings
    first, *drawn = [_look(reply) for reply in replies]
    _look_at_reasoning(findings, [first, *drawn], server)
    _look_at_model(findings, [first, *drawn], server)
    _look_at_calls(findings, first, tools)
    later = await _go_on(ask, findings, opening, first)
    findings.seen[Capability.SEEDS] = _seen_of_seeds(like, drawn, server.family)
    findings.seen[Capability.USAGE] = seen_of_usage([*replies, *later])
    return findings


def _opening(like: Request, tools: tuple[str, ...]) -> Request:
    question = plain_question()
    if tools:
        question = call_question("search" if "search" in tools else tools[0])
    return Request(
        context=f"{question}\n\n{THINKING_OPENED}",
        stop=(),
        max_tokens=min(TURN_TOKENS, like.max_tokens),
        temperature=like.temperature,
        top_p=like.top_p,
        seed=_SEED,
        turns=Turns(tools, ()),
    )


def _draws(like: Request, family: ChatFamily) -> list[Request]:
    """Draw with one seed twice, and with another, where seeds are sent."""
    if not like.temperature or "seed" not in family.sampling:
        return []
    context = f"{story_question()}\n\n{THINKING_OPENED}"
    first = replace(_opening(like, ()), context=context, max_tokens=TOLD_TOKENS)
    # One token more makes it another request, so that no cache answers it.
    again = replace(first, max_tokens=TOLD_TOKENS + 1)
    return [first, again, replace(first, seed=_SEED + 1)]


def _look(reply: ProbeReply) -> _Looked:
    steps = protocol.parse_policy(reply.text)
    return _Looked(reply, decode_chat(reply.sent.encode()), tuple(steps))


def _shown(looked: _Looked, family: ChatFamily) -> Shown:
    """Say how much of the reasoning a reply shows; one of raw completions shows all."""
    choice = looked.body.choices[0] if looked.body.choices else None
    if choice is not None and choice.message is not None:
        return read_reply(looked.body, family).shown
    return Shown.TEXT if looked.reasoning.strip() else Shown.NOTHING


def _look_at_reasoning(findings: Findings, turns: Sequence[_Looked], server: ChatServer) -> None:
    shown = [_shown(turn, server.family) for turn in turns]
    seen = "shown as text"
    fault = None
    if Shown.SUMMARY in shown:
        seen, fault = "a summary is shown", Waiver.SUMMARY
    elif Shown.TEXT not in shown:
        seen, fault = "not shown", Waiver.NO_REASONING
    elif shown[0] is Shown.NOTHING:
        seen = "shown as text, but not in every first turn"
    _note(findings, Capability.REASONING, seen, fault, server)


def _look_at_model(findings: Findings, turns: Sequence[_Looked], server: ChatServer) -> None:
    others = []
    for turn in turns:
        if not is_served_model(turn.body.model, server.model, server.served_as):
            others.append(_one_line(str(turn.body.model)))
    if not others:
        _note(findings, Capability.MODEL, "the one that was asked for", None, server)
        return
    seen = f"another one: {others[0]}"
    _note(findings, Capability.MODEL, seen, Waiver.OTHER_MODEL, server, detail=f": {others[0]}")


def _one_line(name: str) -> str:
    """Show a name that the server sent."""
    return "".join(sign if sign.isprintable() else " " for sign in name[:80])


def _note(
    findings: Findings,
    what: Capability,
    seen: str,
    fault: Waiver | None,
    server: ChatServer,
    detail: str = "",
) -> None:
    """Note what was seen; a fault that is not waived is a contradiction."""
    findings.seen[what] = seen
    if fault is None:
        return
    if fault in server.waives:
        findings.seen[what] = f"{seen} (accepted: {fault})"
        return
    findings.contradict(
        "this chat server cannot teach reasoning",
        expected="replies of the model with its reasoning as text",
        got=SAID[fault] + detail,
        fix=f"{ADVICE[fault]}; or accept it by name, which the metrics and the card say: "
        f"teacher.chat.waives=[{fault}]",
    )


def _look_at_calls(findings: Findings, first: _Looked, tools: Sequence[str]) -> None:
    native = first.reply.native
    if not tools:
        findings.seen[Capability.TOOL_CALLS] = "no tool is offered"
    elif first.makes_call:
        findings.seen[Capability.TOOL_CALLS] = "parsed"
        if native and native.cut_calls:
            findings.seen[Capability.TOOL_CALLS] = "parsed; of several the first is kept"
    elif native and native.fault:
        findings.seen[Capability.TOOL_CALLS] = f"one could not be read: {native.fault[:120]}"
    elif _MARKS_OF_CALLS.search(first.reply.text):
        place = "reasoning" if _MARKS_OF_CALLS.search(first.reasoning) else "answer"
        findings.contradict(
            "the server leaves a tool call unparsed",
            expected="a call in `tool_calls`",
            got=f"one inside the {place}: {first.reply.text[-160:]!r}",
            fix=_PARSER_ADVICE,
        )
    else:
        findings.seen[Capability.TOOL_CALLS] = f"{UNKNOWN}: the model made none"


async def _go_on(
    ask: Ask, findings: Findings, opening: Request, first: _Looked
) -> Sequence[ProbeReply]:
    """Give the call its result and ask for the next turn, and for a forced answer."""
    native = first.reply.native
    action = next((step for step in first.steps if step.kind is StepKind.ACTION), None)
    if action is None or action.tool is None or native is None:
        no_call = f"{UNKNOWN}: there was no call to go on from"
        findings.seen[Capability.EARLIER_TURNS] = no_call
        findings.seen[Capability.FORCED_ANSWER] = no_call
        return ()
    context = opening.context + first.reply.text + result_of_call(action.tool)
    assert isinstance(opening.turns, Turns)
    turns = Turns(opening.turns.tools, (native.message,))
    going_on = replace(opening, context=context, turns=turns)
    forced = replace(going_on, context=context + protocol.ANSWER_MARKER)
    taken, answer = await asyncio.gather(ask(going_on), ask(forced))
    if findings.require_answer(taken, "a turn after a call", _FAMILY_ADVICE):
        findings.seen[Capability.EARLIER_TURNS] = "taken back"
    if findings.require_answer(answer, "a forced answer", _FAMILY_ADVICE):
        is_given = bool(answer.text.strip())
        seen = "given" if is_given else f"{UNKNOWN}: no text came"
        findings.seen[Capability.FORCED_ANSWER] = seen
    return (taken, answer)


def _seen_of_seeds(like: Request, drawn: Sequence[_Looked], family: ChatFamily) -> str:
    if "seed" not in family.sampling:
        return "not sent"
    if not drawn or not like.temperature:
        return f"{UNKNOWN}: at temperature 0 nothing is drawn"
    return seen_of_seeds(*(turn.reply.text for turn in drawn))
