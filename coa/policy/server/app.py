"""Serve any policy as an OpenAI-compatible server, for tests and to try the client without a GPU.

    async with serve(ScriptedPolicy(["..."])) as base_url: ...

It answers `POST /v1/completions`, `POST /v1/chat/completions` and `GET /v1/models` over real
sockets. Options make it behave as different real servers: the stop string is dropped (vLLM,
OpenAI), kept (`transformers serve`) or ignored (the same, with continuous batching). Chat has a
personality (`coa/policy/server/personalities.py`). All replies have latency, and faults by a seed
(`coa/policy/server/faults.py`); `python -m coa.policy.rehearse` serves it from the terminal. It is
not meant for production: nothing is batched.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from coa.errors import ServiceError
from coa.policy import Completion, Finish, Policy, Request
from coa.policy.server.chat import BETA_PAGE, ChatHandler, PromptForm
from coa.policy.server.faults import (
    Fails,
    Faults,
    FaultSettings,
    complete_or_refuse,
    error_response,
)
from coa.policy.server.personalities import Continues, Personality

_MAX_BODY_BYTES = 64 * 1024**2
_DEFAULT_MAX_TOKENS = 16
"""The protocol's limit for a request that names none."""
_SHUTDOWN_SECONDS = 1.0
"""How long a running request may go on when the server closes."""


@asynccontextmanager
async def serve(
    policy: Policy,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    drops_stop_string: bool = True,
    ignores_stop: bool = False,
    gives_stop_reason: bool = True,
    fails: Fails | None = None,
    personality: Personality = Personality.PLAIN,
    faults: Faults | None = None,
    form: PromptForm | None = None,
) -> AsyncIterator[str]:
    """Serve `policy` under its name and yield the base URL, `http://host:port/v1`.

    As with vLLM, a request may ask for `include_stop_str_in_output` and `return_token_ids`.

    Args:
        policy: The policy that answers.
        host: The address to listen on.
        port: The port; 0 means any free one.
        drops_stop_string: Send texts without their stop string.
        ignores_stop: Let the policy write on past the stop strings.
        gives_stop_reason: Add vLLM's `stop_reason` to each choice.
        fails: Gives a response instead of the policy's.
        personality: The manners of chat.
        faults: The latency and the faults. Those of a chat message do nothing to a completion.
        form: How the beginning of a chat is written for the policy.

    Raises:
        ServiceError: the port cannot be opened.
    """
    shared_faults = faults or Faults(FaultSettings())
    handler = _Handler(
        policy, drops_stop_string, ignores_stop, gives_stop_reason, fails, shared_faults
    )
    application = web.Application(client_max_size=_MAX_BODY_BYTES)
    application.router.add_post("/v1/completions", handler.completions)
    chat = ChatHandler(policy, personality, shared_faults, fails, form or PromptForm())
    application.router.add_post("/v1/chat/completions", chat.answer)
    if chat.manners.continues is Continues.PREFIX:
        application.router.add_post(BETA_PAGE, chat.answer)
    application.router.add_get("/v1/models", handler.models)
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        yield await _listen(runner, host, port)
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> str:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {host}:{port}",
            got=error.strerror or error,
            fix="choose another port, or 0 for a free one",
        ) from error
    return f"http://{host}:{runner.addresses[0][1]}/v1"


@dataclass(frozen=True, slots=True)
class _Handler:
    policy: Policy
    drops_stop_string: bool
    ignores_stop: bool
    gives_stop_reason: bool
    fails: Fails | None
    faults: Faults

    async def models(self, http_request: web.Request) -> web.Response:
        """List the one model."""
        failure = self.fails(http_request, {}) if self.fails else None
        listed = {"id": self.policy.name, "object": "model", "created": 0, "owned_by": "coa"}
        return failure or web.json_response({"object": "list", "data": [listed]})

    async def completions(self, http_request: web.Request) -> web.StreamResponse:
        """Continue one prompt."""
        try:
            body = await http_request.json()
            request = _read(body, ignores_stop=self.ignores_stop)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return error_response(400, f"cannot read the request: {error!r}")
        failure = self.fails(http_request, body) if self.fails else None
        if failure is not None:
            return failure
        if body["model"] != self.policy.name:
            return error_response(404, f"The model `{body['model']}` does not exist.")
        kind = await self.faults.choose(await http_request.read())
        refusal = await self.faults.refuse(kind, http_request)
        if refusal is not None:
            return refusal
        completion = await complete_or_refuse(self.policy, request)
        if isinstance(completion, web.Response):
            return completion
        reply = self._write(body, request, completion)
        self.faults.spoil(kind, reply)
        return await self.faults.send(kind, http_request, reply, before=b"")

    def _write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        stop = _stop_string(request, completion)
        text = completion.text
        if self.drops_stop_string and not body.get("include_stop_str_in_output"):
            text = text.removesuffix(stop)
        choice: dict[str, Any] = {
            "index": 0,
            "text": text,
            "finish_reason": "length" if completion.finish is Finish.LENGTH else "stop",
            "logprobs": None,
        }
        if self.gives_stop_reason:
            choice["stop_reason"] = stop or None
        if body.get("return_token_ids"):
            choice["token_ids"] = completion.ids
        return {
            "id": "cmpl-0",
            "object": "text_completion",
            "created": 0,
            "model": self.policy.name,
            "choices": [choice],
            "usage": self._usage(request, completion),
        }

    def _usage(self, request: Request, completion: Completion) -> dict[str, Any]:
        """Count the tokens of a call as OpenAI does; `cost` is OpenRouter's addition."""
        num_context_tokens = completion.num_context_tokens
        if num_context_tokens is None:
            num_context_tokens = self.policy.count_tokens(request.context)
        usage: dict[str, Any] = {
            "prompt_tokens": num_context_tokens,
            "completion_tokens": completion.num_tokens,
            "total_tokens": num_context_tokens + completion.num_tokens,
        }
        reported = completion.usage
        if reported is None:
            return usage
        usage["prompt_tokens_details"] = {"cached_tokens": reported.cached_tokens}
        usage["completion_tokens_details"] = {"reasoning_tokens": reported.reasoning_tokens}
        if reported.dollars is not None:
            usage["cost"] = reported.dollars
        return usage


def _stop_string(request: Request, completion: Completion) -> str:
    """Find the stop string that ended the completion; empty where none did."""
    if completion.finish is Finish.STOP:
        for stop in request.stop:
            if completion.text.endswith(stop):
                return stop
    return ""


def _read(body: Mapping[str, Any], *, ignores_stop: bool) -> Request:
    """Read the request in the body of a call; `prompt` is a text or a list of token ids."""
    prompt = body["prompt"]
    is_text = isinstance(prompt, str)
    stop = body.get("stop") or ()
    if ignores_stop:
        stop = ()
    elif isinstance(stop, str):
        stop = (stop,)
    return Request(
        context=prompt if is_text else "",
        stop=tuple(stop),
        max_tokens=int(body.get("max_tokens", _DEFAULT_MAX_TOKENS)),
        temperature=float(body.get("temperature", 1.0)),
        top_p=float(body.get("top_p", 1.0)),
        seed=int(body.get("seed") or 0),
        context_ids=None if is_text else tuple(int(token) for token in prompt),
    )
