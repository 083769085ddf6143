"""Let our server fail in the ways of real ones, by a seed (`coa.policy.server`).

Whether and how a request fails follows from the seed, the request's body and how often the same
body came before. So a repeated request may succeed, and two runs meet the same faults.
"""

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from aiohttp import web

from coa import protocol
from coa.errors import ConfigError, InputError, ServiceError
from coa.policy import Completion, Policy, Request, RequestError

Fails = Callable[[web.Request, Mapping[str, Any]], web.Response | None]
"""A function that is called first, with the HTTP request and its JSON body.

It returns the response to send instead of the policy's, or None.
"""


class FaultKind(StrEnum):
    """A way in which a chat server fails."""

    TOO_MANY_REQUESTS = "too_many_requests"
    """Status 429 with `Retry-After: 0`."""
    SERVER_ERROR = "server_error"
    """Status 500."""
    HANG = "hang"
    """The reply takes `hang_seconds` longer."""
    RESET = "reset"
    """The connection breaks in the middle of the body."""
    HALF_JSON = "half_json"
    """The body ends in the middle, as if it were whole."""
    EMPTY_CHOICES = "empty_choices"
    """The reply has no choice."""
    OTHER_MODEL = "other_model"
    """The reply names another model."""
    BAD_ARGUMENTS = "bad_arguments"
    """The arguments of a call are not JSON."""
    PARALLEL_CALLS = "parallel_calls"
    """A second call is made in the same message, whatever the request says."""
    UNKNOWN_TOOL = "unknown_tool"
    """A call names a tool that was not offered."""
    TAGS_IN_REASONING = "tags_in_reasoning"
    """The reasoning contains our own tags."""
    NO_REASONING = "no_reasoning"
    """The reply shows no reasoning."""
    SUMMARY = "summary"
    """The reasoning is only a summary, as `reasoning_details` say."""


_BROKEN_ON_THE_WAY = frozenset({FaultKind.RESET, FaultKind.HALF_JSON})
_REASONING_FIELDS = ("reasoning", "reasoning_content", "reasoning_details")


@dataclass(frozen=True, slots=True)
class FaultSettings:
    """Which faults our server has, how often, and how slow it is."""

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

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError("the share of faults is no share", expected="0 to 1", got=self.share)


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

    async def refuse(self, kind: FaultKind | None) -> web.Response | None:
        """Return the response of a request that is not answered at all; or hang, and return None.

        Only for faults that need no reply of the policy.
        """
        if kind is FaultKind.HANG:
            self.counts[kind] += 1
            await asyncio.sleep(self._settings.hang_seconds)
        if kind is FaultKind.TOO_MANY_REQUESTS:
            self.counts[kind] += 1
            return error_response(429, "rate limit exceeded", {"Retry-After": "0"})
        if kind is FaultKind.SERVER_ERROR:
            self.counts[kind] += 1
            return error_response(500, "internal error")
        return None

    def spoil(self, kind: FaultKind | None, reply: dict[str, Any]) -> None:
        """Change a reply as the fault wants; one that does not fit the reply changes nothing."""
        message = reply["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        has_reasoning = any(name in message for name in _REASONING_FIELDS)
        is_met = True
        if kind is FaultKind.EMPTY_CHOICES:
            reply["choices"] = []
        elif kind is FaultKind.OTHER_MODEL:
            reply["model"] = "somebody-else"
        elif kind is FaultKind.BAD_ARGUMENTS and calls:
            calls[0]["function"]["arguments"] = '{"query": "half a'
        elif kind is FaultKind.UNKNOWN_TOOL and calls:
            calls[0]["function"]["name"] = "look_up"
        elif kind is FaultKind.PARALLEL_CALLS and calls:
            calls.append({**calls[0], "id": f"{calls[0]['id']}-2"})
        elif kind is FaultKind.NO_REASONING and has_reasoning:
            _hide_reasoning(message)
        elif kind is FaultKind.SUMMARY and has_reasoning:
            message["reasoning_details"] = [{"type": "reasoning.summary", "summary": "I search."}]
        elif kind is FaultKind.TAGS_IN_REASONING and has_reasoning:
            _add_tags(message)
        else:
            is_met = False
        if kind is not None and is_met:
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
        if kind is None or kind not in _BROKEN_ON_THE_WAY:
            return web.Response(body=body, content_type="application/json")
        self.counts[kind] += 1
        half = body[: len(body) // 2]
        if kind is FaultKind.HALF_JSON:
            return web.Response(body=half, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(half)
        if request.transport is not None:
            request.transport.abort()
        return response


async def complete_or_refuse(policy: Policy, request: Request) -> Completion | web.Response:
    """Ask the policy; where it fails, return the error response that a server would give."""
    try:
        return await policy.complete(request)
    except (RequestError, InputError) as error:
        return error_response(400, str(error))
    except ServiceError as error:
        return error_response(503, str(error))


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an error response as OpenAI-compatible servers send it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": status}}
    return web.json_response(body, status=status, headers=headers)


def _hide_reasoning(message: dict[str, Any]) -> None:
    for name in _REASONING_FIELDS:
        message.pop(name, None)


def _add_tags(message: dict[str, Any]) -> None:
    tags = f" {protocol.open_tag('search')} x {protocol.close_tag('search')} {protocol.THINK_CLOSE}"
    for name in _REASONING_FIELDS:
        if isinstance(message.get(name), str):
            message[name] += tags
