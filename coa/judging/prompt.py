"""Fill a judge's prompt with a question, an answer and what the answer is held against.

What is filled in cannot leave its place: each text becomes a JSON string on one line, whose quotes
are escaped, after everything in it is broken that could act as a tag, an answer's box or a control
token of the judge. The places are filled in one pass, so that no text is filled again.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import ConfigError
from coa.records import protocol
from coa.store.shipped import find_shipped


def as_quoted(text: str, control_tokens: Sequence[str] = ()) -> str:
    """Write a text that may be hostile as a JSON string on one line, without invisible signs."""
    harmless = protocol.neutralise(text, control_tokens)
    visible = "".join(sign if sign.isprintable() else " " for sign in harmless)
    return json.dumps(" ".join(visible.split()), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A prompt file inside the judge's chat template."""

    text: str

    @classmethod
    def load(cls, path: Path, chat_template: str, places: Sequence[str]) -> "JudgePrompt":
        """Read a prompt file, which must have all of `places`.

        Raises:
            ConfigError: the file cannot be read, or it or the template lacks a place.
        """
        try:
            body = find_shipped(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"cannot read the judge's prompt {path}", got=error, fix="see coa/judging/prompts/"
            ) from error
        missing = [f"{{{place}}}" for place in places if f"{{{place}}}" not in body]
        if "{prompt}" not in chat_template:
            missing.append("{prompt}, in judge.policy.chat_template")
        if missing:
            raise ConfigError(
                "the judge's prompt lacks a place", where=path, expected=", ".join(missing)
            )
        return cls(chat_template.replace("{prompt}", body))

    def fill(self, texts: Mapping[str, str], control_tokens: Sequence[str] = ()) -> str:
        """Put each text, quoted, into the place of its name."""
        quoted = {name: as_quoted(text, control_tokens) for name, text in texts.items()}
        names = "|".join(map(re.escape, quoted))
        return re.sub(rf"\{{({names})\}}", lambda place: quoted[place[1]], self.text)
