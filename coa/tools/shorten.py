"""Shorten the text of a result, at the end of a sentence or of a word where possible."""

import re

_SENTENCE_END = re.compile(r"[.!?][\"')\]”’]*(?=\s+[\"'(\[“‘]?[A-Z0-9]|$)")  # noqa: RUF001


def shorten(text: str, max_words: int) -> str:
    """Cut a one-line text to `max_words` words.

    It is cut at the end of a sentence if that keeps half of them.
    """
    words = text.split(" ")
    if not max_words or len(words) <= max_words:
        return text
    return _ended(" ".join(words[:max_words]))


def shorten_to_chars(text: str, max_chars: int) -> str:
    """Cut a one-line text to `max_chars` characters.

    It is cut at the end of a sentence or of a word where possible.
    """
    if not max_chars or len(text) <= max_chars:
        return text
    start = text[:max_chars]
    if not text[max_chars].isspace() and " " in start:
        start = start[: start.rindex(" ")]
    return _ended(start.rstrip())


def _ended(start: str) -> str:
    """Cut a text after its last sentence that ends in the second half, or mark that it was cut."""
    ends = [found.end() for found in _SENTENCE_END.finditer(start, len(start) // 2)]
    if not ends:
        return f"{start} ..."
    return start[: ends[-1]]
