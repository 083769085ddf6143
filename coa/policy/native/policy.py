"""Ask an open model in its own format, by token ids, behind the one rollout loop.

The tokenizer's chat template is rendered here (`coa/policy/native/template.py`), its ids are sent
to a server's raw completions, and the ids that come back are read by the model's own grammar
(`coa/policy/native/grammar.py`). The rows are those of a chat policy: our tags around a call are
transcribed. What was sampled stays as it was: the ids of a turn are those of the turn before, the
ids that the model sampled, and what the template puts after them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from coa.errors import ConfigError
from coa.http_client import Reply
from coa.policy import Completion, Finish, Native, Request, RequestError
from coa.policy.chat.families import FAMILIES
from coa.policy.chat.messages import Message, is_forced, to_messages, tool_schemas
from coa.policy.chat.policy import ChatPolicy, ChatSettings
from coa.policy.chat.replies import calls_with_ids, to_completion, to_forced_answer
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.native.grammar import NativeTurn, read_turn
from coa.policy.native.template import NativeTemplate
from coa.policy.replies import decode_body, finished_text, only_choice
from coa.policy.usage import read_usage

_NOT_A_WORD = re.compile(r"\W+")
_MAX_SHOWN_CHARS = 60


class NativeMessage(msgspec.Struct, frozen=True):
    """A turn of the policy by its ids, as `Native.message` has it."""

    given_ids: tuple[int, ...]
    """Ids that the template put between the turn before and this one; at first the whole prompt."""
    sampled_ids: tuple[int, ...]
    """Ids that the policy sampled, the end-of-turn token included where it sampled one."""
    num_ids: int
    """Number of the conversation's ids, up to the end of this turn."""
    role: str = "assistant"
    tool_calls: tuple[dict[str, Any], ...] = ()
    """The calls that the turn made."""
    is_thinking: bool = False
    """Whether the turn ended inside the reasoning."""


_MESSAGE = msgspec.json.Decoder(NativeMessage)


class TokenSequence(NamedTuple):
    """A trajectory in the model's own format."""

    input_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """True at the ids that the policy sampled."""


def token_sequence(messages: Sequence[str]) -> TokenSequence:
    """Join the turns of a trajectory: the exact ids that its policy read and sampled.

    Args:
        messages: Its policy's own messages (`coa.rollout.State.messages`, or those of a replay from
            the journal, `coa.calls.Replay.messages`).
    """
    ids: list[int] = []
    mask: list[bool] = []
    for message in messages:
        turn = _MESSAGE.decode(message)
        ids += (*turn.given_ids, *turn.sampled_ids)
        mask += [False] * len(turn.given_ids) + [True] * len(turn.sampled_ids)
    return TokenSequence(tuple(ids), tuple(mask))


class NativePolicy(ChatPolicy):
    """A policy that writes its model's own format, asked for by ids.

    Of the chat settings, `family` and `served_as` are not used.
    """

    _page = "completions"

    def __init__(
        self,
        settings: ServerSettings,
        chat: ChatSettings,
        *,
        deployment: str = "",
        place: str = "server",
    ) -> None:
        if not settings.tokenizer:
            raise ConfigError(
                "a model's own format is written with its tokenizer, and none is named",
                where=f"{place}.tokenizer",
                expected="the folder or the Hub name of the tokenizer that the server's model has",
                fix=f"{place}.tokenizer=..., most often the same as {place}.model",
            )
        super().__init__(settings, chat, deployment=deployment, place=place)
        assert self._encoder is not None
        self._template = NativeTemplate(self._encoder.tokenizer, settings.tokenizer)

    @property
    def sampling_sent(self) -> tuple[str, ...]:
        """Name the sampling settings that are sent: a server of completions takes all of them."""
        return ("temperature", "top_p", "seed")

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """Return what decides replies beyond the model's name, and how they are read."""
        return {**super().identity, "native": self._template.digest}

    _rejected = CompletionsPolicy._rejected
    _connect = staticmethod(CompletionsPolicy._connect)

    async def complete(self, request: Request) -> Completion:
        """Continue the request's conversation.

        Raises:
            RequestError: The server rejects this request, or withholds the text.
            ServiceError: The server cannot be reached, or fails until our patience ends.
            ConfigError: The server gives no ids, or those of another tokenizer; or its first
                replies show that it cannot teach.
        """
        return await super().complete(replace(request, context_ids=self._prompt_ids(request)))

    def most_context_tokens(self, request: Request) -> int:
        """Return the tokens of a request's conversation, for caps."""
        return len(self._prompt_ids(request))

    def _prompt_ids(self, request: Request) -> tuple[int, ...]:
        """Return the ids that the policy reads: its own turns are those that it sampled."""
        if isinstance(request.turns, msgspec.UnsetType):
            message = {"role": "user", "content": request.context}
            return self._template.first_ids([message], (), is_forced=False)
        turns = request.turns
        forced = is_forced(request)
        family = FAMILIES[self._chat.family]
        messages = to_messages(request, turns, family, self._chat.answer_request)
        if not turns.messages:
            schemas = tool_schemas(turns.tools, self._chat.tools, self._own_schemas)
            return self._template.first_ids(messages, schemas, is_forced=forced)
        last = _MESSAGE.decode(turns.messages[-1])
        following = self._template.next_ids(
            _after_last_turn(messages), last.sampled_ids, is_forced=forced
        )
        if last.is_thinking:
            following = self._template.encode(self._template.grammar.think_close) + following
        return token_sequence(turns.messages).input_ids + following

    def _body(self, request: Request) -> bytes:
        ids = request.context_ids
        fields: dict[str, Any] = {
            "model": self.name,
            "prompt": self._prompt_ids(request) if ids is None else ids,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
            "stop_token_ids": self._template.end_ids,
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        fields |= self._session_fields(request)
        return msgspec.json.encode({**fields, **self._settings.extra_body})

    def _read(self, reply: Reply, request: Request) -> Completion:
        """Turn a reply with status 200 into a completion.

        Raises:
            PassingFailure: It cannot be read, or reports an error that may pass.
            Rejection: It reports another error.
            RequestError: The server withholds the text.
            ConfigError: It has no ids, or those of another tokenizer; or the first replies all show
                that the policy cannot teach.
        """
        body = decode_body(reply.body)
        if body.error:
            self._client.require_success(reply._replace(status=body.error_status))
        try:
            choice = only_choice(body)
            plain = replace(request, stop=())
            _, finish = finished_text(choice.text, choice.finish_reason, choice.stated, plain)
        except RequestError as error:
            raise RequestError(self._client.readable(str(error))) from None
        if choice.token_ids is None:
            raise _no_ids(reply.url)
        _require_same_text(choice.text, self._template.decode(choice.token_ids), reply.url)
        ids = request.context_ids or ()
        sampled, is_over = self._cut_at_end(choice.token_ids)
        is_cut = finish is Finish.LENGTH and not is_over
        completion = self._read_ids(sampled, request, is_cut=is_cut)
        completion = replace(
            completion, num_tokens=len(sampled), num_context_tokens=len(ids) or None
        )
        usage = read_usage(body.usage, len(sampled), lambda: len(ids))
        return completion if completion.charged == usage else replace(completion, usage=usage)

    def _cut_at_end(self, ids: Sequence[int]) -> tuple[tuple[int, ...], bool]:
        """Cut ids after the first one that ends a turn, and tell whether there was one."""
        for position, token in enumerate(ids):
            if token in self._template.end_ids:
                return tuple(ids[: position + 1]), True
        return tuple(ids), False

    def _read_ids(self, sampled: tuple[int, ...], request: Request, *, is_cut: bool) -> Completion:
        """Read a turn by the model's grammar, and transcribe it into our tags."""
        ended = bool(sampled) and sampled[-1] in self._template.end_ids
        text = self._template.decode(sampled[:-1] if ended else sampled)
        if isinstance(request.turns, msgspec.UnsetType):
            return Completion(text, Finish.LENGTH if is_cut else Finish.END, len(sampled))
        ids = request.context_ids
        assert ids is not None
        turn = read_turn(
            text,
            self._template.grammar,
            is_thinking=self._template.opens_thinking(ids),
            is_cut=is_cut,
        )
        earlier = request.turns.messages
        num_earlier = _MESSAGE.decode(earlier[-1]).num_ids if earlier else 0
        message = _message(turn, ids[num_earlier:], sampled, len(ids) + len(sampled))
        if is_forced(request):
            return to_forced_answer(turn.reply, Native(message), len(sampled))
        fault = turn.fault or self._fault(turn.reply, None, is_first=not earlier)
        native = Native(message, fault=fault)
        return to_completion(turn.reply, native, len(sampled), self._own_schemas)


def _message(
    turn: NativeTurn, given: tuple[int, ...], sampled: tuple[int, ...], num_ids: int
) -> str:
    calls = []
    for call in turn.reply.calls:
        calls.append({"type": "function", "function": call._asdict()})
    message = NativeMessage(
        given_ids=given,
        sampled_ids=sampled,
        num_ids=num_ids,
        tool_calls=tuple(calls_with_ids(calls)),
        is_thinking=turn.is_thinking,
    )
    return msgspec.json.encode(message).decode()


def _after_last_turn(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages after the policy's last one."""
    number = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
    return messages[number + 1 :]


def _require_same_text(theirs: str, ours: str, url: str) -> None:
    """Compare the server's text of its ids with ours; signs and blanks, which servers trim, aside.

    Raises:
        ConfigError: They differ, so the server's model has another tokenizer.
    """
    told = _NOT_A_WORD.sub("", theirs)
    decoded = _NOT_A_WORD.sub("", ours)
    if decoded.startswith(told):  # The server leaves out the end-of-turn token.
        return
    raise ConfigError(
        "the server's model has another tokenizer than the one that is named",
        where=f"{url}, teacher.server.tokenizer",
        expected=repr(theirs[:_MAX_SHOWN_CHARS]),
        got=repr(ours[:_MAX_SHOWN_CHARS]),
        fix="set teacher.server.tokenizer to the folder or name of the model that is served",
    )


def _no_ids(url: str) -> ConfigError:
    return ConfigError(
        "the server gives no token ids",
        where=url,
        expected="choices[].token_ids in replies to requests with return_token_ids: true",
        fix="use vLLM 0.10.2 or newer, or teacher.policy=chat",
    )
