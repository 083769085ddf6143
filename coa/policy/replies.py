"""Read replies of completions servers, which end texts and report errors in different ways."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from coa import protocol
from coa.http_client import Fault, PassingFailure
from coa.policy import Finish, Request, RequestError, TokenId, cut_at_stop
from coa.policy.usage import read_count

_STOP_FIELDS = ("stop_reason", "matched_stop")
"""The fields in which vLLM and SGLang say which stop string ended a text.

Null or a token id means that the policy ended its turn.
"""
_ENDS = frozenset({"stop", "length", None})
"""Values of `finish_reason` that say how a text ended."""
_FAILED_ENDS = frozenset({"error", "abort"})
"""Values of `finish_reason` that say that the server failed on the way."""


class _Choice(msgspec.Struct):
    """One text that the server wrote."""

    text: str | None = None
    finish_reason: str | None = None
    stop_reason: Any = msgspec.UNSET
    matched_stop: Any = msgspec.UNSET
    token_ids: list[TokenId] | None = None


class Envelope(msgspec.Struct):
    """What replies have in common; an error may come in their place, with status 200 too."""

    told_usage: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="usage")
    """It is decoded by itself: an odd number there is no reason to pay for the reply again."""
    error: Any = None

    @property
    def usage(self) -> object:
        """Return the field `usage`; None where it is missing or cannot be read."""
        try:
            return msgspec.json.decode(self.told_usage)
        except (ValueError, RecursionError):
            return None

    def count(self, name: str) -> int | None:
        """Read a number of tokens in `usage`; None where the server does not say it."""
        usage = self.usage
        return read_count(usage.get(name)) if isinstance(usage, dict) else None

    @property
    def error_status(self) -> int:
        """Return the status that belongs to an error in a reply with status 200."""
        code = self.error.get("code") if isinstance(self.error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            return code
        return 500


class Body(Envelope):
    """A reply of `POST /v1/completions`."""

    choices: list[_Choice] | None = None


_DECODER = msgspec.json.Decoder(Body)


def decode_body(body: bytes) -> Body:
    """Decode a reply.

    Raises:
        PassingFailure: it is not JSON, or not that of a completions server.
    """
    try:
        return _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        raise PassingFailure(Fault.ODD_REPLY, f"a reply that cannot be read ({error})") from error


class Written(NamedTuple):
    """A text that the server wrote."""

    text: str
    finish_reason: str | None
    stated: Mapping[str, object]
    """The fields beyond the protocol in which the server says how the text ended."""
    token_ids: list[int] | None


def only_choice(body: Body) -> Written:
    """Return the text that was asked for.

    Raises:
        PassingFailure: there is none, or the server failed on the way.
        RequestError: the server withholds it.
    """
    if not body.choices:
        raise PassingFailure(Fault.ODD_REPLY, "a reply without choices")
    choice = body.choices[0]
    if choice.finish_reason in _FAILED_ENDS:
        reason = f"a text that ends with finish_reason {choice.finish_reason!r}"
        raise PassingFailure(Fault.ODD_REPLY, reason)
    if choice.text is None:
        if choice.finish_reason not in _ENDS:
            raise _withheld(choice.finish_reason)
        raise PassingFailure(Fault.ODD_REPLY, "a reply without text")
    stated = {}
    for name in _STOP_FIELDS:
        value = getattr(choice, name)
        if value is not msgspec.UNSET:
            stated[name] = value
    return Written(choice.text, choice.finish_reason, stated, choice.token_ids)


def error_message(error: object) -> str:
    """Find the message in the body of an error, as OpenAI, vLLM or FastAPI write it."""
    if isinstance(error, dict):
        error = error.get("error") or error.get("message") or error.get("detail") or error
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error or "no message")


def finished_text(
    text: str, reason: str | None, extra: Mapping[str, object], request: Request
) -> tuple[str, Finish]:
    """Complete a text with its stop string, and tell why it ended.

    Where the server keeps the stop string or ignores it, the text is cut after it. Where the server
    drops it, `extra` (the choice's fields beyond the protocol) names it or says that there was
    none.

    Other servers report a stop string and the end of a turn alike, as "stop". Then a tool's closing
    tag is restored if its opening tag is open, inserted triggers included. Any other stop string is
    restored if it is the only one asked for. Else the turn has ended.

    Raises:
        RequestError: the server ended the text for another reason, say its content filter.
    """
    kept, has_stopped = cut_at_stop(text, request.stop)
    if has_stopped:
        return kept, Finish.STOP
    if reason == "length":
        return text, Finish.LENGTH
    if reason not in _ENDS:
        raise _withheld(reason)
    stated = [extra[name] for name in _STOP_FIELDS if name in extra]
    stop = stated[0] if stated else _likely_stop(text, request)
    if isinstance(stop, str) and stop in request.stop:
        return text + stop, Finish.STOP
    return text, Finish.END


def _withheld(reason: str | None) -> RequestError:
    return RequestError(f"the server ended the text with finish_reason {reason!r}")


def _likely_stop(text: str, request: Request) -> str | None:
    """Guess the stop string that a server dropped silently; None when the turn has ended."""
    stop_of_tag = {}
    for stop in request.stop:
        opening = _opening_tag(stop)
        if opening:
            stop_of_tag[opening] = stop
    triggers = [tag for tag in stop_of_tag if request.context.endswith(tag)]
    trigger = triggers[0] if triggers else ""
    written = (trigger + text).rpartition(protocol.THINK_CLOSE)[2]
    last_open = max(stop_of_tag, key=written.rfind, default="")
    if last_open and last_open in written:
        return stop_of_tag[last_open]
    if len(request.stop) == 1 and not stop_of_tag:
        return request.stop[0]
    return None


def _opening_tag(stop: str) -> str | None:
    """Return the tag that opens what `stop` closes; None when `stop` closes no tool's tag."""
    before, _, after = protocol.close_tag(" ").partition(" ")
    has_name = len(stop) > len(before) + len(after)
    if not has_name or not stop.startswith(before) or not stop.endswith(after):
        return None
    tool = stop.removeprefix(before).removesuffix(after)
    return protocol.open_tag(tool)
