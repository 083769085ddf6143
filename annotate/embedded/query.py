"""Parse what a person types into the search field.

All words must be there; `"several words"` is a phrase, and `wor*` the beginning of a word.
"""

import re
from dataclasses import dataclass

_PART = re.compile(r'"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)')
_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_MAX_QUERY_CHARS = 2_000


@dataclass(frozen=True)
class Phrase:
    """Words side by side; with `is_prefix` the last one is the beginning of a word."""

    words: tuple[str, ...]
    is_prefix: bool = False


def words(text: str) -> list[str]:
    """Return the words of a text as they are indexed.

    They are in lower case and without signs; each CJK character is a word by itself.
    """
    return _WORD.findall(text.lower())


def parse(query: str) -> list[Phrase]:
    """Return the phrases that must all be there; none where the query holds no word."""
    phrases = []
    for part in _PART.finditer(query[:_MAX_QUERY_CHARS]):
        is_quoted = part["phrase"] is not None
        text = part["phrase"] if is_quoted else part["word"]
        found = tuple(words(text))
        if found:
            phrases.append(Phrase(found, is_prefix=not is_quoted and text.endswith("*")))
    return phrases


def full_text(phrase: Phrase) -> str:
    """Write a phrase in the language of FTS5.

    Words hold letters and digits alone, so nothing needs escaping.
    """
    quoted = f'"{" ".join(phrase.words)}"'
    return quoted + "*" if phrase.is_prefix else quoted
