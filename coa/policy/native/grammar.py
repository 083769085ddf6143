r"""Describe how models write a turn in their own format, and read such a turn back.

    the reasoning, between two marks

    <tool_call>
    {"name": "search", "arguments": {"query": "director of Iron Harbor"}}
    </tool_call><|im_end|>

This is Qwen's format. A format with JSON calls between two marks is one more row in `GRAMMARS`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from coa import protocol
from coa.policy.chat.replies import Call, ChatReply, Shown, joined

_MAX_SHOWN_CHARS = 200


@dataclass(frozen=True, slots=True)
class Grammar:
    """The marks of one format; blanks around a mark may be missing in what a model writes."""

    think_open: str
    """Begins the reasoning, with the blanks that belong to the mark."""
    think_close: str
    call_open: str
    """Begins a call: a JSON object with `name` and `arguments`."""
    call_close: str
    end_of_turn: str
    """The token that ends a turn, and that the template writes after it."""
    other_ends: tuple[str, ...] = ()
    """Further tokens with which a model may end."""
    answers_at_once: Mapping[str, Any] = field(default_factory=dict)
    """Options of the template that keep the model from thinking before a forced answer."""


GRAMMARS: Mapping[str, Grammar] = {
    "qwen": Grammar(
        think_open=f"{protocol.THINK_OPEN}\n",  # Qwen's marks are the same as ours
        think_close=f"\n{protocol.THINK_CLOSE}\n\n",
        call_open="\n<tool_call>\n",
        call_close="\n</tool_call>",
        end_of_turn="<|im_end|>",
        other_ends=("<|endoftext|>",),
        answers_at_once={"enable_thinking": False},
    ),
}
"""The formats that are known, by the name of the models that write them."""


class NativeTurn(NamedTuple):
    """What a model wrote in one turn."""

    reply: ChatReply
    fault: str = ""
    """Why the turn cannot be used; empty where it can."""
    is_thinking: bool = False
    """Whether it ends inside the reasoning."""


class _Written(msgspec.Struct):
    """The object between the marks of a call."""

    name: str
    arguments: msgspec.Raw


_CALL = msgspec.json.Decoder(_Written)


def read_turn(text: str, grammar: Grammar, *, is_thinking: bool, is_cut: bool) -> NativeTurn:
    """Take a turn apart, without its end-of-turn token.

    The reasoning ends at its closing mark: what looks like a call before it is part of a thought.

    Args:
        text: What the model wrote.
        grammar: The marks of its format.
        is_thinking: Whether the template has opened the reasoning already.
        is_cut: Whether the turn ran into the limit of tokens.
    """
    reasoning = ""
    rest = text
    opened = _loose(grammar.think_open).match(text.lstrip())
    if opened and not is_thinking:
        is_thinking = True
        rest = text.lstrip()[opened.end() :]
    if is_thinking:
        reasoning, mark, rest = _partition(rest, grammar.think_close)
        if not mark:
            return NativeTurn(_reply(reasoning, is_cut=is_cut), is_thinking=True)
    content, mark, body = _partition(rest, grammar.call_open)
    if not mark:
        return NativeTurn(_reply(reasoning, rest, is_cut=is_cut))
    calls, fault = _read_calls(body, grammar, is_cut=is_cut)
    if not calls:  # The first call is cut or cannot be read: its text is kept, and is no answer.
        return NativeTurn(_reply(joined(reasoning, rest), is_cut=is_cut), fault)
    return NativeTurn(_reply(reasoning, content, calls, is_cut=is_cut), fault)


def write_turn(reply: ChatReply, grammar: Grammar, *, is_thinking: bool = False) -> str:
    """Write a turn as a model of this format writes it, without its end-of-turn token.

    Args:
        reply: Its reasoning, content and calls.
        grammar: The marks of the format.
        is_thinking: Whether it ends inside the reasoning.
    """
    text = ""
    if reply.reasoning:
        text = grammar.think_open + reply.reasoning
        if is_thinking:
            return text
        text += grammar.think_close
    text += reply.content
    for call in reply.calls:
        opening = grammar.call_open
        if not text or text.endswith("\n"):
            opening = opening.lstrip("\n")
        name = msgspec.json.encode(call.name).decode()
        text += f'{opening}{{"name": {name}, "arguments": {call.arguments}}}{grammar.call_close}'
    return text


def _read_calls(body: str, grammar: Grammar, *, is_cut: bool) -> tuple[tuple[Call, ...], str]:
    """Read the calls after the first opening mark, and say what is wrong with them.

    A further call that cannot be read is kept as it is: only the first one counts.
    """
    calls: list[Call] = []
    fault = ""
    mark = "opened"
    while mark and not fault:
        written, closing, after = _partition(body, grammar.call_close)
        if not closing and is_cut:
            break
        call = _read_call(written)
        if not closing:
            fault = f"a call that is not closed: {written[:_MAX_SHOWN_CHARS]!r}"
        elif call is None and not calls:
            shown = written[:_MAX_SHOWN_CHARS]
            fault = f"a call that is not JSON with a name and arguments: {shown!r}"
        else:
            calls.append(call or Call("", written))
        between, mark, body = _partition(after, grammar.call_open)
        if between.strip() and not fault:
            fault = f"text after a call: {between.strip()[:_MAX_SHOWN_CHARS]!r}"
    return tuple(calls), fault


def _read_call(written: str) -> Call | None:
    """Read the object of one call, its arguments verbatim; None where it is no such object."""
    try:
        found = _CALL.decode(written)
    except (ValueError, RecursionError):
        return None
    return Call(found.name, bytes(found.arguments).decode())


def _reply(
    reasoning: str, content: str = "", calls: tuple[Call, ...] = (), *, is_cut: bool
) -> ChatReply:
    shown = Shown.TEXT if reasoning.strip() else Shown.NOTHING
    return ChatReply({}, reasoning, shown, content, calls, is_cut)


def _partition(text: str, mark: str) -> tuple[str, str, str]:
    """Cut `text` at the first mark, as `str.partition` does."""
    found = _loose(mark).search(text)
    if found is None:
        return text, "", ""
    return text[: found.start()], found[0], text[found.end() :]


@lru_cache
def _loose(mark: str) -> re.Pattern[str]:
    """Match a mark with or without the blanks around it."""
    tag = mark.strip()
    before, after = map(re.escape, mark.split(tag))
    return re.compile(f"(?:{before})?{re.escape(tag)}(?:{after})?")
