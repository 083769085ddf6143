"""A set's files to a count of its characters: who wrote them, and which stage of training learns them.

Goes by the same pieces as the token masks (`coa.protocol.pieces`), so the card cannot say anything else than they do.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coa import protocol, tables
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.protocol import Piece
from coa.trajectory import Author, Step
from data_cards.catalogue import SPLITS, SetName, local_path


class Part(NamedTuple):
    """A kind of text in a set."""

    what: str
    author: Author
    trained: str
    """The stages that learn it."""


PROMPT = Part("prompt", Author.SCAFFOLD, "never")
_OWN = Part("thoughts, actions, answers", Author.POLICY, "SFT stages 2 and 3")
_WORLD = Part("search results", Author.ENVIRONMENT, "SFT stage 3")
_FRAME = Part("tags around search results, failed calls", Author.ENVIRONMENT, "never")
_MARKER = Part("inserted markers", Author.SCAFFOLD, "never")


def _trajectory_part(piece: Piece) -> Part:
    if piece.kind is None:
        return PROMPT
    if piece.author is Author.ENVIRONMENT:
        return _WORLD if piece.is_world else _FRAME
    return _OWN if piece.author is Author.POLICY else _MARKER


def _count(parts: Counter[Part], pieces: Iterable[tuple[Part, str]]) -> None:
    for part, text in pieces:
        parts[part] += len(text)


def _trajectory_pieces(row: GradedTrajectory) -> Iterator[tuple[Part, str]]:
    for piece in protocol.pieces(row.trajectory.prompt, row.trajectory.steps):
        yield _trajectory_part(piece), piece.text


def _pair_pieces(row: PreferencePair) -> Iterator[tuple[Part, str]]:
    yield PROMPT, row.prompt
    yield from _side_pieces("shared prefix", row.prefix, "never")
    yield from _side_pieces("chosen side", row.chosen, "SFT stage 1, made likelier")
    yield from _side_pieces("rejected side", row.rejected, "SFT stage 1, made less likely")


def _side_pieces(what: str, steps: Iterable[Step], trained: str) -> Iterator[tuple[Part, str]]:
    for step in steps:
        yield (
            Part(what, step.author, trained if step.author is Author.POLICY else "never"),
            step.text,
        )


def count_characters(name: SetName) -> dict[Part, int]:
    """Characters of each part of both splits, in reading order; a set of questions has none.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    parts: Counter[Part] = Counter()
    for split in SPLITS if name is not SetName.RL else ():
        path = local_path(name, split)
        if name is SetName.COT_A:
            for pair in tables.read_table(path, PreferencePair):
                _count(parts, _pair_pieces(pair))
        else:
            for row in tables.read_table(path, GradedTrajectory):
                _count(parts, _trajectory_pieces(row))
    return dict(sorted(parts.items(), key=lambda item: _reading_order(item[0])))


_ORDER = (
    "prompt",
    "shared prefix",
    "chosen side",
    "rejected side",
    _OWN.what,
    _WORLD.what,
    _FRAME.what,
    _MARKER.what,
)


def _reading_order(part: Part) -> tuple[int, str]:
    return _ORDER.index(part.what), part.author
