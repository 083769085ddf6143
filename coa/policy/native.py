r"""Ask an open model in its own format, by token ids, behind the one rollout loop.

The tokenizer's chat template is rendered here (`NativeTemplate`), its ids are sent to a server's
raw completions, and the ids that come back are read by the model's own grammar (`read_turn`):

    the reasoning, between two marks

    <tool_call>
    {"name": "search", "arguments": {"query": "director of Iron Harbor"}}
    </tool_call><|im_end|>

This is Qwen's format. A format with JSON calls between two marks is one more row in `GRAMMARS`.

The rows are those of a chat policy: our tags around a call are transcribed. What was sampled stays
as it was, because a template may change it, and other ids may encode the same text. So the ids of a
turn are those of the turn before, the ids that the model sampled, and what the template puts after
them; only the first prompt, and what follows a turn, come from the template.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import msgspec

from coa.errors import ConfigError
from coa.network.http_client import Reply
from coa.policy import Completion, Finish, Native, Request
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.messages import Message, is_forced, to_messages, tool_schemas
from coa.policy.chat.policy import ChatPolicy
from coa.policy.chat.replies import (
    Call,
    ChatReply,
    Shown,
    calls_with_ids,
    joined,
    to_completion,
    to_forced_answer,
)
from coa.policy.completions import (
    RAW_BODY,
    CompletionsPolicy,
    finished_text,
    only_choice,
    with_usage,
)
from coa.policy.foreign_tags import end_of_call
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.tokens import PieceEncoder

_MAX_SHOWN_OF_CALL = 200


@dataclass(frozen=True, slots=True)
class Grammar:
    """The marks of one format; blanks around a mark may be missing in what a model writes."""

    think_open: str
    """Begins the reasoning, with the blanks that belong to the mark."""
    think_close: str
    call_open: str
    """Begins a call: a JSON object with `name` and `arguments`."""
    call_close: str
    end_of_turn: str
    """The token that ends a turn, and that the template writes after it."""
    other_ends: tuple[str, ...] = ()
    """Further tokens with which a model may end."""
    answers_at_once: Mapping[str, Any] = field(default_factory=dict)
    """Options of the template that keep the model from thinking before a forced answer."""


GRAMMARS: Mapping[str, Grammar] = {
    "qwen": Grammar(
        think_open=f"{protocol.THINK_OPEN}\n",  # Qwen's marks are the same as ours
        think_close=f"\n{protocol.THINK_CLOSE}\n\n",
        call_open="\n<tool_call>\n",
        call_close="\n</tool_call>",
        end_of_turn="<|im_end|>",
        other_ends=("<|endoftext|>",),
        answers_at_once={"enable_thinking": False},
    ),
}
"""The formats that are known, by the name of the models that write them."""


class NativeTurn(NamedTuple):
    """What a model wrote in one turn."""

    reply: ChatReply
    fault: str = ""
    """Why the turn cannot be used; empty where it can."""
    is_thinking: bool = False
    """Whether it ends inside the reasoning."""


class _Written(msgspec.Struct):
    """The object between the marks of a call."""

    name: str
    arguments: msgspec.Raw


_WRITTEN_CALL = msgspec.json.Decoder(_Written)


def read_turn(text: str, grammar: Grammar, *, is_thinking: bool, is_cut: bool) -> NativeTurn:
    """Take a turn apart, without its end-of-turn token.

    The reasoning ends at its closing mark: what looks like a call before it is part of a thought.
    `is_thinking` says whether the template has opened the reasoning already, `is_cut` whether the
    turn ran into the limit of tokens.
    """
    reasoning = ""
    rest = text
    opened = _loose(grammar.think_open).match(text.lstrip())
    if opened and not is_thinking:
        is_thinking = True
        rest = text.lstrip()[opened.end() :]
    if is_thinking:
        reasoning, mark, rest = _partition(rest, grammar.think_close)
        if not mark:
            return NativeTurn(_reply(reasoning, is_cut=is_cut), is_thinking=True)
    content, mark, body = _partition(rest, grammar.call_open)
    if not mark:
        return NativeTurn(_reply(reasoning, rest, is_cut=is_cut))
    calls, fault = _read_calls(body, grammar, is_cut=is_cut)
    if not calls:  # The first call is cut or cannot be read: its text is kept, and is no answer.
        return NativeTurn(_reply(joined(reasoning, rest), is_cut=is_cut), fault)
    return NativeTurn(_reply(reasoning, content, calls, is_cut=is_cut), fault)


def _read_calls(body: str, grammar: Grammar, *, is_cut: bool) -> tuple[tuple[Call, ...], str]:
    """Read the calls after the first opening mark, and say what is wrong with them.

    A further call that cannot be read is kept as it is: only the first one counts.
    """
    calls: list[Call] = []
    fault = ""
    mark = "opened"
    while mark and not fault:
        written, closing, after = _cut_call(body, grammar)
        if not closing and is_cut:
            break
        call = _read_call(written)
        if not closing:
            fault = f"a call that is not closed: {written[:_MAX_SHOWN_OF_CALL]!r}"
        elif call is None and not calls:
            shown = written[:_MAX_SHOWN_OF_CALL]
            fault = f"a call that is not JSON with a name and arguments: {shown!r}"
        else:
            calls.append(call or Call("", written))
        between, mark, body = _partition(after, grammar.call_open)
        if between.strip() and not fault:
            fault = f"text after a call: {between.strip()[:_MAX_SHOWN_OF_CALL]!r}"
    return tuple(calls), fault


def _cut_call(body: str, grammar: Grammar) -> tuple[str, str, str]:
    """Cut at the mark that closes a call; the same mark inside a string of its JSON does not."""
    end = end_of_call(body, 0, grammar.call_close.strip())
    found = _loose(grammar.call_close).search(body, max(end - 1, 0))
    if found is None:
        return body, "", ""
    return body[: found.start()], found[0], body[found.end() :]


def _read_call(written: str) -> Call | None:
    """Read the object of one call, its arguments verbatim; None where it is no such object."""
    try:
        found = _WRITTEN_CALL.decode(written)
    except (ValueError, RecursionError):
        return None
    return Call(found.name, bytes(found.arguments).decode())


def _reply(
    reasoning: str, content: str = "", calls: tuple[Call, ...] = (), *, is_cut: bool
) -> ChatReply:
    shown = Shown.TEXT if reasoning.strip() else Shown.NOTHING
    return ChatReply({}, reasoning, shown, content, calls, is_cut)


def _partition(text: str, mark: str) -> tuple[str, str, str]:
    """Cut `text` at the first mark, as `str.partition` does."""
    found = _loose(mark).search(text)
    if found is None:
        return text, "", ""
    return text[: found.start()], found[0], text[found.end() :]


@lru_cache
def _loose(mark: str) -> re.Pattern[str]:
    """Match a mark with or without the blanks around it."""
    tag = mark.strip()
    before, after = map(re.escape, mark.split(tag))
    return re.compile(f"(?:{before})?{re.escape(tag)}(?:{after})?")


_TURN = "(what the model wrote)"
"""Marks the place of a turn in a rendered conversation."""
_ASKED: Message = {"role": "user", "content": "(a question)"}
_CALLED = {"name": "search", "arguments": {"query": "x"}}
_NUM_LAST_IDS = 16
"""So many ids hold the mark that opens the reasoning, however a tokenizer splits it."""


class NativeTemplate:
    """A tokenizer's chat template, whose format is one of `GRAMMARS`."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        """Find the template's format; `name` is the tokenizer's folder or name, for errors."""
        self._tokenizer = tokenizer
        self._encoder = PieceEncoder(tokenizer)
        self._name = name
        if not tokenizer.chat_template:
            raise ConfigError(
                "the tokenizer has no chat template",
                where=name,
                fix="name the tokenizer of a chat model in teacher.server.tokenizer, or use "
                "teacher.policy=completions, with a prompt that shows the tags",
            )
        self.grammar = self._find_grammar()
        """The marks of the format."""
        self.end_of_turn_id: int = tokenizer.convert_tokens_to_ids(self.grammar.end_of_turn)
        """The id of the token that ends a turn."""
        known = tokenizer.get_vocab()
        others = [known[end] for end in self.grammar.other_ends if end in known]
        self.end_ids = (self.end_of_turn_id, *others)
        """The ids at which a turn is over."""

    @property
    def digest(self) -> str:
        """Return a hash of the template, which decides what the model reads."""
        return hashlib.sha256(repr(self._tokenizer.chat_template).encode()).hexdigest()[:16]

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids; nothing is left out."""
        return self._encoder.decode(ids)

    def encode(self, text: str) -> tuple[int, ...]:
        """Encode text of the format: the names of special tokens mean those tokens."""
        return tuple(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def first_ids(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, is_forced: bool
    ) -> tuple[int, ...]:
        """Encode a conversation without turns of the model, up to where its first one begins."""
        return self.encode(self._render(messages, tools, is_forced=is_forced))

    def next_ids(
        self, messages: Sequence[Message], sampled: Sequence[int], *, is_forced: bool
    ) -> tuple[int, ...]:
        """Encode what follows a turn of the model, up to where its next one begins.

        Where the ids of the turn, `sampled`, do not end it, the result does.
        """
        turn = {"role": "assistant", "content": _TURN}
        text = self._render((_ASKED, turn, *messages), (), is_forced=is_forced)
        ids = self.encode(text.rpartition(_TURN)[2])
        if sampled and sampled[-1] == self.end_of_turn_id:
            return ids[1:]
        return ids

    def opens_thinking(self, ids: Sequence[int]) -> bool:
        """Return whether a prompt ends with the opened reasoning."""
        text = self.decode(ids[-_NUM_LAST_IDS:])
        return text.rstrip().endswith(self.grammar.think_open.strip())

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        *,
        is_forced: bool = False,
        continues: bool = True,
    ) -> str:
        options = self.grammar.answers_at_once if is_forced else {}
        text: str = self._tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=continues,
            **options,
        )
        return text

    def _find_grammar(self) -> Grammar:
        """Choose the grammar that reads back a call and an end of turn as the template wrote it."""
        for grammar in GRAMMARS.values():
            self.grammar = grammar
            if self._is_written():
                return grammar
        raise ConfigError(
            "the tokenizer's chat template has a format that is not known",
            where=self._name,
            expected=f"tool calls as these models write them: {', '.join(GRAMMARS)}",
            fix="use teacher.policy=chat with a server that has a tool parser for this model, or "
            "add the format to coa/policy/native.py",
        )

    def _is_written(self) -> bool:
        from jinja2 import TemplateError

        call = {"id": "call_0", "type": "function", "function": _CALLED}
        turn = {"role": "assistant", "content": _TURN, "tool_calls": [call]}
        result = {"role": "tool", "tool_call_id": "call_0", "content": "y"}
        try:
            text = self._render((_ASKED, turn, result), (), continues=False)
        except TemplateError:
            return False
        written, end, _ = text.rpartition(_TURN)[2].partition(self.grammar.end_of_turn)
        if not end or len(self.encode(end)) != 1:
            return False
        read = read_turn(written, self.grammar, is_thinking=False, is_cut=False)
        if read.fault or len(read.reply.calls) != 1:
            return False
        name, arguments = read.reply.calls[0]
        return {"name": name, "arguments": msgspec.json.decode(arguments)} == _CALLED


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

    Its messages are those of `coa.rollout.loop.State` or of `coa.rollout.calls.Replay`.
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

    def __init__(self, settings: ServerSettings, chat: ChatSettings, **names: str) -> None:
        """Take the arguments of `ChatPolicy`; the tokenizer must be named."""
        if not settings.tokenizer:
            place = names.get("place", "server")
            raise ConfigError(
                "a model's own format is written with its tokenizer, and none is named",
                where=f"{place}.tokenizer",
                expected="the folder or the Hub name of the tokenizer that the server's model has",
                fix=f"{place}.tokenizer=..., most often the same as {place}.model",
            )
        super().__init__(settings, chat, **names)
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

    _connect = staticmethod(CompletionsPolicy._connect)

    async def complete(self, request: Request) -> Completion:
        """Continue the request's conversation.

        Besides the errors of `CompletionsPolicy`, a server that gives no ids, or those of another
        tokenizer, is a `ConfigError`.
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
        messages = to_messages(request, turns, self._family, self._chat.answer_request)
        if not turns.messages:
            schemas = tool_schemas(turns.tools, self._chat.tools, self._own_schemas)
            return self._template.first_ids(messages, schemas, is_forced=forced)
        last = _MESSAGE.decode(turns.messages[-1])
        number = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        following = self._template.next_ids(
            messages[number + 1 :], last.sampled_ids, is_forced=forced
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
        """Turn a reply with status 200 into a completion."""
        body = self._decode(reply, RAW_BODY)
        choice = only_choice(body)
        plain = replace(request, stop=())
        _, finish = finished_text(choice.text, choice.finish_reason, choice.stated, plain)
        if choice.token_ids is None:
            raise ConfigError(
                "the server gives no token ids",
                where=reply.url,
                expected="choices[].token_ids in replies to requests with return_token_ids: true",
                fix="use vLLM 0.10.2 or newer, or teacher.policy=chat",
            )
        _require_same_text(choice.text, self._template.decode(choice.token_ids), reply.url)
        ids = request.context_ids or ()
        sampled, is_over = self._cut_at_end(choice.token_ids)
        is_cut = finish is Finish.LENGTH and not is_over
        completion = self._read_ids(sampled, request, is_cut=is_cut)
        completion = replace(
            completion, num_tokens=len(sampled), num_context_tokens=len(ids) or None
        )
        return with_usage(completion, body, lambda: len(ids))

    def _cut_at_end(self, ids: Sequence[int]) -> tuple[tuple[int, ...], bool]:
        """Cut ids after the first one that ends a turn, and say whether there was one."""
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
        calls = [{"type": "function", "function": call._asdict()} for call in turn.reply.calls]
        own = NativeMessage(
            given_ids=ids[num_earlier:],
            sampled_ids=sampled,
            num_ids=len(ids) + len(sampled),
            tool_calls=tuple(calls_with_ids(calls)),
            is_thinking=turn.is_thinking,
        )
        message = msgspec.json.encode(own).decode()
        if is_forced(request):
            return to_forced_answer(turn.reply, Native(message), len(sampled))
        fault = turn.fault or self._fault(turn.reply, None, is_first=not earlier)
        native = Native(message, fault=fault)
        return to_completion(turn.reply, native, len(sampled), self._own_schemas)


def _require_same_text(theirs: str, ours: str, url: str) -> None:
    """Refuse ids whose text differs from the server's; signs and blanks, which it trims, aside."""
    reported = _NOT_A_WORD.sub("", theirs)
    decoded = _NOT_A_WORD.sub("", ours)
    if decoded.startswith(reported):  # The server leaves out the end-of-turn token.
        return
    raise ConfigError(
        "the server's model has another tokenizer than the one that is named",
        where=f"{url}, teacher.server.tokenizer",
        expected=repr(theirs[:_MAX_SHOWN_CHARS]),
        got=repr(ours[:_MAX_SHOWN_CHARS]),
        fix="set teacher.server.tokenizer to the folder or name of the model that is served",
    )
