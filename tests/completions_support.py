"""Ask a real completions server of known behaviour, for the tests of its client."""

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any

from aiohttp import web

from coa.policy import Completion, Policy, Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from tests.doubles.model_server import serve

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


@contextmanager
def in_a_thread(serving: AbstractAsyncContextManager[str]) -> Iterator[str]:
    """Serve from another thread, for commands that run an event loop of their own."""
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    address: list[str] = []
    is_ready = threading.Event()

    async def run() -> None:
        async with serving as base_url:
            address.append(base_url)
            is_ready.set()
            await ended.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert is_ready.wait(60)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
