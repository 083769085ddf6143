"""Probe a server of raw completions: stop strings, continuation, token ids, seeds, usage."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from coa.policy import Request
from coa.policy.probe.questions import STORY, STORY_TOKENS
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
from coa.policy.replies import Written, decode_body, only_choice

_SEED = 20_251
_ECHO_CHARS = 12
"""The end of the question, at the beginning of a reply, is an echo."""


class IdCoder(NamedTuple):
    """The tokenizer of a policy with ids."""

    encode: Callable[[str], tuple[int, ...] | None]
    decode: Callable[[Sequence[int]], str]


async def probe_completions(
    ask: Ask, like: Request, where: str, coder: IdCoder | None = None
) -> Findings:
    """Ask at most six questions of sixteen tokens.

    Args:
        ask: Asks the server.
        like: A request of the run, which has its sampling settings.
        where: The addresses of the servers.
        coder: The tokenizer, where ids are sent and returned.
    """
    findings = Findings(where)
    greedy = _question(like, coder)
    drawn = _draws(greedy, like)
    first, *draws = await asyncio.gather(ask(greedy), *(ask(draw) for draw in drawn))
    later = _later_questions(greedy, first, coder)
    others = await asyncio.gather(*(ask(request) for request in later))
    replies = (first, *draws, *others)
    if not all(findings.require_answer(it, "a completion", REFUSAL_ADVICE) for it in replies):
        return findings
    _look_at_echo(findings, first)
    _look_at_ids(findings, first, coder)
    findings.seen[Capability.CONTINUATION] = f"{UNKNOWN}: the text was too short to be cut"
    findings.seen[Capability.STOP_STRINGS] = f"{UNKNOWN}: the text was too short to be cut"
    if others:
        continued, stopped = others
        findings.seen[Capability.CONTINUATION] = _seen_of_continuation(first, continued, later[0])
        findings.seen[Capability.STOP_STRINGS] = _seen_of_stop(stopped, later[1].stop[0])
    findings.seen[Capability.SEEDS] = f"{UNKNOWN}: at temperature 0 nothing is drawn"
    if draws:
        findings.seen[Capability.SEEDS] = seen_of_seeds(*(_raw(draw).text for draw in draws))
    findings.seen[Capability.USAGE] = seen_of_usage(replies)
    return findings


def _question(like: Request, coder: IdCoder | None) -> Request:
    ids = coder.encode(STORY) if coder else None
    return Request(
        context=STORY,
        stop=(),
        max_tokens=STORY_TOKENS,
        temperature=0.0,
        top_p=like.top_p,
        seed=_SEED,
        context_ids=ids,
    )


def _draws(greedy: Request, like: Request) -> list[Request]:
    """Draw with one seed twice, and with another."""
    if not like.temperature:
        return []
    first = replace(greedy, temperature=like.temperature)
    # One token more makes it another request, so that no cache answers it.
    again = replace(first, max_tokens=STORY_TOKENS + 1)
    return [first, again, replace(first, seed=_SEED + 1)]


def _raw(reply: ProbeReply) -> Written:
    return only_choice(decode_body(reply.sent.encode()))


def _later_questions(greedy: Request, first: ProbeReply, coder: IdCoder | None) -> list[Request]:
    """Cut the first text in its middle: once to go on from there, once by a stop string."""
    if first.refusal:
        return []
    text = _raw(first).text
    words = list(re.finditer(r"\s\w+", text))
    inner = [word for word in words[1:-1] if text.find(word[0].strip()) == word.start() + 1]
    if not inner:
        return []
    middle = inner[len(inner) // 2]
    begun = STORY + text[: middle.start()]
    ids = coder.encode(begun) if coder else None
    return [
        replace(greedy, context=begun, context_ids=ids),
        replace(greedy, stop=(middle[0].strip(),)),
    ]


def _look_at_echo(findings: Findings, first: ProbeReply) -> None:
    text = _raw(first).text
    if text.startswith(STORY) or text.lstrip().startswith(STORY[-_ECHO_CHARS:]):
        findings.contradict(
            "the server repeats the text that it is to continue",
            expected="the continuation alone",
            got=repr(text[:60]),
            fix="remove `echo` from teacher.server.extra_body, or use a server whose "
            "/v1/completions continues a text",
        )


def _look_at_ids(findings: Findings, first: ProbeReply, coder: IdCoder | None) -> None:
    written = _raw(first)
    if coder is None:
        findings.seen[Capability.TOKEN_IDS] = "not asked for"
        return
    if written.token_ids is None:
        findings.contradict(
            "the server returns no token ids",
            expected="`token_ids` in each choice, as teacher.server.extra_body asks for them",
            got="a choice without them",
            fix="use a server that knows `return_token_ids` (vLLM does), or remove it",
        )
        return
    decoded = coder.decode(written.token_ids)
    findings.seen[Capability.TOKEN_IDS] = "returned, and they are those of the text"
    # The end may differ: a token that ends the turn has no text, and a character may be cut.
    if not decoded.startswith(written.text.rstrip("\ufffd")):
        findings.contradict(
            "the token ids are not those of the text",
            expected=repr(written.text[:60]),
            got=f"{decoded[:60]!r}, by teacher.server.tokenizer",
            fix="set teacher.server.tokenizer to that of the served model",
        )


def _seen_of_continuation(first: ProbeReply, continued: ProbeReply, asked: Request) -> str:
    expected = (STORY + _raw(first).text).removeprefix(asked.context).rstrip("\ufffd")
    if _raw(continued).text.startswith(expected):
        return "goes on from a beginning as if it had not been cut"
    return "goes on from a beginning, though not in the words of the uncut text"


def _seen_of_stop(stopped: ProbeReply, stop: str) -> str:
    written = _raw(stopped)
    _, found, after = written.text.partition(stop)
    told = any(value == stop for value in written.stated.values())
    if found and after:
        return "ignored: texts are cut here"
    if found:
        return "honoured, and kept in the text"
    if written.finish_reason == "stop":
        named = ", but named beside it" if told else ""
        return f"honoured, and dropped from the text{named}"
    return f"{UNKNOWN}: the text did not come to the stop string"
