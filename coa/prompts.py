"""Prompt files: plain text with `{question}` and the names of the protocol's tags in braces.

A file is filled in one pass, so that nothing inside a question is filled again; tags in a question are neutralised.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path

from coa import protocol
from coa.errors import ConfigError
from coa.policy import control_tokens

_PLACE = re.compile(r"\{(\w+)\}")
_TOOL_PLACE = re.compile(r"(open|close)_([a-z][a-z0-9_]*)")
_KNOWN_PLACES = ("{question}", "{think_close}", "{open_TOOL}", "{close_TOOL}")


@dataclass(frozen=True, slots=True)
class PromptParams:
    """Which prompt file serves which mode."""

    cot: str = "synth/prompts/cot.txt"
    """Asks for reasoning only; no tool is mentioned."""
    coa: str = "synth/prompts/coa.txt"
    """Offers the tools and asks to use them at knowledge gaps."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file inside a model's chat template, ready to be filled with questions."""

    text: str
    prompt_hash: str
    """SHA-256 of the whole text, first 16 hex digits."""
    shown_tools: tuple[str, ...] = ()
    """Names of the tools whose tags it shows, sorted."""
    control_tokens: tuple[str, ...] = ()
    """What a question must not bear beyond the well-known names: those of the policy's tokenizer."""

    @classmethod
    def load(cls, path: Path, chat_template: str) -> "Prompt":
        """Read a prompt file and put it into `chat_template` at its `{prompt}`; the thinking is opened at the end.

        Raises:
            ConfigError: the file is missing, not UTF-8, or has a place that is unknown or no place for the question.
        """
        try:
            body = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read the prompt file {path}", got=error, fix="see synth/prompts/"
            ) from error
        places = _PLACE.findall(body)
        tools = {found[2] for place in places if (found := _TOOL_PLACE.fullmatch(place))}
        for place in places:
            if place not in ("question", "think_close") and not _TOOL_PLACE.fullmatch(place):
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
        return cls(text, hashlib.sha256(text.encode()).hexdigest()[:16], tuple(sorted(tools)))

    def for_policy(self, encoder: object) -> "Prompt":
        """Keep the names of the control tokens that `encoder` knows out of the questions, too."""
        return replace(self, control_tokens=control_tokens(encoder))

    def fill(self, question: str) -> str:
        """The prompt for one question; its line breaks become spaces, its tags harmless."""
        harmless = " ".join(protocol.neutralise(question, self.control_tokens).split())
        return _PLACE.sub(
            lambda place: harmless if place[1] == "question" else _tag(place[1], place[0]),
            self.text,
        )


def _tag(place: str, otherwise: str) -> str:
    """The tag that a place names, `open_search` or `think_close`."""
    if place == "think_close":
        return protocol.THINK_CLOSE
    if found := _TOOL_PLACE.fullmatch(place):
        return (protocol.open_tag if found[1] == "open" else protocol.close_tag)(found[2])
    return otherwise
