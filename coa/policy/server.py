"""Serve a policy as an OpenAI-compatible server: `coa rehearse` is its command.

    async with serve(ScriptedPolicy(["..."])) as base_url: ...

It answers `POST /v1/completions`, `POST /v1/chat/completions` and `GET /v1/models` over real
sockets, in the manners of vLLM: completions are continued with or without token ids, and chat shows
its reasoning. It is for rehearsals and tests, not for production: nothing is batched.

In chat, a conversation is turned into a context in our tags, the policy continues it, and what it
wrote is turned into a message with reasoning, a call or an answer.
"""

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from coa.errors import InputError, ServiceError
from coa.policy import Completion, Finish, Policy, Request, RequestError
from coa.policy.chat.messages import ARGUMENT
from coa.policy.chat.replies import argument_of, object_text
from coa.policy.react import THINKING_OPENED
from coa.records import protocol
from coa.records.trajectory import StepKind

MAX_BODY_BYTES = 64 * 1024**2
_DEFAULT_MAX_TOKENS = 16
"""The protocol's limit for a completion whose request names none."""
_DEFAULT_CHAT_TOKENS = 4096
_SHUTDOWN_SECONDS = 1.0
"""How long a running request may take when the server closes."""


class Refused(Exception):
    """A request that the server refuses with status 400."""


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a conversation's beginning is written for the policy: what a model's template does."""

    chat_template: str = "{prompt}\n{tools}\n"
    """The context up to the opening of the thinking. `{prompt}` is what system and user said,
    `{tools}` has a line for each tool that is offered. A student that was trained on one prompt
    needs its own: `{prompt}\\n\\n`."""
    known_tools: tuple[str, ...] = ()
    """Tools whose calls end a turn even where they are not offered, because the policy was trained
    to call them."""


@asynccontextmanager
async def serve(
    policy: Policy,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    form: PromptForm | None = None,
    latency_seconds: float = 0.0,
) -> AsyncIterator[str]:
    """Serve `policy` under its name and yield the base URL, `http://host:port/v1`.

    Port 0 is any free one. `latency_seconds` is the mean time that a reply takes beyond the
    policy's own. A port that cannot be opened is a `ServiceError`.
    """

    @web.middleware
    async def wait(request: web.Request, handler: Handler) -> web.StreamResponse:
        # A body waits as long in every run, so that two runs can be compared.
        chance = random.Random(await request.read())
        await asyncio.sleep(chance.expovariate(1 / latency_seconds))
        return await handler(request)

    middlewares = [wait] if latency_seconds else []
    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=middlewares)
    add_pages(application, CompletionsPage(policy), ChatPage(policy, form))
    async with listen(application, host, port) as base_url:
        yield base_url


def add_pages(application: web.Application, completions: "Page", chat: "Page") -> None:
    """Add the addresses of a policy's server."""
    application.router.add_post("/v1/completions", completions.answer)
    application.router.add_post("/v1/chat/completions", chat.answer)
    application.router.add_get("/v1/models", completions.models)


@asynccontextmanager
async def listen(application: web.Application, host: str, port: int) -> AsyncIterator[str]:
    """Answer requests and yield the base URL."""
    runner = web.AppRunner(
        application, access_log=None, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ServiceError(
                f"cannot listen on {host}:{port}",
                got=error.strerror or error,
                fix="choose another port, or 0 for a free one",
            ) from error
        yield f"http://{host}:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def error_response(
    status: int, message: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Make an error response as OpenAI-compatible servers send it."""
    body = {"error": {"message": message, "type": "error", "param": None, "code": status}}
    return web.json_response(body, status=status, headers=headers)


class Page:
    """A page that answers requests with what the policy writes."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    async def answer(self, http_request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        try:
            body = await http_request.json()
            if body["model"] != self.policy.name:
                return error_response(404, f"The model `{body['model']}` does not exist.")
            request = self.read(body)
        except Refused as refused:
            return error_response(400, str(refused))
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as odd:
            return error_response(400, f"cannot read the request: {odd!r}")
        try:
            completion = await self.policy.complete(request)
        except (RequestError, InputError) as error:
            return error_response(400, str(error))
        except ServiceError as error:
            return error_response(503, str(error))
        return web.json_response(self.write(body, request, completion))

    async def models(self, http_request: web.Request) -> web.StreamResponse:
        """List the one model."""
        listed = {"id": self.policy.name, "object": "model", "created": 0, "owned_by": "coa"}
        return web.json_response({"object": "list", "data": [listed]})

    def read(self, body: Mapping[str, Any]) -> Request:
        """Read the request of the policy in the body of an HTTP request, or raise `Refused`."""
        raise NotImplementedError

    def write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        """Write the reply."""
        raise NotImplementedError

    def usage(self, request: Request, completion: Completion) -> dict[str, Any]:
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
        if reported is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": reported.cached_tokens}
            usage["completion_tokens_details"] = {"reasoning_tokens": reported.reasoning_tokens}
            if reported.dollars is not None:
                usage["cost"] = reported.dollars
        return usage


class CompletionsPage(Page):
    """The page `/v1/completions`.

    As with vLLM, a request may ask for `include_stop_str_in_output` and `return_token_ids`.
    """

    def read(self, body: Mapping[str, Any]) -> Request:
        """Read a request; `prompt` is a text or a list of token ids."""
        prompt = body["prompt"]
        is_text = isinstance(prompt, str)
        stop = body.get("stop") or ()
        return Request(
            context=prompt if is_text else "",
            stop=(stop,) if isinstance(stop, str) else tuple(stop),
            max_tokens=int(body.get("max_tokens", _DEFAULT_MAX_TOKENS)),
            temperature=float(body.get("temperature", 1.0)),
            top_p=float(body.get("top_p", 1.0)),
            seed=int(body.get("seed") or 0),
            context_ids=None if is_text else tuple(int(token) for token in prompt),
        )

    def write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        """Write the reply, whose text is without its stop string unless that was asked for."""
        stop = ""
        if completion.finish is Finish.STOP:
            stop = next((it for it in request.stop if completion.text.endswith(it)), "")
        text = completion.text
        if not body.get("include_stop_str_in_output"):
            text = text.removesuffix(stop)
        choice: dict[str, Any] = {
            "index": 0,
            "text": text,
            "finish_reason": "length" if completion.finish is Finish.LENGTH else "stop",
            "logprobs": None,
            "stop_reason": stop or None,
        }
        if body.get("return_token_ids"):
            choice["token_ids"] = completion.ids
        return {
            "id": "cmpl-0",
            "object": "text_completion",
            "created": 0,
            "model": self.policy.name,
            "choices": [choice],
            "usage": self.usage(request, completion),
        }


class Parts(NamedTuple):
    """The parts of a message."""

    reasoning: str
    content: str = ""
    tool: str = ""
    argument: str = ""


class ChatPage(Page):
    """The page `/v1/chat/completions`, as vLLM answers with a tool parser and a reasoning parser.

    Each message makes one call at most.
    """

    def __init__(self, policy: Policy, form: PromptForm | None = None) -> None:
        super().__init__(policy)
        self.form = form or PromptForm()
        self.written: dict[tuple[str, str], str] = {}
        """Turns as the policy wrote them, by the call's id and what its message says: the blanks
        around a query are lost in a message."""

    # From messages to a context

    def read(self, body: Mapping[str, Any]) -> Request:
        """Write the conversation as the context of the policy's next turn.

        What a real server would refuse is `Refused`.
        """
        if body.get("stream"):
            raise Refused("this server does not stream")
        system = list(takewhile(lambda it: it["role"] == "system", body["messages"]))
        first, *rest = body["messages"][len(system) :]
        tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if body.get("tool_choice") == "none":
            tools = []
        prompt = "\n".join(message["content"] for message in (*system, first))
        offered = self.form.chat_template.replace("{tools}", _offer(tools))
        context = offered.replace("{prompt}", prompt) + THINKING_OPENED
        context += self._conversation(rest)
        named = named_tool(body)
        if named and named not in tools:
            raise Refused(f"tool_choice names {named}, which is not among the tools")
        ending = dict.fromkeys((*tools, *self.form.known_tools))
        if named:
            context += protocol.open_tag(named)
            ending = {named: None}
        if context.endswith(protocol.ANSWER_MARKER):
            ending = {}
        return Request(
            context=context,
            stop=tuple(protocol.close_tag(tool) for tool in ending),
            max_tokens=int(body.get("max_tokens", _DEFAULT_CHAT_TOKENS)),
            temperature=float(body.get("temperature", 1.0)),
            top_p=float(body.get("top_p", 1.0)),
            seed=int(body.get("seed") or 0),
        )

    def _conversation(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Write the messages after the question; each call must have its result."""
        context = ""
        call: Mapping[str, Any] | None = None
        for message in messages:
            if message["role"] != "tool" and call:
                raise Refused("an assistant message with tool_calls must be followed by results")
            if message["role"] == "assistant":
                call = (message.get("tool_calls") or [None])[0]
                context += self._said(message)
            elif message["role"] == "tool":
                if call is None:
                    raise Refused("a tool result has no call before it")
                if message["tool_call_id"] != call["id"]:
                    raise Refused(f"the call {call['id']} has no result")
                context += protocol.observation_text(call["function"]["name"], message["content"])
                call = None
            else:
                context += protocol.ANSWER_MARKER
        if call:
            raise Refused("a tool call has no result")
        return context

    def _said(self, message: Mapping[str, Any]) -> str:
        """Write an earlier message of the policy."""
        reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
        said = reasoning + (message.get("content") or "")
        calls = message.get("tool_calls") or []
        if not calls:
            return said
        if len(calls) > 1:
            raise Refused("this server takes one call a message, as it makes them")
        said += _call_text(calls[0])
        return self.written.get((calls[0]["id"], said), said)

    # From a text to a message

    def write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        """Write what the policy wrote as a reply with one message."""
        if request.context.endswith(protocol.ANSWER_MARKER):
            # The policy went on after the marker.
            parts = Parts("", protocol.ANSWER_MARKER.rpartition("\n")[2] + completion.text)
        else:
            parts = _read_turn(completion.text, named_tool(body))
        message: dict[str, Any] = {"role": "assistant", "content": parts.content or None}
        if parts.tool:
            # Named after the context that it follows, so that two runs have the same ids.
            call_id = f"call_{hashlib.sha256(request.context.encode()).hexdigest()[:12]}"
            arguments = object_text(parts.argument) or json.dumps({ARGUMENT: parts.argument})
            function = {"name": parts.tool, "arguments": arguments}
            call = {"id": call_id, "type": "function", "function": function}
            message["tool_calls"] = [call]
            self.written[call_id, parts.reasoning + _call_text(call)] = completion.text
        if parts.reasoning:
            message["reasoning"] = parts.reasoning
        ended = "tool_calls" if parts.tool else "stop"
        if completion.finish is Finish.LENGTH:
            ended = "length"
        usage = {"prompt_tokens_details": {"cached_tokens": 0}, **self.usage(request, completion)}
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": self.policy.name,
            "choices": [{"index": 0, "message": message, "finish_reason": ended}],
            "usage": usage,
        }


def named_tool(body: Mapping[str, Any]) -> str:
    """Return the tool that must be called; empty where the policy is free."""
    choice = body.get("tool_choice")
    return str(choice["function"]["name"]) if isinstance(choice, dict) else ""


def _read_turn(text: str, called: str) -> Parts:
    """Read a turn in our tags; `called` is the tool that had to be called."""
    reasoning = ""
    for step in protocol.parse_policy(text, triggered_tool=called):
        if step.kind is StepKind.ACTION:
            return Parts(reasoning, tool=step.tool or "", argument=step.argument or "")
        if step.kind is StepKind.ANSWER:
            return Parts(reasoning, step.text.removeprefix(protocol.THINK_CLOSE))
        reasoning += step.text
    return Parts(reasoning)


def _offer(tools: Sequence[str]) -> str:
    """Tell a policy that knows our tags which tools there are."""
    lines = [f"{protocol.open_tag(tool)} {ARGUMENT} {protocol.close_tag(tool)}" for tool in tools]
    return "".join(f"Call a tool like this: {line}\n" for line in lines)


def _call_text(call: Mapping[str, Any]) -> str:
    """Write a call in our tags."""
    tool = call["function"]["name"]
    arguments = call["function"]["arguments"]
    argument = argument_of(arguments) or ""
    if ARGUMENT not in arguments:
        argument = object_text(arguments) or ""
    return f"{protocol.open_tag(tool)} {argument} {protocol.close_tag(tool)}"
