"""Find out which characters of a decoded text each token holds, in linear time.

Every distinct token is decoded once. A token that holds a part of a character only, as byte-level
tokenizers have them, is decoded together with its neighbours; all of them then hold the character.
"""

from collections.abc import Sequence
from typing import NamedTuple

from coa.records.tokens import PieceEncoder

_REPLACEMENT = "\ufffd"
"""What a decoder writes for bytes that are not a whole character."""
_LONGEST_GROUP = 8
"""Tokens that are tried together; a character of UTF-8 has at most four bytes."""


class CharRange(NamedTuple):
    """The characters of one token, from `start` to `end`."""

    start: int
    end: int


class Aligner:
    """An aligner of tokens with text, for one tokenizer."""

    def __init__(self, encoder: PieceEncoder) -> None:
        self._encoder = encoder
        self._decoded: dict[tuple[int, ...], str] = {}

    def align(self, ids: Sequence[int], text: str) -> list[CharRange] | None:
        """Return the characters of each token; None where `text` is not what the tokens say."""
        ranges: list[CharRange] = []
        position = 0
        while len(ranges) < len(ids):
            size = self._group_at(ids, len(ranges), text, position)
            start = len(ranges)
            end = position + len(self._decode(ids[start : start + size]))
            if size == 0:
                # Some decoders give up a whole run of bytes that is cut inside a character.
                if not text.startswith(_REPLACEMENT, position):
                    return None
                size = 1
                end = position + 1
            ranges += [CharRange(position, end)] * size
            position = end
        return ranges if position == len(text) else None

    def _group_at(self, ids: Sequence[int], start: int, text: str, position: int) -> int:
        """Return how many tokens from `start` make up whole characters; 0 where none do."""
        alone = self._decode(ids[start : start + 1])
        if _REPLACEMENT not in alone:
            return 1 if text.startswith(alone, position) else 0
        # Of the groups that agree with the text, the one with the least text and the most tokens:
        # all bytes of one character, and no token of the next.
        best = 0
        best_length = 0
        for size in range(1, min(_LONGEST_GROUP, len(ids) - start) + 1):
            decoded = self._decode(ids[start : start + size])
            if not text.startswith(decoded, position):
                continue
            if best == 0 or len(decoded) <= best_length:
                best = size
                best_length = len(decoded)
        return best

    def _decode(self, ids: Sequence[int]) -> str:
        key = tuple(ids)
        if not key:
            return ""
        if key not in self._decoded:
            self._decoded[key] = self._encoder.decode(key)
        return self._decoded[key]
