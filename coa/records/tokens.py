"""Encode a trajectory as token ids with exact masks, with any lossless Hugging Face tokenizer.

Every piece of text with one author is encoded by itself and the ids are joined, as they are in a
rollout. So no token has two authors, and a mask is right by construction: no text is searched, and
nothing depends on how many newlines follow a tag.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from coa.errors import ConfigError
from coa.records import control_tokens, protocol
from coa.records.protocol import Piece
from coa.records.trajectory import Author, Step

_BYTE_LEVEL = (
    "use a byte-level tokenizer (Qwen, Llama 3, DeepSeek, ...), or one without normalisation"
)
_ANCHORS = ("\n", "x", ".")
"""Texts to put before a piece, tried in order: a piece's first character may merge with one."""
SEARCH = "search"
"""The tool whose tags are the protocol's wherever they stand; those of another tool are where both
tags of its call do."""


class TextLostError(ConfigError):
    """A tokenizer does not give a text back, so its masks could not be exact."""


class AddedToken(Protocol):
    """A token that is not in a tokenizer's learned vocabulary."""

    special: bool

    def __str__(self) -> str:
        """Return its name."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used."""

    added_tokens_decoder: Mapping[int, AddedToken]

    def __call__(self, text: str | list[str], **options: Any) -> Any:
        """Encode a text, or each of a list; the result has `input_ids`."""

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """Decode ids."""


def tools_with_tags(tags: Collection[str]) -> set[str]:
    """Find the tools whose calls have their opening and their closing tag among `tags`."""
    before, after = protocol.open_tag("|").split("|")
    found = set()
    for tag in tags:
        tool = tag.removeprefix(before).removesuffix(after)
        is_opening = protocol.is_tool_name(tool) and tag == protocol.open_tag(tool)
        if is_opening and protocol.close_tag(tool) in tags:
            found.add(tool)
    return found


class PieceEncoder:
    """An encoder for pieces in the middle of a context: it adds nothing around them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        tags = protocol.all_tags({SEARCH, *tools_with_tags(special)})
        self._special: dict[str, int] = {}
        self._ordinary: dict[str, int] = {}
        self._harmful: dict[str, int] = {}
        """The special tokens that are not tags of the protocol."""
        for token, added in tokenizer.added_tokens_decoder.items():
            name = str(added)
            if not added.special:
                self._ordinary[name] = token
                continue
            self._special[name] = token
            if name not in tags:
                self._harmful[name] = token
        self._harmful_ids = frozenset(self._harmful.values())

    @property
    def tokenizer(self) -> Any:
        """Return the tokenizer."""
        return self._tokenizer

    @cached_property
    def _adds_space(self) -> bool:
        """Tell whether the tokenizer puts a space before every text, as Llama 2's does."""
        plain = self._ids("x", parses_special=False)
        anchored = self._ids("\nx", parses_special=False)
        return anchored[-len(plain) :] != plain

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """Encode one piece.

        In a prompt, names of special tokens mean those tokens. In an observation they never do. In
        text of the policy or the scaffold only the protocol's own tags do, where the tokenizer
        knows them as special.

        Raises:
            ConfigError: The tokenizer always merges the beginning of the text with the text before.
        """
        parses_special = is_prompt or self._may_parse_special(text, author)
        ids = self._in_context(text, parses_special=parses_special)
        if parses_special or self._harmful_ids.isdisjoint(ids):
            return tuple(ids)
        # A tokenizer that has the names in its learned vocabulary too, such as Unigram, finds them
        # unless they are broken.
        broken: list[int] = []
        for part in self._break_names(text):
            broken += self._in_context(part, parses_special=False)
        return tuple(broken)

    def encode_all(self, pieces: Sequence[Piece]) -> list[tuple[int, ...]]:
        """Encode each piece by itself, as `encode` does, in one call of the tokenizer or two.

        Raises:
            ConfigError: The tokenizer always merges the beginning of a text with the text before.
        """
        encoded: list[tuple[int, ...]] = [()] * len(pieces)
        by_itself: list[int] = []
        parsed: list[int] = []
        plain: list[int] = []
        for number, piece in enumerate(pieces):
            is_prompt = piece.kind is None
            if self._adds_space:
                by_itself.append(number)
            elif is_prompt or self._may_parse_special(piece.text, piece.author):
                parsed.append(number)
            else:
                plain.append(number)
        for numbers, parses_special in ((parsed, True), (plain, False)):
            texts = [pieces[number].text for number in numbers]
            found = self._all_ids(texts, parses_special=parses_special)
            for number, ids in zip(numbers, found, strict=True):
                if parses_special or self._harmful_ids.isdisjoint(ids):
                    encoded[number] = tuple(ids)
                else:
                    by_itself.append(number)
        for number in by_itself:
            text, author, kind, _ = pieces[number]
            encoded[number] = self.encode(text, is_prompt=kind is None, author=author)
        return encoded

    def _may_parse_special(self, text: str, author: Author) -> bool:
        """Return whether only the protocol's tags could be parsed as special tokens."""
        if author is Author.ENVIRONMENT:
            return False
        return not any(name in text for name in self._harmful)

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """List the tokenizer's control tokens that `protocol.neutralise` has to be given."""
        is_special = dict.fromkeys(self._ordinary, False)
        is_special.update(dict.fromkeys(self._special, True))
        names = control_tokens.names_of(is_special.items())
        return tuple(name for name in names if not protocol.is_neutralised_anyway(name))

    def decode(self, ids: Sequence[int]) -> str:
        """Decode ids; nothing is left out and nothing is tidied up."""
        anchor = ""
        if self._adds_space:
            # The anchor takes the space and is cut off again.
            anchor = _ANCHORS[0]
            ids = [*self._ids(anchor, parses_special=False), *ids]
        text = self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text[len(anchor) :]

    def _break_names(self, text: str) -> list[str]:
        """Cut `text` after the first character of each special token's name."""
        cuts = []
        for name in self._harmful:
            cuts.append(f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})")
        return re.split("|".join(cuts), text)

    def _in_context(self, text: str, *, parses_special: bool) -> list[int]:
        """Encode `text` as it follows other text.

        The space that some tokenizers add at every beginning is left out.
        """
        if not self._adds_space:
            return self._ids(text, parses_special=parses_special)
        # Such a tokenizer adds a space after each added token, too. So the text is cut at these.
        known = dict(self._ordinary)
        if parses_special:
            known.update(self._special)
        longest_first = sorted(known, key=len, reverse=True)
        names = "|".join(re.escape(name) for name in longest_first)
        parts = re.split(f"({names})", text) if names else [text]
        ids: list[int] = []
        for part in parts:
            if part in known:
                ids.append(known[part])
            else:
                ids += self._anchored(part)
        return ids

    def _anchored(self, text: str) -> list[int]:
        """Encode `text` after an anchor that takes the space and is cut off again."""
        for anchor in _ANCHORS:
            before = self._ids(anchor, parses_special=False)
            ids = self._ids(anchor + text, parses_special=False)
            if ids[: len(before)] == before:
                return ids[len(before) :]
        raise ConfigError(
            "the tokenizer cannot encode a text by itself", where=repr(text[:20]), fix=_BYTE_LEVEL
        )

    def _ids(self, text: str, *, parses_special: bool) -> list[int]:
        ids: list[int] = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=not parses_special, verbose=False
        )["input_ids"]
        return ids

    def _all_ids(self, texts: list[str], *, parses_special: bool) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(
            texts, add_special_tokens=False, split_special_tokens=not parses_special, verbose=False
        )["input_ids"]
        return ids


@dataclass(frozen=True, slots=True)
class Tokenised:
    """The token ids of a text, with the piece that each belongs to."""

    ids: tuple[int, ...]
    pieces: tuple[Piece, ...]
    lengths: tuple[int, ...]
    """The number of ids of each piece; their sum is the number of ids."""

    def mask(self, is_trained: Callable[[Piece], bool]) -> tuple[bool, ...]:
        """Return a mask that is True at the ids of the pieces that `is_trained` chooses."""
        flags: list[bool] = []
        for piece, length in zip(self.pieces, self.lengths, strict=True):
            flags += [is_trained(piece)] * length
        return tuple(flags)

    @property
    def loss_mask(self) -> tuple[bool, ...]:
        """Return the mask of the policy's own tokens, which SFT stages 1 and 2 and RL train.

        A chat policy's transcribed steps are in it whole, our tags included: their meaning is the
        policy's, and a model that is to write the tags must learn them. Cards count them apart.
        """
        return self.mask(lambda piece: piece.author is Author.POLICY)

    @property
    def world_mask(self) -> tuple[bool, ...]:
        """Return the mask that SFT stage 3 trains.

        It covers the policy's tokens and the bodies of observations with their closing tags.
        """
        return self.mask(lambda piece: piece.author is Author.POLICY or piece.is_world)


def tokenise(
    prompt: str,
    steps: Sequence[Step],
    encoder: PieceEncoder,
    *,
    prefix: Sequence[Step] = (),
    end_id: int | None = None,
) -> Tokenised:
    """Encode a prompt and its steps piece by piece.

    Args:
        prompt: The prompt.
        steps: The steps after it, and after the prefix.
        encoder: The encoder.
        prefix: Steps before `steps` of which no token holds a part of both, as two sides share it.
        end_id: The end-of-turn token, which is added as the policy's. Leave it out where the text
            ends in an action.

    Raises:
        TextLostError: Decoding the ids does not give the text back.
    """
    pieces = [*protocol.pieces(prompt, prefix), *protocol.pieces("", steps)]
    ids: list[int] = []
    lengths: list[int] = []
    for encoded in encoder.encode_all(pieces):
        ids += encoded
        lengths.append(len(encoded))
    text = prompt + protocol.render((*prefix, *steps))
    decoded = encoder.decode(tuple(ids))
    if decoded != text:
        raise _text_lost(text, decoded)
    if end_id is not None:
        ids.append(end_id)
        lengths.append(1)
        pieces.append(Piece("", Author.POLICY, pieces[-1].kind))
    return Tokenised(tuple(ids), tuple(pieces), tuple(lengths))


def _text_lost(text: str, decoded: str) -> TextLostError:
    start = _first_difference(text, decoded)
    return TextLostError(
        "the tokenizer does not give a trajectory's text back, so its masks could not be exact",
        where=f"character {start}",
        expected=repr(text[start : start + 20]),
        got=repr(decoded[start : start + 20]),
        fix=_BYTE_LEVEL,
    )


def _first_difference(first: str, second: str) -> int:
    """Return the position of the first character that differs."""
    for i, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return i
    return min(len(first), len(second))
