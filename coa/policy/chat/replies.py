"""Read a chat server's reply back as thought, action and answer in our tags.

What can be read becomes the text of a turn. What cannot, such as arguments that are not JSON, is a
fault that ends its rollout as a row. A reply that holds no choice at all is requested again.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from coa.network.http_client import Fault, PassingFailure
from coa.policy import Completion, Finish, Native, RequestError
from coa.policy.chat.families import DETAILS, REASONING, ChatFamily
from coa.policy.chat.messages import ARGUMENT
from coa.policy.completions import Envelope
from coa.policy.react import for_a_box
from coa.records import protocol
from coa.records.grading import boxed_answer

_ENDS = frozenset({"stop", "tool_calls", "function_call", "length", None})
"""Values of `finish_reason` that say how a turn ended."""
_FAILED_ENDS = frozenset({"error", "abort", "insufficient_system_resource"})
"""Values of `finish_reason` that say that the server failed on the way."""

_TEXT_PIECE = "reasoning.text"
"""The type of those pieces in `DETAILS` that are the reasoning itself."""


class Shown(StrEnum):
    """How much of its reasoning a server shows."""

    TEXT = "text"
    """The reasoning itself."""
    SUMMARY = "summary"
    """A summary, or encrypted text."""
    NOTHING = "nothing"
    """No reasoning."""


class _Choice(msgspec.Struct):
    message: dict[str, Any] | None = None
    finish_reason: str | None = None


class ChatBody(Envelope):
    """A reply of `POST /v1/chat/completions`; an error may come in its place."""

    choices: list[_Choice] | None = None
    model: str | None = None


CHAT_BODY = msgspec.json.Decoder(ChatBody)


class Call(NamedTuple):
    """A native call of a tool."""

    name: str
    arguments: str
    """JSON where the policy kept to the form."""


class ChatReply(NamedTuple):
    """One message of the policy."""

    message: Mapping[str, Any]
    reasoning: str
    shown: Shown
    content: str
    calls: tuple[Call, ...]
    is_cut: bool
    """Whether it ran into the limit of tokens."""


def without_keep_alive(body: bytes) -> bytes:
    """Return a reply without the keep-alive lines before it."""
    lines = body.lstrip().splitlines(keepends=True)
    while lines and (lines[0].startswith(b":") or not lines[0].strip()):
        del lines[0]
    return b"".join(lines)


def read_reply(body: ChatBody) -> ChatReply:
    """Read the message that was asked for; a `RequestError` where the server withholds it."""
    choice = body.choices[0] if body.choices else None
    if choice is None or choice.message is None:
        raise PassingFailure(Fault.ODD_REPLY, "a reply without choices")
    if choice.finish_reason in _FAILED_ENDS:
        reason = f"a message that ends with finish_reason {choice.finish_reason!r}"
        raise PassingFailure(Fault.ODD_REPLY, reason)
    if choice.finish_reason not in _ENDS:
        raise RequestError(f"the server ended the message with {choice.finish_reason!r}")
    reasoning, shown = _reasoning(choice.message)
    return ChatReply(
        message=choice.message,
        reasoning=reasoning,
        shown=shown,
        content=_plain_text(choice.message.get("content")),
        calls=_calls(choice.message.get("tool_calls")),
        is_cut=choice.finish_reason == "length",
    )


def _reasoning(message: Mapping[str, Any]) -> tuple[str, Shown]:
    """Find the reasoning, verbatim, and say whether it is the reasoning itself."""
    found = message.get(DETAILS)
    details = found if isinstance(found, list) else ()
    pieces = [piece for piece in details if isinstance(piece, dict)]
    texts = [piece.get("text") or "" for piece in pieces if piece.get("type") == _TEXT_PIECE]
    is_summary = bool(pieces) and not texts
    for name in REASONING:
        text = message.get(name)
        if isinstance(text, str) and text:
            return text, Shown.SUMMARY if is_summary else Shown.TEXT
    if any(texts):
        return "".join(map(str, texts)), Shown.TEXT
    return "", Shown.SUMMARY if is_summary else Shown.NOTHING


def _plain_text(content: object) -> str:
    """Return a content that is a text or a list of parts with texts."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise PassingFailure(Fault.ODD_REPLY, "a message whose content is not a text")
    texts = []
    for part in content:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
    return "".join(texts)


def _calls(found: object) -> tuple[Call, ...]:
    """Read the calls; what lacks a name or arguments becomes a call that cannot be read."""
    calls = []
    for item in found if isinstance(found, list) else ():
        function = item.get("function") if isinstance(item, dict) else None
        fields = function if isinstance(function, dict) else {}
        arguments = fields.get("arguments")
        if not isinstance(arguments, str):
            arguments = "" if arguments is None else msgspec.json.encode(arguments).decode()
        calls.append(Call(str(fields.get("name") or ""), arguments))
    return tuple(calls)


def returned_message(reply: ChatReply, family: ChatFamily, begun: str = "") -> str:
    """Return the policy's message as it is sent back: opaque fields unchanged, each call an id.

    Where the policy went on from a thought that was `begun`, that is put before the reasoning.
    """
    kept: dict[str, Any] = {"role": "assistant", "content": reply.message.get("content") or ""}
    for name in family.returns:
        if reply.message.get(name) is not None:
            kept[name] = reply.message[name]
        if begun:
            kept[name] = begun + str(kept.get(name) or "")
    if reply.calls:
        kept["tool_calls"] = calls_with_ids(reply.message["tool_calls"])
    return msgspec.json.encode(kept).decode()


def calls_with_ids(calls: Sequence[Any]) -> list[dict[str, Any]]:
    """Give each call an id where it has none, because its result must name it."""
    named = []
    for number, call in enumerate(calls):
        fields = call if isinstance(call, dict) else {}
        named.append({**fields, "id": fields.get("id") or f"call_{number}"})
    return named


def argument_of(arguments: str) -> str | None:
    """Read a call's one text; None where the arguments are not an object with one text.

    The argument's name does not matter where there is only one.
    """
    try:
        fields = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    values = list(fields.values())
    value = fields.get(ARGUMENT, values[0] if len(values) == 1 else None)
    return value if isinstance(value, str) else None


def object_text(arguments: str) -> str | None:
    """Return arguments that are a JSON object, as they are; None for others."""
    try:
        is_object = isinstance(msgspec.json.decode(arguments), dict)
    except (ValueError, RecursionError):
        return None
    return arguments if is_object else None


def to_completion(
    reply: ChatReply, native: Native, num_tokens: int | None, own_tools: Container[str] = ()
) -> Completion:
    """Transcribe a turn in which the policy could think, act or answer.

    `native` is its record, which is completed here; `own_tools` are the tools whose arguments are a
    JSON object of their own.
    """
    answer = "" if reply.calls or reply.content.isspace() else reply.content
    thought = reply.reasoning if answer else joined(reply.reasoning, reply.content)
    text = protocol.break_tags(thought)
    original = thought if text != thought else None
    if reply.calls and reply.content:
        original = reply.reasoning
    arguments = ""
    problem = ""
    cut: tuple[str, ...] = ()
    if reply.calls:
        arguments = reply.calls[0].arguments
        cut = tuple(msgspec.json.encode(call._asdict()).decode() for call in reply.calls[1:])
        action, problem = _action(reply.calls[0], own_tools)
        text += action
    if answer:
        blank = "" if answer[0].isspace() else "\n\n"
        text += f"{protocol.THINK_CLOSE}{blank}{protocol.break_tags(answer)}"
    record = replace(
        native,
        thought=original,
        arguments=arguments,
        content=answer,
        cut_calls=cut,
        fault=native.fault or problem,
    )
    finish = Finish.LENGTH if reply.is_cut and not reply.calls else Finish.END
    return Completion(text, finish, num_tokens or 0, native=record)


def joined(reasoning: str, content: str) -> str:
    """Join what the policy thought and what it said before a call, with a blank line between."""
    if not reasoning or not content or reasoning[-1].isspace() or content[0].isspace():
        return reasoning + content
    return f"{reasoning}\n\n{content}"


def _action(call: Call, own_tools: Container[str]) -> tuple[str, str]:
    """Write a call in our tags; or say why it cannot be read."""
    if not protocol.is_tool_name(call.name):
        return "", f"a call of an unknown tool {call.name[:80]!r}"
    wanted = "an object with one text"
    argument = argument_of(call.arguments)
    if call.name in own_tools:
        wanted = "a JSON object"
        argument = object_text(call.arguments)
    if argument is None:
        return "", f"arguments that are not {wanted}: {call.arguments[:200]!r}"
    body = protocol.break_tags(argument)
    return f"{protocol.open_tag(call.name)} {body} {protocol.close_tag(call.name)}", ""


def to_forced_answer(reply: ChatReply, native: Native, num_tokens: int | None) -> Completion:
    """Transcribe an answer that the loop forced: it continues inside the marker's box.

    Some parsers of vLLM (deepseek_r1) take a text in which no thinking ends for reasoning. The
    answer of a policy that does not think first is then there, known by its box.
    """
    said = reply.content
    if not said.strip() and not reply.is_cut and boxed_answer(reply.reasoning) is not None:
        said = reply.reasoning
    answer = said.strip()
    if boxed_answer(answer) is None:
        answer = answer.partition("\n")[0]
    text = f"{for_a_box(answer)}}}" if answer else ""
    finish = Finish.LENGTH if reply.is_cut and not text else Finish.END
    record = replace(native, content=said)
    return Completion(text, finish, num_tokens or 0, native=record)


def is_served_model(named: str | None, model: str, others: Sequence[str]) -> bool:
    """Return whether a reply's model is the one asked for, perhaps with a date or a variant."""
    if not named or named == model or named in others:
        return True
    given = named.rpartition("/")[2]
    for name in (model, *others):
        expected = name.rpartition("/")[2]
        if given == expected or given.startswith((f"{expected}-20", f"{expected}:")):
            return True
    return False
