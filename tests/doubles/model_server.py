"""Serve any policy in the manners of several servers, and let it fail as they do.

    async with serve(ScriptedPolicy(["..."]), personality=Personality.DEEPSEEK) as base_url: ...

It is `coa.policy.server` with other manners: the stop string of a completion is dropped (vLLM,
OpenAI), kept (`transformers serve`) or ignored (the same, with continuous batching), and chat has a
personality. The personalities were read in the servers' documentation and sources; to add one,
write a value of `Personality` and its `Manners`.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from coa.policy import Completion, Policy, Request
from coa.policy.server import (
    MAX_BODY_BYTES,
    ChatPage,
    CompletionsPage,
    Refused,
    add_pages,
    listen,
    named_tool,
)
from coa.records import protocol
from tests.doubles.faults import FaultKind, Faults, FaultSettings

BETA_PAGE = "/beta/chat/completions"
"""Where DeepSeek goes on from a message that is only begun."""
PRICE_OF_A_TOKEN = 1e-6
"""Dollars, for the personality that tells the cost."""

Fails = Callable[[web.Request, Mapping[str, Any]], web.Response | None]
"""A function that is called first, with the HTTP request and its JSON body.

It returns the response to send instead of the policy's, or None.
"""
Message = dict[str, Any]


class Personality(StrEnum):
    """A kind of chat server."""

    VLLM = "vllm"
    """Shows `reasoning`, and takes `reasoning_content` for it in messages."""
    SGLANG = "sglang"
    """Shows `reasoning_content`."""
    DEEPSEEK = "deepseek"
    """Shows `reasoning_content`, wants it back, and sends blank lines to keep alive."""
    OPENROUTER = "openrouter"
    """Shows `reasoning` and signed `reasoning_details`, wants the details back, tells the cost."""
    PLAIN = "plain"
    """Shows no reasoning."""


@dataclass(frozen=True, slots=True)
class Manners:
    """The manners of one personality."""

    shows: str
    """The field of a message with the reasoning; empty where none is shown."""
    takes: tuple[str, ...]
    """Fields of earlier messages in which reasoning comes back; the first that is there counts."""
    wants_reasoning: bool = False
    """Whether earlier reasoning must come back: else status 400."""
    has_details: bool = False
    """Whether the reasoning also comes as signed details, which must come back unchanged."""
    keeps_alive: bool = False
    """Whether blank lines come before the reply."""
    keeps_blanks: bool = False
    """Whether the blank lines before an answer stay in its content."""
    continues_prefix: bool = False
    """Whether it goes on from a message with `prefix: true`, at an address that ends with
    `/beta`."""
    forces_calls: bool = True
    """Whether `tool_choice` may name a tool: else status 400."""
    counts_cache_hits: bool = False
    """Whether it counts cached tokens as DeepSeek does."""
    tells_cost: bool = False
    """Whether the usage has dollars."""


MANNERS: Mapping[Personality, Manners] = {
    Personality.VLLM: Manners(
        shows="reasoning",
        takes=("reasoning", "reasoning_content"),
        keeps_blanks=True,
    ),
    Personality.SGLANG: Manners(shows="reasoning_content", takes=("reasoning_content",)),
    Personality.DEEPSEEK: Manners(
        shows="reasoning_content",
        takes=("reasoning_content",),
        wants_reasoning=True,
        keeps_alive=True,
        continues_prefix=True,
        forces_calls=False,
        counts_cache_hits=True,
    ),
    Personality.OPENROUTER: Manners(
        shows="reasoning", takes=("reasoning",), has_details=True, tells_cost=True
    ),
    Personality.PLAIN: Manners(shows="", takes=()),
}


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
) -> AsyncIterator[str]:
    """Serve `policy` under its name and yield the base URL, `http://host:port/v1`.

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
    """
    manners = MANNERS[personality]
    chat = PersonalChat(policy, manners)
    trouble = Trouble(faults or Faults(FaultSettings()), fails, chat)
    application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[trouble.answer])
    completions = OddCompletions(
        policy, drops_stop_string, ignores_stop=ignores_stop, gives_stop_reason=gives_stop_reason
    )
    add_pages(application, completions, chat)
    if manners.continues_prefix:
        application.router.add_post(BETA_PAGE, chat.at_beta().answer)
    async with listen(application, host, port) as base_url:
        yield base_url


class Trouble:
    """The middleware that fails in the place of a page, or spoils its reply."""

    def __init__(self, faults: Faults, fails: Fails | None, chat: "PersonalChat") -> None:
        self._faults = faults
        self._fails = fails
        self._chat = chat

    @web.middleware
    async def answer(self, http_request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer as the page does, or worse."""
        if http_request.match_info.http_exception is not None:
            return await handler(http_request)
        is_listing = http_request.method == "GET"
        try:
            body = {} if is_listing else await http_request.json()
        except ValueError:
            return await handler(http_request)
        failure = self._fails(http_request, body) if self._fails else None
        if failure is not None:
            return failure
        if is_listing:
            return await handler(http_request)
        kind = await self._faults.choose(await http_request.read())
        refusal = await self._faults.refuse(kind, http_request)
        if refusal is not None:
            return refusal
        response = await handler(http_request)
        if not isinstance(response, web.Response) or response.status != 200:
            return response
        reply = json.loads(response.text or "")
        self._faults.spoil(kind, reply)
        if kind is FaultKind.NO_REASONING:
            for call in reply["choices"][0].get("message", {}).get("tool_calls", ()):
                self._chat.hidden[call["id"]] = ""
        is_chat = http_request.path.endswith("/chat/completions")
        before = b"\n\n" if is_chat and self._chat.manners.keeps_alive else b""
        return await self._faults.send(kind, http_request, reply, before)


class OddCompletions(CompletionsPage):
    """A page of completions with other manners than vLLM's."""

    def __init__(
        self,
        policy: Policy,
        drops_stop_string: bool,
        *,
        ignores_stop: bool,
        gives_stop_reason: bool,
    ) -> None:
        super().__init__(policy)
        self._drops_stop_string = drops_stop_string
        self._ignores_stop = ignores_stop
        self._gives_stop_reason = gives_stop_reason

    def read(self, body: Mapping[str, Any]) -> Request:
        """Read a request, perhaps without its stop strings."""
        request = super().read(body)
        return replace(request, stop=()) if self._ignores_stop else request

    def write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        """Write the reply."""
        if not self._drops_stop_string:
            body = {**body, "include_stop_str_in_output": True}
        reply = super().write(body, request, completion)
        if not self._gives_stop_reason:
            del reply["choices"][0]["stop_reason"]
        return reply


class PersonalChat(ChatPage):
    """A page of chat with a personality: requests become vLLM's, and vLLM's replies become its."""

    def __init__(self, policy: Policy, manners: Manners) -> None:
        super().__init__(policy)
        self.manners = manners
        self.hidden: dict[str, str] = {}
        """The reasoning by the id of the call after it: where it is not shown, the policy needs it
        again."""
        self.is_beta = False

    def at_beta(self) -> "PersonalChat":
        """Return the page at the address for messages that are only begun."""
        page = PersonalChat(self.policy, self.manners)
        page.hidden, page.written, page.is_beta = self.hidden, self.written, True
        return page

    def read(self, body: Mapping[str, Any]) -> Request:
        """Write the conversation as the context of the policy's next turn."""
        if named_tool(body) and not self.manners.forces_calls:
            raise Refused("a model that thinks does not support this tool_choice")
        messages = [dict(message) for message in body["messages"]]
        begun = ""
        if self.manners.continues_prefix and messages[-1].get("prefix"):
            begun = self._begun(messages.pop())
        for message in messages:
            if message["role"] == "assistant":
                self._take_reasoning(message)
                calls = message.get("tool_calls") or []
                message["tool_calls"] = [call for call in calls if not _is_second(call["id"])]
        kept = [it for it in messages if not _is_second(it.get("tool_call_id", ""))]
        request = super().read({**body, "messages": kept})
        return replace(request, context=request.context + begun)

    def _begun(self, message: Message) -> str:
        if not self.is_beta:
            raise Refused("prefix is a beta feature: the base_url must end with /beta")
        answer = message.get("content") or ""
        closed = f"{protocol.THINK_CLOSE}{answer}" if answer else ""
        return f"{message.get(self.manners.shows) or ''}{closed}"

    def _take_reasoning(self, message: Message) -> None:
        """Put an earlier message's reasoning where vLLM takes it, or refuse one without it."""
        calls = message.get("tool_calls") or []
        wanted = self.hidden.get(calls[0]["id"], "unknown") if calls else ""
        if self.manners.wants_reasoning and wanted and not message.get(self.manners.shows):
            raise Refused(f"the {self.manners.shows} of earlier turns must be passed back")
        if self.manners.has_details:
            _require_signed(message)
        given = [message[name] for name in self.manners.takes if message.get(name)]
        if calls and not self.manners.shows:
            given = [self.hidden.get(calls[0]["id"], "")]
        message.pop("reasoning_content", None)
        message["reasoning"] = given[0] if given else ""

    def write(
        self, body: Mapping[str, Any], request: Request, completion: Completion
    ) -> dict[str, Any]:
        """Write the reply."""
        reply = super().write(body, request, completion)
        message = reply["choices"][0]["message"]
        reasoning = message.pop("reasoning", "")
        for call in message.get("tool_calls", ()):
            self.hidden[call["id"]] = reasoning
        if reasoning and self.manners.shows:
            message[self.manners.shows] = reasoning
        if reasoning and self.manners.has_details:
            message["reasoning_details"] = [_signed(reasoning)]
        if message["content"] and not self.manners.keeps_blanks:
            message["content"] = message["content"].lstrip("\n") or None
        usage = reply["usage"]
        if self.manners.counts_cache_hits:
            del usage["prompt_tokens_details"]
            hit = usage["prompt_tokens"] // 64 * 64  # its cache counts in blocks of 64 tokens
            usage["prompt_cache_hit_tokens"] = hit
            usage["prompt_cache_miss_tokens"] = usage["prompt_tokens"] - hit
        if self.manners.tells_cost:
            usage["cost"] = usage["total_tokens"] * PRICE_OF_A_TOKEN
        return reply


def _is_second(call_id: str) -> bool:
    """Tell whether `FaultKind.PARALLEL_CALLS` made the call: the policy knows nothing of it."""
    return call_id.endswith("-2")


def _signed(reasoning: str) -> dict[str, Any]:
    return {
        "type": "reasoning.text",
        "text": reasoning,
        "signature": f"signed-{len(reasoning)}",
        "id": "rs_0",
        "index": 0,
    }


def _require_signed(message: Message) -> None:
    """Refuse details that were lost or changed."""
    details = message.get("reasoning_details") or []
    if not details and message.get("reasoning"):
        raise Refused("reasoning_details must be passed back")
    for part in details:
        if part.get("type") == "reasoning.text" and part != _signed(part["text"]):
            raise Refused("the signature of reasoning_details is not valid")
