"""Answer prompts of ids in Qwen's own format, with any policy behind them.

The ids are decoded into a conversation, which is told to the policy as `coa.policy.server` tells a
chat; what the policy wrote is written as Qwen writes it, and encoded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from coa.policy import Completion, Finish, Policy, Request, RequestError
from coa.policy.chat.messages import Message
from coa.policy.chat.replies import Call, ChatReply, Shown
from coa.policy.native import Grammar, NativeTemplate, read_turn
from coa.policy.server import ChatPage, Refused
from coa.records.trajectory import Author

_BLOCK = re.compile(
    r"<\|im_start\|>(?P<role>\w+)\n(?P<body>.*?)<\|im_end\|>\n(?=<\|im_start\|>)", re.DOTALL
)
_TOOLS = re.compile(r"<tools>\n(.*?)\n</tools>", re.DOTALL)
_RESULT = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Conversation:
    """What a prompt in Qwen's format holds."""

    messages: list[Message]
    tools: list[dict[str, Any]]


class NativeWriter:
    """A policy that answers ids in Qwen's format, and texts as the policy inside does."""

    def __init__(self, policy: Policy, template: NativeTemplate) -> None:
        self._policy = policy
        self._template = template
        self._chat = ChatPage(policy)
        self.name = policy.name
        self.identity = policy.identity
        self.count_tokens = policy.count_tokens

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Return None: the policy inside reads other text."""

    async def complete(self, request: Request) -> Completion:
        """Continue a prompt of ids in Qwen's format, or a text.

        Raises:
            RequestError: The ids are not a conversation in Qwen's format.
        """
        if request.context_ids is None:
            return await self._policy.complete(request)
        told = self._read(self._template.decode(request.context_ids))
        body = {
            "messages": told.messages,
            "tools": told.tools,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        try:
            asked = self._chat.read(body)
        except (Refused, IndexError, ValueError) as odd:
            raise RequestError(f"not a conversation in Qwen's format: {odd}") from odd
        written = await self._policy.complete(asked)
        message = self._chat.write(body, asked, written)["choices"][0]["message"]
        ids = self.encode_turn(message, is_over=written.finish is not Finish.LENGTH)
        is_cut = len(ids) > request.max_tokens or written.finish is Finish.LENGTH
        ids = ids[: request.max_tokens]
        text = self._template.decode(ids).removesuffix(self._template.grammar.end_of_turn)
        return Completion(
            text=text,
            finish=Finish.LENGTH if is_cut else Finish.END,
            num_tokens=len(ids),
            num_context_tokens=len(request.context_ids),
            ids=ids,
        )

    def encode_turn(self, message: Mapping[str, Any], *, is_over: bool) -> tuple[int, ...]:
        """Encode a message as the model would sample it."""
        reasoning = message.get("reasoning") or ""
        content = (message.get("content") or "").lstrip("\n")
        calls = []
        for call in message.get("tool_calls") or ():
            calls.append(Call(call["function"]["name"], call["function"]["arguments"]))
        reply = ChatReply(message, reasoning, Shown.TEXT, content, tuple(calls), is_cut=not is_over)
        is_thinking = not content and not calls
        text = write_turn(reply, self._template.grammar, is_thinking=is_thinking)
        end = (self._template.end_of_turn_id,) if is_over else ()
        return self._template.encode(text) + end

    def _read(self, prompt: str) -> _Conversation:
        """Read a prompt; its last block is the opening of the turn that is asked for."""
        messages: list[Message] = []
        tools: list[dict[str, Any]] = []
        for block in _BLOCK.finditer(prompt):
            body = block["body"]
            results = _RESULT.findall(body)
            if block["role"] == "system":
                listed = _TOOLS.search(body)
                tools = (
                    [msgspec.json.decode(line) for line in listed[1].split("\n")] if listed else []
                )
            elif block["role"] == "assistant":
                messages.append(self._said(body, len(messages)))
            elif results:
                # Only the first call of a turn has a result; the others were not made.
                (call,) = messages[-1]["tool_calls"]
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": results[0]})
            else:
                messages.append({"role": "user", "content": body})
        return _Conversation(messages, tools)

    def _said(self, body: str, number: int) -> Message:
        """Read an earlier turn of the model; its calls are named after their place."""
        reply = read_turn(body, self._template.grammar, is_thinking=False, is_cut=False).reply
        calls = [{"id": f"call_{number}", "function": call._asdict()} for call in reply.calls[:1]]
        message: Message = {"role": "assistant", "content": reply.content, "tool_calls": calls}
        if reply.reasoning:
            message["reasoning"] = reply.reasoning
        return message


def write_turn(reply: ChatReply, grammar: Grammar, *, is_thinking: bool = False) -> str:
    """Write a turn as a model of this format writes it, without its end-of-turn token.

    Args:
        reply: Its reasoning, content and calls.
        grammar: The marks of the format.
        is_thinking: Whether it ends inside the reasoning.
    """
    text = ""
    if reply.reasoning:
        text = grammar.think_open + reply.reasoning
        if is_thinking:
            return text
        text += grammar.think_close
    text += reply.content
    for call in reply.calls:
        opening = grammar.call_open
        if not text or text.endswith("\n"):
            opening = opening.lstrip("\n")
        name = msgspec.json.encode(call.name).decode()
        text += f'{opening}{{"name": {name}, "arguments": {call.arguments}}}{grammar.call_close}'
    return text
