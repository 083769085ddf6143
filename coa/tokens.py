"""From a trajectory's text to token ids with exact masks, for any lossless Hugging Face tokenizer.

Every piece of text with one author is encoded by itself and the ids are joined, as they are in a rollout. So no token
has two authors, and a mask is right by construction: nothing is searched, nothing depends on how many newlines follow a
tag.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from coa import control_tokens, protocol
from coa.errors import ConfigError
from coa.protocol import Piece
from coa.trajectory import Author, Step

_BYTE_LEVEL = (
    "use a byte-level tokenizer (Qwen, Llama 3, DeepSeek, ...), or one without normalisation"
)
_ANCHORS = ("\n", "x", ".")
"""Texts to put before a piece; more than one, because a piece's first character may melt into one of them."""


class TextLostError(ConfigError):
    """A tokenizer does not give a text back, so that its masks could not be exact."""


class AddedToken(Protocol):
    """A token that stands outside a tokenizer's learned vocabulary."""

    special: bool

    def __str__(self) -> str:
        """Its name."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is used."""

    added_tokens_decoder: Mapping[int, AddedToken]

    def __call__(self, text: str, **options: Any) -> Any:
        """Encode; the result has `input_ids`."""

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """Decode."""


class PieceEncoder:
    """Encodes and decodes pieces of text as they stand in the middle of a context, with nothing added around them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.items()
        self._special = {str(name): token for token, name in added if name.special}
        self._ordinary = {str(name): token for token, name in added if not name.special}
        tags = protocol.all_tags(("search",))
        self._harmful = {name: token for name, token in self._special.items() if name not in tags}

    @cached_property
    def _adds_space(self) -> bool:
        """Whether the tokenizer puts a space before every text, as Llama 2's does."""
        plain, anchored = (
            self._ids("x", parses_special=False),
            self._ids("\nx", parses_special=False),
        )
        return anchored[-len(plain) :] != plain

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """The ids of one piece.

        Names of special tokens mean those tokens in a prompt. In an observation they never do, and in text of the
        policy or the scaffold only the protocol's own tags do, where a tokenizer knows these as special.

        Raises:
            ConfigError: the tokenizer always melts the beginning of the text into what stands before it.
        """
        is_clean = author is not Author.ENVIRONMENT and not any(
            name in text for name in self._harmful
        )
        parses_special = is_prompt or is_clean
        ids = self._in_context(text, parses_special=parses_special)
        if not parses_special and not set(self._harmful.values()).isdisjoint(ids):
            # A model that has the names in its own vocabulary, as Unigram has, finds them unless they are broken.
            ids = [
                token
                for part in self._break_names(text)
                for token in self._in_context(part, parses_special=False)
            ]
        return tuple(ids)

    @cached_property
    def control_tokens(self) -> tuple[str, ...]:
        """Names of the tokenizer's control tokens that `protocol.neutralise` has to be told of."""
        added = {**dict.fromkeys(self._ordinary, False), **dict.fromkeys(self._special, True)}
        names = control_tokens.names_of(added.items())
        return tuple(name for name in names if not protocol.is_neutralised_anyway(name))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids, nothing left out and nothing tidied up."""
        anchor = _ANCHORS[0] if self._adds_space else ""
        ids = [*self._ids(anchor, parses_special=False), *ids] if anchor else ids
        text = self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text[len(anchor) :]

    def _break_names(self, text: str) -> list[str]:
        """Cut `text` after the first character of each special token's name."""
        inside = (f"(?<={re.escape(name[0])})(?={re.escape(name[1:])})" for name in self._harmful)
        return re.split("|".join(inside), text)

    def _in_context(self, text: str, *, parses_special: bool) -> list[int]:
        """The ids of `text` after other text, without the space that some tokenizers add at every beginning."""
        if not self._adds_space:
            return self._ids(text, parses_special=parses_special)
        known = self._ordinary | (self._special if parses_special else {})
        # Such a tokenizer adds a space after each added token, too.
        names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True))
        parts = re.split(f"({names})", text) if names else [text]
        return [
            token
            for part in parts
            for token in ([known[part]] if part in known else self._anchored(part))
        ]

    def _anchored(self, text: str) -> list[int]:
        """The ids of `text` with an anchor before it that takes the space and is cut off again."""
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


@dataclass(frozen=True, slots=True)
class Tokenised:
    """Token ids of a text with the piece that each belongs to."""

    ids: tuple[int, ...]
    pieces: tuple[Piece, ...]
    lengths: tuple[int, ...]
    """Number of ids of each piece; they add up to the number of ids."""

    def mask(self, is_trained: Callable[[Piece], bool]) -> tuple[bool, ...]:
        """True at the ids of the pieces that `is_trained` chooses."""
        chosen = zip(self.pieces, self.lengths, strict=True)
        return tuple(flag for piece, length in chosen for flag in (is_trained(piece),) * length)

    @property
    def loss_mask(self) -> tuple[bool, ...]:
        """True at the policy's own tokens: what SFT stages 1 and 2 and RL train."""
        return self.mask(lambda piece: piece.author is Author.POLICY)

    @property
    def world_mask(self) -> tuple[bool, ...]:
        """The policy's tokens and the bodies of observations with their closing tags: what SFT stage 3 trains."""
        return self.mask(lambda piece: piece.author is Author.POLICY or piece.is_world)


def tokenise(
    prompt: str, steps: Sequence[Step], encoder: PieceEncoder, *, end_id: int | None = None
) -> Tokenised:
    """Encode a prompt and its steps piece by piece.

    `end_id`, the end-of-turn token, is added as the policy's when given; leave it out where the text ends in an action.

    Raises:
        TextLostError: decoding the ids does not give the text back.
    """
    pieces = protocol.pieces(prompt, steps)
    encoded = [
        encoder.encode(piece.text, is_prompt=piece.kind is None, author=piece.author)
        for piece in pieces
    ]
    ids = tuple(token for part in encoded for token in part)
    text = prompt + protocol.render(steps)
    if (decoded := encoder.decode(ids)) != text:
        raise _lossy(text, decoded)
    lengths = [len(part) for part in encoded]
    if end_id is not None:
        ids, lengths = (*ids, end_id), [*lengths, 1]
        pieces = [*pieces, Piece("", Author.POLICY, pieces[-1].kind)]
    return Tokenised(ids, tuple(pieces), tuple(lengths))


def _lossy(text: str, decoded: str) -> TextLostError:
    same = next(
        (i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b),
        min(len(text), len(decoded)),
    )
    return TextLostError(
        "the tokenizer does not give a trajectory's text back, so its masks could not be exact",
        where=f"character {same}",
        expected=repr(text[same : same + 20]),
        got=repr(decoded[same : same + 20]),
        fix=_BYTE_LEVEL,
    )
