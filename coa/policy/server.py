"""Any policy as an OpenAI-compatible server: for tests, and to try the client without a GPU.

    async with serve(ScriptedPolicy(["..."])) as base_url: ...

It answers `POST /v1/completions` and `GET /v1/models` over real sockets, and takes on the manners of the servers found
in the field: the stop string dropped (vLLM, OpenAI), kept (`transformers serve`) or ignored (the same, with continuous
batching). Not meant to serve a model in earnest: nothing is batched.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from coa.errors import ServiceError
from coa.policy import Completion, Finish, Policy, Request, RequestError

Fails = Callable[[web.Request, Mapping[str, Any]], web.Response | None]
"""Asked first, with the HTTP request and its JSON body: the response to give in the policy's stead, or None."""

_MAX_BODY_BYTES = 64 * 1024**2
_DEFAULT_MAX_TOKENS = 16
"""What the protocol says for a request that names no limit."""
_SHUTDOWN_SECONDS = 1.0
"""How long a request in hand may go on when the server closes."""


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
) -> AsyncIterator[str]:
    """Serve `policy` under its name and yield the base URL, `http://host:port/v1`; port 0 means any free one.

    `gives_stop_reason` adds vLLM's `stop_reason` to each choice; `ignores_stop` lets the policy write on past the stop
    strings; `fails` answers in its stead. A request that asks for `include_stop_str_in_output` or `return_token_ids`
    is heeded as by vLLM.

    Raises:
        ServiceError: the port cannot be opened.
    """
    handler = _Handler(policy, drops_stop_string, ignores_stop, gives_stop_reason, fails)
    application = web.Application(client_max_size=_MAX_BODY_BYTES)
    application.router.add_post("/v1/completions", handler.completions)
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
        what = f"cannot listen on {host}:{port}"
        raise ServiceError(
            what, got=error.strerror or error, fix="choose another port, or 0 for a free one"
        ) from error
    return f"http://{host}:{runner.addresses[0][1]}/v1"


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """An error as OpenAI-compatible servers send it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": status}}
    return web.json_response(body, status=status, headers=headers)


@dataclass(frozen=True, slots=True)
class _Handler:
    policy: Policy
    drops_stop_string: bool
    ignores_stop: bool
    gives_stop_reason: bool
    fails: Fails | None

    async def models(self, http_request: web.Request) -> web.Response:
        """List the one model."""
        failure = self.fails(http_request, {}) if self.fails else None
        listed = {"id": self.policy.name, "object": "model", "created": 0, "owned_by": "coa"}
        return failure or web.json_response({"object": "list", "data": [listed]})

    async def completions(self, http_request: web.Request) -> web.Response:
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
        try:
            completion = await self.policy.complete(request)
        except RequestError as error:
            return error_response(400, str(error))
        except ServiceError as error:
            return error_response(503, str(error))
        return web.json_response(self._write(body, request, completion))

    def _write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        stop = next((item for item in request.stop if completion.text.endswith(item)), "")
        stopped = stop if completion.finish is Finish.STOP else ""
        drops = self.drops_stop_string and not body.get("include_stop_str_in_output")
        choice: dict[str, Any] = {
            "index": 0,
            "text": completion.text.removesuffix(stopped) if drops else completion.text,
            "finish_reason": "length" if completion.finish is Finish.LENGTH else "stop",
            "logprobs": None,
        }
        if self.gives_stop_reason:
            choice["stop_reason"] = stopped or None
        if body.get("return_token_ids"):
            choice["token_ids"] = completion.ids
        num_context_tokens = completion.num_context_tokens
        if num_context_tokens is None:
            num_context_tokens = self.policy.count_tokens(request.context)
        usage = {
            "prompt_tokens": num_context_tokens,
            "completion_tokens": completion.num_tokens,
            "total_tokens": num_context_tokens + completion.num_tokens,
        }
        answer = {
            "id": "cmpl-0",
            "object": "text_completion",
            "created": 0,
            "model": self.policy.name,
        }
        return {**answer, "choices": [choice], "usage": usage}


def _read(body: Mapping[str, Any], *, ignores_stop: bool) -> Request:
    """The request in the body of a call; `prompt` is a text or a list of token ids."""
    prompt, stop = body["prompt"], body.get("stop") or ()
    is_text = isinstance(prompt, str)
    return Request(
        context=prompt if is_text else "",
        stop=() if ignores_stop else (stop,) if isinstance(stop, str) else tuple(stop),
        max_tokens=int(body.get("max_tokens", _DEFAULT_MAX_TOKENS)),
        temperature=float(body.get("temperature", 1.0)),
        top_p=float(body.get("top_p", 1.0)),
        seed=int(body.get("seed") or 0),
        context_ids=None if is_text else tuple(int(token) for token in prompt),
    )
