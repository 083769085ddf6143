"""Answer chat requests with any policy behind them (`coa.policy.server.app`).

A conversation is turned into a context in our tags, the policy continues it, and what it wrote is
turned into a message with reasoning, calls and content, in the manners of a `Personality`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from aiohttp import web

from coa import protocol
from coa.policy import Completion, Finish, Policy, Request
from coa.policy.chat.messages import ARGUMENT
from coa.policy.chat.replies import argument_of, object_text
from coa.policy.react import THINKING_OPENED
from coa.policy.server.fault_kinds import FaultKind
from coa.policy.server.faults import Fails, Faults, complete_or_refuse, error_response
from coa.policy.server.personalities import MANNERS, Continues, Manners, Personality
from coa.trajectory import StepKind

BETA_PAGE = "/beta/chat/completions"
"""Where DeepSeek goes on from a message that is only begun."""
_DEFAULT_MAX_TOKENS = 4096


class Refused(Exception):
    """A conversation that the server refuses with status 400."""


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


@dataclass(slots=True)
class ChatHandler:
    """The page `/v1/chat/completions` of one policy."""

    policy: Policy
    personality: Personality
    faults: Faults
    fails: Fails | None = None
    form: PromptForm = PromptForm()
    hidden: dict[str, str] = field(default_factory=dict)
    """Reasoning that is not shown, by the id of the call after it: the policy needs it again."""
    written: dict[tuple[str, str], str] = field(default_factory=dict)
    """Turns as the policy wrote them, by the call's id and what its message says: the blanks around
    a query are lost in a message."""

    @property
    def manners(self) -> Manners:
        """Return the manners of the personality."""
        return MANNERS[self.personality]

    async def answer(self, http_request: web.Request) -> web.StreamResponse:
        """Answer one conversation."""
        try:
            body = await http_request.json()
            failure = self.fails(http_request, body) if self.fails else None
            if failure is not None:
                return failure
            if body["model"] != self.policy.name:
                return error_response(404, f"The model `{body['model']}` does not exist.")
            request = self.to_request(body, is_beta=http_request.path == BETA_PAGE)
        except Refused as refused:
            return error_response(400, str(refused))
        except (ValueError, TypeError, KeyError, AttributeError) as odd:
            return error_response(400, f"cannot read the request: {odd!r}")
        kind = await self.faults.choose(await http_request.read())
        refusal = await self.faults.refuse(kind, http_request)
        if refusal is not None:
            return refusal
        completion = await complete_or_refuse(self.policy, request)
        if isinstance(completion, web.Response):
            return completion
        reply = self.to_reply(completion, request, body)
        self.faults.spoil(kind, reply)
        if kind is FaultKind.NO_REASONING and reply["choices"][0]["message"].get("tool_calls"):
            self.hidden[_call_id(request.context)] = ""
        before = b"\n\n" if self.manners.keeps_alive else b""
        return await self.faults.send(kind, http_request, reply, before)

    # From messages to a context

    def to_request(self, body: Mapping[str, Any], *, is_beta: bool = False) -> Request:
        """Write the conversation as the context of the policy's next turn."""
        if body.get("stream"):
            raise Refused("this server does not stream")
        system = list(takewhile(_is_of_system, body["messages"]))
        first, *rest = body["messages"][len(system) :]
        tools = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if body.get("tool_choice") == "none":
            tools = []
        prompt = "\n".join(message["content"] for message in (*system, first))
        offered = self.form.chat_template.replace("{tools}", _offer(tools))
        context = offered.replace("{prompt}", prompt) + THINKING_OPENED
        begun = self._take_begun(rest, body, is_beta=is_beta)
        awaited: list[Mapping[str, Any]] = []
        for message in rest:
            if message["role"] != "tool" and awaited:
                raise Refused("an assistant message with tool_calls must be followed by results")
            if message["role"] == "assistant":
                context += self._said(message)
                awaited = list(message.get("tool_calls") or ())
            elif message["role"] == "tool":
                context += _result(message, awaited)
            else:
                context += protocol.ANSWER_MARKER
        if awaited:
            raise Refused("a tool call has no result")
        context += begun
        named = _named_tool(body)
        self._require_callable(named, tools)
        ending = dict.fromkeys((*tools, *self.form.known_tools))
        if named:
            context += protocol.open_tag(named)
            ending = {named: None}
        if context.endswith(protocol.ANSWER_MARKER):
            ending = {}
        return Request(
            context=context,
            stop=tuple(protocol.close_tag(tool) for tool in ending),
            max_tokens=int(body.get("max_tokens", _DEFAULT_MAX_TOKENS)),
            temperature=float(body.get("temperature", 1.0)),
            top_p=float(body.get("top_p", 1.0)),
            seed=int(body.get("seed") or 0),
        )

    def _take_begun(
        self, messages: list[Mapping[str, Any]], body: Mapping[str, Any], *, is_beta: bool
    ) -> str:
        """Take off a last message that the policy is to go on from, and return its text."""
        last = messages[-1] if messages else {}
        if self.manners.continues is Continues.PREFIX and last.get("prefix"):
            if not is_beta:
                raise Refused("prefix is a beta feature: the base_url must end with /beta")
            messages.pop()
            answer = last.get("content") or ""
            closed = f"{protocol.THINK_CLOSE}{answer}" if answer else ""
            return f"{last.get(self.manners.shows) or ''}{closed}"
        if _goes_on(body) and self.manners.continues is Continues.FINAL_MESSAGE:
            if body.get("add_generation_prompt", True):
                raise Refused("continue_final_message excludes add_generation_prompt")
            messages.pop()
            return str(last["content"]).removeprefix(THINKING_OPENED)
        return ""

    def _require_callable(self, named: str, tools: Sequence[str]) -> None:
        if named and not self.manners.forces_calls:
            raise Refused("a model that thinks does not support this tool_choice")
        if named and named not in tools:
            raise Refused(f"tool_choice names {named}, which is not among the tools")

    def _said(self, message: Mapping[str, Any]) -> str:
        """Write an earlier message of the policy, or refuse one without its reasoning."""
        calls = message.get("tool_calls") or []
        given = message.get(self.manners.shows)
        shown = self.hidden.get(calls[0]["id"], "unknown") if calls else ""
        if self.manners.wants_reasoning and shown and not given:
            raise Refused(f"the {self.manners.shows} of earlier turns must be passed back")
        if self.manners.has_details:
            _require_signed(message)
        reasoning = ""
        for name in reversed(self.manners.takes):
            reasoning = message.get(name) or reasoning
        if calls and not self.manners.shows:
            reasoning = self.hidden.get(calls[0]["id"], "")
        said = reasoning + (message.get("content") or "") + _first_call(calls)
        return self.written.get((calls[0]["id"], said), said) if calls else said

    # From a text to a message

    def to_reply(
        self, completion: Completion, request: Request, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write what the policy wrote as a reply with one message."""
        is_forced = request.context.endswith(protocol.ANSWER_MARKER)
        parts = _parts(completion, _named_tool(body))
        if is_forced:
            parts = _forced_parts(completion)
        if _goes_on(body) and self.manners.continues is Continues.FINAL_MESSAGE:
            parts = _misparsed(parts)
        message: dict[str, Any] = {"role": "assistant", "content": self._content(parts.content)}
        if parts.tool:
            call_id = _call_id(request.context)
            arguments = object_text(parts.argument) or json.dumps({ARGUMENT: parts.argument})
            function = {"name": parts.tool, "arguments": arguments}
            message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
            self.hidden[call_id] = parts.reasoning
            said = parts.reasoning + _first_call(message["tool_calls"])
            self.written[call_id, said] = completion.text
        if self.manners.shows and parts.reasoning:
            message[self.manners.shows] = parts.reasoning
        if self.manners.has_details and parts.reasoning:
            message["reasoning_details"] = [_signed(parts.reasoning)]
        ended = "tool_calls" if parts.tool else "stop"
        if completion.finish is Finish.LENGTH:
            ended = "length"
        return {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": self.policy.name,
            "choices": [{"index": 0, "message": message, "finish_reason": ended}],
            "usage": self._usage(completion, request),
        }

    def _content(self, answer: str) -> str | None:
        if not self.manners.keeps_blanks:
            answer = answer.lstrip("\n")
        return answer or None

    def _usage(self, completion: Completion, request: Request) -> dict[str, Any]:
        num_context_tokens = completion.num_context_tokens
        if num_context_tokens is None:
            num_context_tokens = self.policy.count_tokens(request.context)
        usage = {
            "prompt_tokens": num_context_tokens,
            "completion_tokens": completion.num_tokens,
            "total_tokens": num_context_tokens + completion.num_tokens,
        }
        return self.manners.usage(usage, completion)


class _Parts(NamedTuple):
    """The parts of a message."""

    reasoning: str
    content: str = ""
    tool: str = ""
    argument: str = ""


def _goes_on(body: Mapping[str, Any]) -> bool:
    """Return whether the policy is to go on from the last message, which is its own."""
    is_own = body["messages"][-1]["role"] == "assistant"
    return bool(body.get("continue_final_message")) and is_own


def _misparsed(parts: _Parts) -> _Parts:
    """Leave the reasoning in the content, as parsers do that find no beginning of a thought."""
    closed = f"{protocol.THINK_CLOSE}{parts.content}" if parts.content else ""
    return parts._replace(reasoning="", content=f"{parts.reasoning}{closed}")


def _named_tool(body: Mapping[str, Any]) -> str:
    """Return the tool that must be called; empty where the policy is free."""
    choice = body.get("tool_choice")
    return str(choice["function"]["name"]) if isinstance(choice, dict) else ""


def _parts(completion: Completion, called: str) -> _Parts:
    """Take a turn's text apart; `called` is the tool that had to be called."""
    reasoning = ""
    for step in protocol.parse_policy(completion.text, triggered_tool=called):
        if step.kind is StepKind.ACTION:
            return _Parts(reasoning, tool=step.tool or "", argument=step.argument or "")
        if step.kind is StepKind.ANSWER:
            return _Parts(reasoning, step.text.removeprefix(protocol.THINK_CLOSE))
        reasoning += step.text
    return _Parts(reasoning)


def _forced_parts(completion: Completion) -> _Parts:
    """Make the answer of a policy that goes on after the marker."""
    opening = protocol.ANSWER_MARKER.rpartition("\n")[2]
    return _Parts("", opening + completion.text)


def _is_of_system(message: Mapping[str, Any]) -> bool:
    return bool(message["role"] == "system")


def _offer(tools: Sequence[str]) -> str:
    """Tell a policy that knows our tags which tools there are."""
    lines = [f"{protocol.open_tag(tool)} {ARGUMENT} {protocol.close_tag(tool)}" for tool in tools]
    return "".join(f"Call a tool like this: {line}\n" for line in lines)


def _result(message: Mapping[str, Any], awaited: list[Mapping[str, Any]]) -> str:
    """Write a tool's result; only that of a message's first call is part of the context."""
    if not awaited:
        raise Refused("a tool result has no call before it")
    call = awaited.pop(0)
    if message["tool_call_id"] != call["id"]:
        raise Refused(f"the call {call['id']} has no result")
    if str(call["id"]).endswith("-2"):  # a second call, which `FaultKind.PARALLEL_CALLS` made
        return ""
    return protocol.observation_text(call["function"]["name"], message["content"])


def _call_id(context: str) -> str:
    """Name a call after the context that it follows, so that two runs have the same ids."""
    return f"call_{hashlib.sha256(context.encode()).hexdigest()[:12]}"


def _first_call(calls: Sequence[Mapping[str, Any]]) -> str:
    if not calls:
        return ""
    function = calls[0]["function"]
    arguments = function["arguments"]
    argument = argument_of(arguments) or ""
    if ARGUMENT not in arguments:
        argument = object_text(arguments) or ""
    tool = function["name"]
    return f"{protocol.open_tag(tool)} {argument} {protocol.close_tag(tool)}"


def _signed(reasoning: str) -> dict[str, Any]:
    return {
        "type": "reasoning.text",
        "text": reasoning,
        "signature": f"signed-{len(reasoning)}",
        "id": "rs_0",
        "index": 0,
    }


def _require_signed(message: Mapping[str, Any]) -> None:
    """Refuse details that were lost or changed."""
    details = message.get("reasoning_details") or []
    if not details and message.get("reasoning"):
        raise Refused("reasoning_details must be passed back")
    for part in details:
        if part.get("type") == "reasoning.text" and part != _signed(part["text"]):
            raise Refused("the signature of reasoning_details is not valid")
