"""Write conversations in a model's own format, as token ids, with its tokenizer's chat template.

Nothing that was sampled is ever rendered: a template may change it, and other ids may encode the
same text. Only the first prompt, and what follows a turn, come from the template.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from coa.errors import ConfigError
from coa.policy.chat.messages import Message
from coa.policy.native.grammar import GRAMMARS, Grammar, read_turn
from coa.tokens import PieceEncoder

_TURN = "(what the model wrote)"
"""Marks the place of a turn in a rendered conversation."""
_ASKED: Message = {"role": "user", "content": "(a question)"}
_CALLED = {"name": "search", "arguments": {"query": "x"}}
_NUM_LAST_IDS = 16
"""So many ids hold the mark that opens the reasoning, however a tokenizer splits it."""


class NativeTemplate:
    """A tokenizer's chat template, whose format is one of `GRAMMARS`."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        """Find the template's format.

        Args:
            tokenizer: A tokenizer of transformers.
            name: Its folder or name, for errors.

        Raises:
            ConfigError: The tokenizer has no template, or one of another format.
        """
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

        Args:
            messages: The messages after the turn.
            sampled: The ids of the turn. Where they do not end the turn, the result does.
            is_forced: Whether the model is to answer without thinking.
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
            "add the format to coa/policy/native/grammar.py",
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
