"""Read replies of completions servers, which differ in how they end a text and tell of errors."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from coa import protocol
from coa.http_client import Fault, PassingFailure
from coa.policy import Finish, Request, RequestError, cut_at_stop

_STOP_FIELDS = ("stop_reason", "matched_stop")
"""Where vLLM and SGLang say which stop string ended a text (null or a token id: the policy ended
its turn)."""
_ENDS = frozenset({"stop", "length", None})
"""Values of `finish_reason` that say how a text ended."""
_FAILED_ENDS = frozenset({"error", "abort"})
"""Those by which a server says that it failed on the way."""


class _Choice(msgspec.Struct):
    """One text that the server wrote."""

    text: str | None = None
    finish_reason: str | None = None
    stop_reason: Any = msgspec.UNSET
    matched_stop: Any = msgspec.UNSET
    token_ids: list[int] | None = None


class Body(msgspec.Struct):
    """A reply of `POST /v1/completions`; an error may come in its place, with status 200 too."""

    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None

    def count(self, name: str) -> int | None:
        """A number of tokens in `usage`; None where the server does not say it."""
        value = self.usage.get(name) if isinstance(self.usage, dict) else None
        return value if isinstance(value, int) and value >= 0 else None

    @property
    def error_status(self) -> int:
        """The status that an error in a reply with status 200 stands for."""
        code = self.error.get("code") if isinstance(self.error, dict) else None
        return code if isinstance(code, int) and 400 <= code < 600 else 500


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
    """What the server says beyond the protocol about the end of the text."""
    token_ids: list[int] | None


def only_choice(body: Body) -> Written:
    """The text that was asked for.

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
    stated = {name: getattr(choice, name) for name in _STOP_FIELDS}
    said = {name: value for name, value in stated.items() if value is not msgspec.UNSET}
    return Written(choice.text, choice.finish_reason, said, choice.token_ids)


def error_message(error: object) -> str:
    """The message in the body of an error, as OpenAI, vLLM or FastAPI write it."""
    if isinstance(error, dict):
        error = error.get("error") or error.get("message") or error.get("detail") or error
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error or "no message")


def finished_text(
    text: str, reason: str | None, extra: Mapping[str, object], request: Request
) -> tuple[str, Finish]:
    """What was written, ending with its stop string, and why it ended.

    Servers that keep the stop string or ignore it are cut after it. Where it was dropped, `extra`
    (the choice's fields beyond the protocol) names it or says that there was none. Other servers
    report a stop string and the end of a turn alike, as "stop": then a tool's closing tag is
    restored where its opening tag stands open, inserted triggers included; any other stop string
    where it is the only one asked for; and else the turn has ended.

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
    """The stop string that a server dropped without saying so; None when the turn has ended."""
    tags = {tag: stop for stop in request.stop if (tag := _opening_tag(stop))}
    trigger = next((tag for tag in tags if request.context.endswith(tag)), "")
    written = (trigger + text).rpartition(protocol.THINK_CLOSE)[2]
    last_open = max(tags, key=written.rfind, default="")
    if last_open and last_open in written:
        return tags[last_open]
    return request.stop[0] if len(request.stop) == 1 and not tags else None


def _opening_tag(stop: str) -> str | None:
    """The tag that opens what `stop` closes; None when `stop` is not a tool's closing tag."""
    before, _, after = protocol.close_tag(" ").partition(" ")
    is_tag = (
        stop.startswith(before) and stop.endswith(after) and len(stop) > len(before) + len(after)
    )
    return protocol.open_tag(stop.removeprefix(before).removesuffix(after)) if is_tag else None
