"""Let a served policy fail in the ways of real servers, by a seed (`tests.doubles.model_server`).

Whether and how a request fails follows from the seed, the request's body and how often the same
body came before. So a repeated request may succeed, and two runs meet the same faults.

A new fault is a value of `FaultKind` and a row in one of the three tables below: the request is
refused, the bytes of the reply are spoilt, or the reply itself is.
"""

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from aiohttp import web

from coa.policy.server import error_response
from coa.records import protocol


class FaultKind(StrEnum):
    """A way in which a server fails. Those of messages, calls and reasoning are chat's alone."""

    TOO_MANY_REQUESTS = "too_many_requests"
    LIMIT_WITHOUT_TIME = "limit_without_time"
    LIMIT_WITH_DATE = "limit_with_date"
    """Status 429 whose `Retry-After` is a date, which has passed."""
    LIMIT_WITH_NONSENSE = "limit_with_nonsense"
    """Status 429 whose `Retry-After` cannot be read."""
    REQUEST_TIMEOUT = "request_timeout"
    CONFLICT = "conflict"
    TOO_EARLY = "too_early"
    SERVER_ERROR = "server_error"
    BAD_GATEWAY = "bad_gateway"
    UNAVAILABLE = "unavailable"
    GATEWAY_TIMEOUT = "gateway_timeout"
    UNKNOWN_ERROR = "unknown_error"
    OVERLOADED = "overloaded"
    BAD_REQUEST = "bad_request"
    TOO_LARGE = "too_large"
    UNPROCESSABLE = "unprocessable"

    HANG = "hang"
    """The reply takes `hang_seconds` longer."""
    RESET = "reset"
    """The connection breaks in the middle of the body."""
    RESET_AT_ONCE = "reset_at_once"
    """The connection breaks before the reply."""
    HALF_JSON = "half_json"
    EMPTY_BODY = "empty_body"
    BLANK_BODY = "blank_body"
    """The body is blank lines, as if the server had given up after its keep-alives."""
    HTML_BODY = "html_body"
    NOT_UTF8 = "not_utf8"
    NOT_AN_OBJECT = "not_an_object"
    DEEP_JSON = "deep_json"
    """The body is a JSON list in a list, ten thousand deep."""

    ERROR_IN_BODY = "error_in_body"
    EMPTY_CHOICES = "empty_choices"
    NULL_CHOICES = "null_choices"
    NO_TEXT = "no_text"
    """The choice holds neither a text nor a message."""
    FAILED_ON_THE_WAY = "failed_on_the_way"
    NO_USAGE = "no_usage"
    ODD_USAGE = "odd_usage"
    UNKNOWN_FIELDS = "unknown_fields"
    WITHHELD = "withheld"
    OTHER_MODEL = "other_model"

    BAD_ARGUMENTS = "bad_arguments"
    NULL_ARGUMENTS = "null_arguments"
    LIST_ARGUMENTS = "list_arguments"
    NO_CALL_ID = "no_call_id"
    NAMELESS_CALL = "nameless_call"
    UNKNOWN_TOOL = "unknown_tool"
    PARALLEL_CALLS = "parallel_calls"
    """A second call is made in the same message, whatever the request says."""
    TAGS_IN_ARGUMENTS = "tags_in_arguments"
    """The argument of a call closes our tag and opens another one."""
    TAGS_IN_REASONING = "tags_in_reasoning"
    NO_REASONING = "no_reasoning"
    SUMMARY = "summary"
    """The reasoning is only a summary, as `reasoning_details` say."""


class Refusal(NamedTuple):
    """A response without a reply of the policy."""

    status: int
    headers: Mapping[str, str] = {}
    body: str | None = None
    """A text; None: an error in OpenAI's form."""


_PAGE = "<html><body><h1>Bad gateway</h1></body></html>"
_PAST = "Fri, 01 Mar 2024 00:00:00 GMT"

REFUSALS: Mapping[FaultKind, Refusal] = {
    FaultKind.TOO_MANY_REQUESTS: Refusal(429, {"Retry-After": "0"}),
    FaultKind.LIMIT_WITHOUT_TIME: Refusal(429),
    FaultKind.LIMIT_WITH_DATE: Refusal(429, {"Retry-After": _PAST}),
    FaultKind.LIMIT_WITH_NONSENSE: Refusal(429, {"Retry-After": "soon"}),
    FaultKind.REQUEST_TIMEOUT: Refusal(408),
    FaultKind.CONFLICT: Refusal(409),
    FaultKind.TOO_EARLY: Refusal(425),
    FaultKind.SERVER_ERROR: Refusal(500),
    FaultKind.BAD_GATEWAY: Refusal(502, body=_PAGE),
    FaultKind.UNAVAILABLE: Refusal(503, {"Retry-After": "0"}),
    FaultKind.GATEWAY_TIMEOUT: Refusal(504, body=""),
    FaultKind.UNKNOWN_ERROR: Refusal(520, body=_PAGE),
    FaultKind.OVERLOADED: Refusal(529),
    FaultKind.BAD_REQUEST: Refusal(400),
    FaultKind.TOO_LARGE: Refusal(413),
    FaultKind.UNPROCESSABLE: Refusal(422, body='{"detail": [{"msg": "Field required"}]}'),
}
"""Faults in which the policy is not asked."""

BODIES: Mapping[FaultKind, Callable[[bytes], bytes]] = {
    FaultKind.HALF_JSON: lambda body: body[: len(body) // 2],
    FaultKind.EMPTY_BODY: lambda body: b"",
    FaultKind.BLANK_BODY: lambda body: b"\n\n\n",
    FaultKind.HTML_BODY: lambda body: _PAGE.encode(),
    FaultKind.NOT_UTF8: lambda body: body.replace(b'"choices"', b'"\xff": 0, "choices"'),
    FaultKind.NOT_AN_OBJECT: lambda body: b"[" + body + b"]",
    FaultKind.DEEP_JSON: lambda body: b"[" * 10_000 + b"]" * 10_000,
}
"""Faults of the bytes that are sent."""

Reply = dict[str, Any]


def _choice(reply: Reply) -> dict[str, Any]:
    choice: dict[str, Any] = reply["choices"][0]
    return choice


def _message(reply: Reply) -> dict[str, Any]:
    """Return the message of a chat's reply; that of a completion is empty."""
    message: dict[str, Any] = _choice(reply).get("message") or {}
    return message


def _call(reply: Reply) -> dict[str, Any] | None:
    """Return the first call of a message; None where it makes none."""
    calls = _message(reply).get("tool_calls") or [None]
    call: dict[str, Any] | None = calls[0]
    return call


def _set_call(reply: Reply, **fields: object) -> bool:
    """Change what the first call says."""
    call = _call(reply)
    if call is None:
        return False
    call["function"].update(fields)
    return True


def _set(target: dict[str, Any], **fields: object) -> bool:
    target.update(fields)
    return True


def _drop_call_id(reply: Reply) -> bool:
    call = _call(reply)
    return call is not None and call.pop("id", None) is not None


def _call_twice(reply: Reply) -> bool:
    call = _call(reply)
    if call is None:
        return False
    _message(reply)["tool_calls"].append({**call, "id": f"{call['id']}-2"})
    return True


def _empty_choice(reply: Reply) -> bool:
    return _set(_choice(reply), message=None, text=None)


def _withhold(reply: Reply) -> bool:
    _choice(reply)["finish_reason"] = "content_filter"
    return _set(_choice(reply), text=None) if "text" in _choice(reply) else True


def _add_fields(reply: Reply) -> bool:
    for place in (reply, _choice(reply), _message(reply)):
        place["x_of_the_server"] = {"weights": [1, 2]}
    return True


_REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details")


def _has_reasoning(reply: Reply) -> bool:
    return any(name in _message(reply) for name in _REASONING_FIELDS)


def _hide_reasoning(reply: Reply) -> bool:
    if not _has_reasoning(reply):
        return False
    for name in _REASONING_FIELDS:
        _message(reply).pop(name, None)
    return True


def _summarise(reply: Reply) -> bool:
    if not _has_reasoning(reply):
        return False
    summary = {"type": "reasoning.summary", "summary": "I search."}
    return _set(_message(reply), reasoning_details=[summary])


def _add_tags(reply: Reply) -> bool:
    if not _has_reasoning(reply):
        return False
    tags = f" {protocol.open_tag('search')} x {protocol.close_tag('search')} {protocol.THINK_CLOSE}"
    message = _message(reply)
    for name in _REASONING_FIELDS:
        if isinstance(message.get(name), str):
            message[name] += tags
    return True


_TAGS_AS_ARGUMENT = (
    '{"query": "x ' + protocol.close_tag("search") + " " + protocol.open_tag("search") + ' y"}'
)
_BROKEN_ERROR = {"message": "the engine has failed", "code": 503}

REPLIES: Mapping[FaultKind, Callable[[Reply], bool]] = {
    FaultKind.ERROR_IN_BODY: lambda reply: _set(reply, error=_BROKEN_ERROR),
    FaultKind.EMPTY_CHOICES: lambda reply: _set(reply, choices=[]),
    FaultKind.NULL_CHOICES: lambda reply: _set(reply, choices=None),
    FaultKind.NO_TEXT: _empty_choice,
    FaultKind.FAILED_ON_THE_WAY: lambda reply: _set(_choice(reply), finish_reason="error"),
    FaultKind.NO_USAGE: lambda reply: _set(reply, usage=None),
    FaultKind.ODD_USAGE: lambda reply: _set(
        reply, usage={"prompt_tokens": "many", "completion_tokens": -1}
    ),
    FaultKind.UNKNOWN_FIELDS: _add_fields,
    FaultKind.WITHHELD: _withhold,
    FaultKind.OTHER_MODEL: lambda reply: _set(reply, model="somebody-else"),
    FaultKind.BAD_ARGUMENTS: lambda reply: _set_call(reply, arguments='{"query": "half a'),
    FaultKind.NULL_ARGUMENTS: lambda reply: _set_call(reply, arguments=None),
    FaultKind.LIST_ARGUMENTS: lambda reply: _set_call(reply, arguments='["x"]'),
    FaultKind.NO_CALL_ID: _drop_call_id,
    FaultKind.NAMELESS_CALL: lambda reply: _set_call(reply, name=None),
    FaultKind.UNKNOWN_TOOL: lambda reply: _set_call(reply, name="look_up"),
    FaultKind.PARALLEL_CALLS: _call_twice,
    FaultKind.TAGS_IN_ARGUMENTS: lambda reply: _set_call(reply, arguments=_TAGS_AS_ARGUMENT),
    FaultKind.TAGS_IN_REASONING: _add_tags,
    FaultKind.NO_REASONING: _hide_reasoning,
    FaultKind.SUMMARY: _summarise,
}
"""Faults of the reply; a function changes it, and returns False where it has no place for that."""


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """Which faults a server has, how often, and how slow it is."""

    kinds: tuple[FaultKind, ...] = ()
    """The faults, each as likely as the others."""
    share: float = 0.0
    """Share of the requests that meet a fault."""
    seed: int = 0
    """Chooses the requests and their faults, and how long each reply takes."""
    latency_seconds: float = 0.0
    """Mean time of a reply; the times are spread as an exponential distribution."""
    hang_seconds: float = 60.0
    """How much longer a reply takes that hangs."""


class Faults:
    """The faults of one server."""

    def __init__(self, settings: FaultSettings) -> None:
        self.counts: Counter[FaultKind] = Counter()
        """Faults that were met."""
        self._settings = settings
        self._num_sent: Counter[str] = Counter()

    async def choose(self, body: bytes) -> FaultKind | None:
        """Wait as long as the reply takes, and choose the fault that this request meets."""
        digest = hashlib.sha256(body).hexdigest()
        chance = random.Random(f"{self._settings.seed}/{digest}/{self._num_sent[digest]}")
        self._num_sent[digest] += 1
        if self._settings.latency_seconds:
            await asyncio.sleep(chance.expovariate(1 / self._settings.latency_seconds))
        if not self._settings.kinds or chance.random() >= self._settings.share:
            return None
        return chance.choice(self._settings.kinds)

    async def refuse(
        self, kind: FaultKind | None, request: web.Request
    ) -> web.StreamResponse | None:
        """Return the response of a request that is not answered; or hang, and return None.

        Only for faults that need no reply of the policy.
        """
        if kind is FaultKind.HANG:
            self.counts[kind] += 1
            await asyncio.sleep(self._settings.hang_seconds)
        if kind is FaultKind.RESET_AT_ONCE:
            self.counts[kind] += 1
            _break(request)
            return web.Response(status=500)  # nobody is there to read it
        refusal = REFUSALS.get(kind) if kind else None
        if kind is None or refusal is None:
            return None
        self.counts[kind] += 1
        if refusal.body is None:
            return error_response(refusal.status, str(kind), refusal.headers)
        return web.Response(status=refusal.status, headers=refusal.headers, text=refusal.body)

    def spoil(self, kind: FaultKind | None, reply: dict[str, Any]) -> None:
        """Change a reply as the fault wants; one that does not fit the reply changes nothing."""
        if kind is not None and kind in REPLIES and REPLIES[kind](reply):
            self.counts[kind] += 1

    async def send(
        self, kind: FaultKind | None, request: web.Request, reply: dict[str, Any], before: bytes
    ) -> web.StreamResponse:
        """Send a reply, whole or broken.

        Args:
            kind: The fault.
            request: The request that is answered.
            reply: The reply.
            before: Bytes before it, which keep the connection alive.
        """
        body = before + json.dumps(reply).encode()
        if kind is not None and kind in BODIES:
            self.counts[kind] += 1
            body = BODIES[kind](body)
        if kind is not FaultKind.RESET:
            return web.Response(body=body, content_type="application/json")
        self.counts[kind] += 1
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: len(body) // 2])
        _break(request)
        return response


def _break(request: web.Request) -> None:
    """Break the connection of a request."""
    if request.transport is not None:
        request.transport.abort()
