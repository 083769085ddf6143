"""Read prompt files and fill in questions and the protocol's tags.

A prompt file is plain text with `{question}` and the names of tags in braces. It is filled in one
pass, so that nothing inside a question is filled again. Tags in a question are neutralised.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from coa.errors import ConfigError
from coa.policy import control_tokens
from coa.records import protocol
from coa.store.shipped import find_shipped

_PLACE = re.compile(r"\{(\w+)\}")
_TOOL_PLACE = re.compile(r"(open|close)_([a-z][a-z0-9_]*)")
_KNOWN_PLACES = ("{question}", "{think_close}", "{open_TOOL}", "{close_TOOL}")


@dataclass(frozen=True, slots=True)
class PromptParams:
    """The prompt file of each mode."""

    cot: str = "synth/prompts/cot.txt"
    """Asks for reasoning only; no tool is mentioned."""
    coa: str = "synth/prompts/coa.txt"
    """Offers the tools and asks to use them at knowledge gaps."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file inside a model's chat template, ready to be filled with questions."""

    text: str
    prompt_hash: str
    """The first 16 hex digits of the SHA-256 of the whole text."""
    shown_tools: tuple[str, ...] = ()
    """Names of the tools whose tags it shows, sorted."""
    control_tokens: tuple[str, ...] = ()
    """Names of the tokenizer's control tokens, which a question must not hold either."""
    body_start: int = 0
    """Where the prompt file begins in the text, after what a chat template puts before it."""

    @classmethod
    def load(cls, path: Path, chat_template: str) -> "Prompt":
        """Read a prompt file and put it into `chat_template` at its `{prompt}`.

        The thinking is opened at the end. A file that cannot be used is a `ConfigError`.
        """
        try:
            body = find_shipped(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read the prompt file {path}", got=error, fix="see synth/prompts/"
            ) from error
        return cls.of(body, chat_template, path)

    @classmethod
    def of(cls, body: str, chat_template: str, path: object = "the prompt") -> "Prompt":
        """Put the text of a prompt file into `chat_template`, as `load` does."""
        body = body.strip()
        places = _PLACE.findall(body)
        tools = set()
        for place in places:
            tool_place = _TOOL_PLACE.fullmatch(place)
            if tool_place:
                tools.add(tool_place[2])
            elif place not in ("question", "think_close"):
                expected = f"one of {', '.join(_KNOWN_PLACES)}"
                raise ConfigError(f"unknown place {{{place}}}", where=path, expected=expected)
        if "question" not in places or "{prompt}" not in chat_template:
            where = path if "question" not in places else "teacher.chat_template"
            raise ConfigError(
                "the prompt has no place for the question",
                where=where,
                expected="{question} or {prompt}",
            )
        text = chat_template.replace("{prompt}", body) + protocol.THINK_OPEN + "\n"
        prompt_hash = hashlib.sha256(text.encode()).hexdigest()[:16]
        start = chat_template.index("{prompt}")
        return cls(text, prompt_hash, tuple(sorted(tools)), body_start=start)

    def for_policy(self, encoder: object) -> "Prompt":
        """Return a prompt that also breaks the control tokens of `encoder` in questions."""
        return replace(self, control_tokens=control_tokens(encoder))

    def fill(self, question: str, notes: str = "") -> str:
        """Return the prompt for one question; its line breaks become spaces, its tags harmless.

        `notes`, such as passages, stand before the prompt file's text; their lines are kept.
        """
        harmless = " ".join(protocol.neutralise(question, self.control_tokens).split())

        def fill_place(place: re.Match[str]) -> str:
            return harmless if place[1] == "question" else _tag(place)

        before = _PLACE.sub(fill_place, self.text[: self.body_start])
        body = _PLACE.sub(fill_place, self.text[self.body_start :])
        if notes:
            shown = protocol.neutralise(notes, self.control_tokens).strip()
            before += f"{shown}\n\n"
        return before + body


def _tag(place: re.Match[str]) -> str:
    """Return the tag that a place names, `open_search` or `think_close`; keep any other place."""
    name = place[1]
    if name == "think_close":
        return protocol.THINK_CLOSE
    tool_place = _TOOL_PLACE.fullmatch(name)
    if not tool_place:
        return place[0]
    if tool_place[1] == "open":
        return protocol.open_tag(tool_place[2])
    return protocol.close_tag(tool_place[2])
