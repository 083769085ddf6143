"""Prompt files: plain text with `{question}` and the names of the protocol's tags in braces.

A file is filled in one pass, so that nothing inside a question is filled again; tags in a question are neutralised.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coa import protocol
from coa.errors import ConfigError

_PLACE = re.compile(r"\{(\w+)\}")
_TAGS = {
    "open_search": protocol.open_tag("search"),
    "close_search": protocol.close_tag("search"),
    "think_close": protocol.THINK_CLOSE,
}
KNOWN_PLACES = ("question", "prompt", *_TAGS)


@dataclass(frozen=True, slots=True)
class PromptParams:
    """Which prompt file serves which mode."""

    cot: str = "synth/prompts/cot.txt"
    """Asks for reasoning only; no tool is mentioned."""
    coa: str = "synth/prompts/coa.txt"
    """Offers the tool and asks to use it at knowledge gaps."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file inside a model's chat template, ready to be filled with questions."""

    text: str
    prompt_hash: str
    """SHA-256 of the whole text, first 16 hex digits."""

    @classmethod
    def load(cls, path: Path, chat_template: str) -> "Prompt":
        """Read a prompt file and put it into `chat_template` at its `{prompt}`; the thinking is opened at the end.

        Raises:
            ConfigError: the file is missing, not UTF-8, or has a place that is unknown or no place for the question.
        """
        try:
            body = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read the prompt file {path}", got=error, fix="see synth/prompts/") from error
        places = _PLACE.findall(body)
        for place in places:
            if place not in KNOWN_PLACES:
                raise ConfigError(
                    f"unknown place {{{place}}}", where=path, expected=f"one of {', '.join(KNOWN_PLACES)}"
                )
        if "question" not in places or "{prompt}" not in chat_template:
            where = path if "question" not in places else "teacher.chat_template"
            raise ConfigError(
                "the prompt has no place for the question", where=where, expected="{question} or {prompt}"
            )
        text = chat_template.replace("{prompt}", body) + protocol.THINK_OPEN + "\n"
        return cls(text, hashlib.sha256(text.encode()).hexdigest()[:16])

    def fill(self, question: str) -> str:
        """The prompt for one question; its line breaks become spaces, its tags harmless."""
        harmless = " ".join(protocol.neutralise(question).split())
        places: Mapping[str, str] = {**_TAGS, "question": harmless}
        return _PLACE.sub(lambda place: places.get(place[1], place[0]), self.text)
