"""Serve a policy as vLLM's server does for RL, and reach it as TRL's client does."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from coa.policy import Policy
from tests.doubles.model_server import serve
from train.vllm_policy import ServedEngine, ServedVllmPolicy


@asynccontextmanager
async def serve_to_client(
    policy: Policy, window: int = 1024, failing: web.Response | None = None
) -> AsyncIterator[Any]:
    """Serve a policy while the block runs; its value stands in for TRL's VLLMClient.

    Args:
        policy: The model behind the server.
        window: Its max_model_len.
        failing: Replaces every completion.
    """
    import requests

    def answer(request: web.Request, body: Any) -> web.Response | None:
        if request.path == "/v1/models":
            return web.json_response({"data": [{"id": policy.name, "max_model_len": window}]})
        return failing

    async with serve(policy, fails=answer) as url:
        with requests.Session() as session:
            yield SimpleNamespace(
                session=session, base_url=url.removesuffix("/v1"), model=policy.name
            )


@asynccontextmanager
async def open_served(client: Any, tokenizer: Any, name: str) -> AsyncIterator[ServedVllmPolicy]:
    """Open the policy over a client, with sixteen requests in flight."""
    with ThreadPoolExecutor(16) as threads:
        engine = await asyncio.to_thread(ServedEngine, client, threads)
        yield ServedVllmPolicy(engine, tokenizer, name=name)
