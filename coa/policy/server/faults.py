"""Let our server fail in the ways of real ones, by a seed (`coa.policy.server.app`).

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
from typing import Any

from aiohttp import web

from coa.errors import ConfigError, InputError, ServiceError
from coa.policy import Completion, Policy, Request, RequestError
from coa.policy.server.fault_kinds import BODIES, REFUSALS, REPLIES, FaultKind

Fails = Callable[[web.Request, Mapping[str, Any]], web.Response | None]
"""A function that is called first, with the HTTP request and its JSON body.

It returns the response to send instead of the policy's, or None.
"""


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
