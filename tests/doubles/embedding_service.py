"""Serve any embedder as an OpenAI-compatible `/v1/embeddings`."""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from coa.search.dense import Embedder

_MAX_BODY_BYTES = 64 * 1024**2


class _Request(msgspec.Struct):
    input: str | list[str]
    model: str
    encoding_format: str = "float"


class EmbeddingService:
    """Answers requests for embeddings, and counts the texts that were paid for."""

    def __init__(
        self,
        embedder: Embedder,
        model: str = "hashed",
        *,
        max_chars: int = 100_000,
        latency_seconds: float = 0.0,
    ) -> None:
        self._embedder = embedder
        self._model = model
        self._max_chars = max_chars
        self.latency_seconds = latency_seconds
        self.texts: list[str] = []
        """All texts that were embedded, in order, each time that they were asked for."""

    def app(self) -> web.Application:
        """Create the application."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.add_routes([web.post("/v1/embeddings", self._embed)])
        return app

    async def _embed(self, request: web.Request) -> web.Response:
        try:
            asked = msgspec.json.decode(await request.read(), type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _refusal(400, str(error))
        if asked.model != self._model:
            return _refusal(404, f"The model {asked.model!r} does not exist.")
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if any(not text or len(text) > self._max_chars for text in texts):
            return _refusal(400, "A text is empty or longer than the model's context.")
        vectors = self._embedder.embed(texts)
        self.texts += texts
        await asyncio.sleep(self.latency_seconds)
        data = [
            {"object": "embedding", "index": index, "embedding": vector.tolist()}
            for index, vector in enumerate(vectors)
        ]
        return _json({"object": "list", "model": self._model, "data": data})


def _refusal(status: int, message: str) -> web.Response:
    return _json({"error": {"message": message, "type": "invalid_request_error"}}, status)


def _json(content: Any, status: int = 200) -> web.Response:
    body = msgspec.json.encode(content)
    return web.Response(body=body, status=status, content_type="application/json")
