"""Speak with chat servers through the `openai` client, over this project's own connections.

`openai` writes the requests: the key, its own headers, the body. What sends them is `Connections`,
so that limits on time and size, proxies and the names of faults are those of all other requests.
The client repeats nothing and parses nothing: repeats are `coa/network/http_client.py`'s, where
caps, signals and pauses see each attempt, and the journal keeps what came.
"""

from collections.abc import Callable, Mapping
from typing import Any

import httpx2
from openai import APIStatusError, AsyncOpenAI, Omit, RequestOptions

from coa.network.http_client import Connections, Reply

_ANY_ADDRESS = "http://127.0.0.1"
"""Requests have whole addresses, because there may be several servers."""
_DECODED = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that are not true any more of a body that was read."""
_FROM_ENVIRONMENT = ("OpenAI-Organization", "OpenAI-Project")
"""Headers that `openai` takes from the environment, and would send to any host."""


class OpenAIConnections(Connections):
    """The connections of one event loop, to any number of chat servers."""

    def __init__(self, headers: Mapping[str, str], readable: Callable[[str], str]) -> None:
        super().__init__({}, readable)
        self._left_out = {
            name: Omit() for name in ("Authorization", *_FROM_ENVIRONMENT) if name not in headers
        }
        self._client = AsyncOpenAI(
            api_key="in the headers",
            base_url=_ANY_ADDRESS,
            max_retries=0,
            default_headers=headers,
            http_client=httpx2.AsyncClient(transport=_Transport(super().send)),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await super().close()

    async def send(
        self, method: str, url: str, seconds: float, options: Mapping[str, Any]
    ) -> Reply:
        """Send a request; the reply may have any status."""
        headers = {**self._left_out, **options.get("headers", {})}
        how: RequestOptions = {"headers": headers, "timeout": seconds}
        try:
            if method == "GET":
                response = await self._client.get(url, cast_to=httpx2.Response, options=how)
            else:
                body = options["data"]
                response = await self._client.post(
                    url, cast_to=httpx2.Response, content=body, options=how
                )
        except APIStatusError as error:
            response = error.response
        return Reply(response.status_code, response.content, response.headers, url)


class _Transport(httpx2.AsyncBaseTransport):
    """Sends what `openai` wrote over connections of ours."""

    def __init__(self, send: Callable[..., Any]) -> None:
        self._send = send

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and read the whole reply."""
        options = {"data": await request.aread(), "headers": request.headers}
        seconds = request.extensions["timeout"]["read"]
        reply = await self._send(request.method, str(request.url), seconds, options)
        headers = [
            (name, value) for name, value in reply.headers.items() if name.lower() not in _DECODED
        ]
        return httpx2.Response(reply.status, headers=headers, content=reply.body, request=request)
