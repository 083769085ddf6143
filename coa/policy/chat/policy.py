"""Ask a chat server with native tool calls and visible reasoning, behind the one rollout loop.

The loop's state is sent as messages and tool schemas (`coa/policy/chat/messages.py`); the reply is
read back as thought, action and answer (`coa/policy/chat/replies.py`). What a family of servers
does differently is data (`coa/policy/chat/families.py`, docs/teachers.md).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import msgspec
from msgspec import UNSET

from coa.network.http_client import Connections, Reply
from coa.policy import Completion, Finish, Native, Request, cut_at_stop
from coa.policy.chat.families import FAMILIES, SAID, ChatSettings, Waiver
from coa.policy.chat.messages import is_forced, to_messages, tool_schemas
from coa.policy.chat.replies import (
    CHAT_BODY,
    ChatBody,
    ChatReply,
    Shown,
    is_served_model,
    read_reply,
    returned_message,
    to_completion,
    to_forced_answer,
    without_keep_alive,
)
from coa.policy.completions import CompletionsPolicy
from coa.policy.probe import chat_questions, look_at_chat
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import Author
from coa.records.usage import read_usage
from coa.tools import ToolSchema

_TEMPLATE_TOKENS = 1024
"""What a server's template may add to a conversation, such as how to call tools."""


class ChatPolicy(CompletionsPolicy):
    """A policy that acts by native tool calls of a chat server."""

    _page = "chat/completions"
    reads_turns = True
    """The loop gives each request the policy's own earlier messages."""

    def __init__(
        self,
        settings: ServerSettings,
        chat: ChatSettings,
        *,
        deployment: str = "",
        place: str = "server",
    ) -> None:
        super().__init__(settings, deployment=deployment, place=place)
        self._chat = chat
        self._family = FAMILIES[chat.family]
        self._own_schemas: Mapping[str, ToolSchema] = {}

    @staticmethod
    def _connect(headers: Mapping[str, str], readable: Callable[[str], str]) -> Connections:
        """Open the connections of an event loop; `openai` takes most of a second to load."""
        from coa.network.http_openai import OpenAIConnections

        return OpenAIConnections(headers, readable)

    @property
    def sampling_sent(self) -> tuple[str, ...]:
        """Name the sampling settings that the family honours; no others are sent."""
        return self._family.sampling

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """Return what decides replies beyond the model's name, and how they are read."""
        parts = {**super().identity, "chat": msgspec.to_builtins(self._chat)}
        if self._own_schemas:
            parts["tools"] = msgspec.to_builtins(self._own_schemas)
        return parts

    def describe_tools(self, schemas: Mapping[str, ToolSchema]) -> None:
        """Learn the schemas of tools that have their own, before the first request."""
        self._own_schemas = schemas

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Return None: the server does not read the loop's text, so that has no ids."""

    def most_context_tokens(self, request: Request) -> int:
        """Return the most tokens that a request's conversation may have, for caps."""
        body = self._body(request)
        if self._encoder:
            return self.count_tokens(body.decode()) + _TEMPLATE_TOKENS
        return len(body) + _TEMPLATE_TOKENS  # a token has at least one byte

    def _body(self, request: Request) -> bytes:
        """Write a request; without `turns` it is one user message, and its reply a plain text."""
        fields: dict[str, Any] = {
            "model": self.name,
            self._family.limit_field: request.max_tokens,
        }
        for name in self._family.sampling:
            fields[name] = getattr(request, name)
        fields.update(self._family.always)
        if request.turns is UNSET:
            fields["messages"] = [{"role": "user", "content": request.context}]
        else:
            fields |= self._conversation(request)
        fields |= self._session_fields(request)
        return msgspec.json.encode({**fields, **self._settings.extra_body})

    def _conversation(self, request: Request) -> dict[str, Any]:
        """Write the state of a rollout."""
        assert request.turns is not UNSET
        turns = request.turns
        messages = to_messages(request, turns, self._family, self._chat.answer_request)
        sent: dict[str, Any] = {"messages": messages}
        if turns.tools:
            sent["tools"] = tool_schemas(turns.tools, self._chat.tools, self._own_schemas)
            if self._family.switches_off_parallel_calls:
                sent["parallel_tool_calls"] = False
        if turns.must_call is not UNSET:
            sent["tool_choice"] = {"type": "function", "function": {"name": turns.must_call}}
        if is_forced(request):
            sent.update(self._family.forced)
            if turns.tools:
                sent["tool_choice"] = "none"
        return sent

    def _read(self, reply: Reply, request: Request) -> Completion:
        """Turn a reply with status 200 into a completion."""
        body = self._decode(reply._replace(body=without_keep_alive(reply.body)), CHAT_BODY)
        completion = self._transcribed(read_reply(body), body, request)
        num_tokens = completion.num_tokens or self.count_tokens(completion.text)
        return replace(
            completion,
            num_tokens=num_tokens,
            num_context_tokens=body.count("prompt_tokens") or None,
            usage=read_usage(body.usage, num_tokens, lambda: self.count_tokens(request.context)),
        )

    def _transcribed(self, message: ChatReply, body: ChatBody, request: Request) -> Completion:
        num_tokens = body.count("completion_tokens")
        if request.turns is UNSET:
            text, _ = cut_at_stop(message.content, request.stop)
            finish = Finish.LENGTH if message.is_cut else Finish.END
            return Completion(text, finish, num_tokens or 0)
        forced = is_forced(request)
        turns = request.turns
        is_fork = turns.begun is not UNSET or turns.must_call is not UNSET
        is_first = not (turns.messages or is_fork or forced)
        fault = self._fault(message, body.model, is_first=is_first)
        begun = "" if turns.begun is UNSET or forced else turns.begun
        native = Native(returned_message(message, self._family, begun), fault=fault)
        if forced:
            return to_forced_answer(message, native, num_tokens)
        return to_completion(message, native, num_tokens, self._own_schemas)

    def _fault(self, message: ChatReply, model: str | None, *, is_first: bool) -> str:
        """Say what makes a reply unfit to teach; empty where nothing does.

        Only the first turn of a rollout must hold reasoning: a later one may do without, and so
        may the turn at a fork, whose call is forced or whose thought was begun.
        """
        found: Waiver | None = None
        if not is_served_model(model, self.name, self._chat.served_as):
            found = Waiver.OTHER_MODEL
        elif message.shown is Shown.SUMMARY:
            found = Waiver.SUMMARY
        elif message.shown is Shown.NOTHING and is_first:
            found = Waiver.NO_REASONING
        if found is None or found in self._chat.waives:
            return ""
        if found is Waiver.OTHER_MODEL:
            return f"{SAID[found]}: {self._client.readable(str(model))}"
        return SAID[found]

    def probe_questions(self, like: Request) -> tuple[Request, ...]:
        """Return the questions that a probe asks before a run with requests like this one."""
        self._body(like)  # a request that cannot be sent is an error before the probe is paid
        return chat_questions(like)

    def look_at_probe(self, replies: Sequence[Completion]) -> dict[str, str]:
        """Say what the server made of these questions; one that cannot teach is a ConfigError."""
        return look_at_chat(replies, self._chat.waives, where=self.where)
