"""Ask a real completions server of known behaviour, for the tests of its client."""

import asyncio
import socket
from collections.abc import Coroutine, Mapping
from typing import Any

from aiohttp import web

from coa.policy import Completion, Policy, Request
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server.app import error_response, serve

SECRET = "sk-secret-123"


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "context": "Question: who?\n",
        "stop": ("</end_search>",),
        "max_tokens": 100,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 7,
    }
    return Request(**{**values, **changes})


async def ask(
    texts: list[str] | Policy,
    wanted: Request | None = None,
    settings: Mapping[str, Any] | None = None,
    **manner: Any,
) -> Completion:
    """One request to a server with these manners."""
    served = ScriptedPolicy(texts) if isinstance(texts, list) else texts
    async with serve(served, **manner) as base_url:
        chosen = {
            "base_url": base_url,
            "model": "scripted",
            "patience_minutes": 0.0,
            **(settings or {}),
        }
        async with CompletionsPolicy(ServerSettings(**chosen)) as policy:
            return await policy.complete(wanted or request())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def always(response_status: int, message: str, headers: Mapping[str, str] | None = None) -> Any:
    return lambda http_request, body: error_response(response_status, message, headers)


def first(responses: list[web.Response]) -> Any:
    """The responses one after the other, then the policy's own."""
    return lambda http_request, body: responses.pop(0) if responses else None


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
