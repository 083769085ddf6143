"""Tell how many characters of a set each author wrote, and which stage of training learns them.

The count uses the same pieces as the token masks (`coa.records.protocol.pieces`), so the card
cannot contradict them.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.protocol import Piece
from coa.records.trajectory import Author, Step
from coa.store import tables
from data_cards.cards.safe_markdown import Cell, Markdown, share, table
from data_cards.catalogue import SPLITS, SetName, local_path

NEVER = "never"
"""What a card says of text that no stage learns."""


class Part(NamedTuple):
    """A kind of text in a set."""

    what: str
    author: Author
    trained: str
    """The stages that learn it."""


PROMPT = Part("prompt", Author.SCAFFOLD, NEVER)
_POLICY_TEXT = Part("thoughts, actions, answers", Author.POLICY, "SFT stages 2 and 3")
_TRANSCRIBED = Part(
    "native actions and answers, transcribed into tags", Author.POLICY, "SFT stages 2 and 3"
)
"""A chat policy's: their meaning is the policy's, the tags around them were written by us."""
_SEARCH_RESULTS = Part("search results", Author.ENVIRONMENT, "SFT stage 3")
_RESULT_TAGS = Part("tags around search results, failed calls", Author.ENVIRONMENT, NEVER)
_MARKERS = Part("inserted markers", Author.SCAFFOLD, NEVER)
_READING_ORDER = (
    "prompt",
    "shared prefix",
    "chosen side",
    "rejected side",
    _POLICY_TEXT.what,
    _TRANSCRIBED.what,
    _SEARCH_RESULTS.what,
    _RESULT_TAGS.what,
    _MARKERS.what,
)


def count_characters(name: SetName) -> dict[Part, int]:
    """Count the characters of each part of both splits, in reading order; questions have none.

    Raises:
        InputError: a file is missing or broken, or lacks a column.
    """
    if name is SetName.RL:
        return {}
    num_chars: Counter[Part] = Counter()
    for split in SPLITS:
        pieces = _pair_pieces(name, split) if name is SetName.COT_A else _pieces(name, split)
        for part, text in pieces:
            num_chars[part] += len(text)
    return {part: num_chars[part] for part in sorted(num_chars, key=_reading_order)}


def _pieces(name: SetName, split: str) -> Iterator[tuple[Part, str]]:
    """Yield every piece of text of the trajectories of a split."""
    for row in tables.read_table(local_path(name, split), GradedTrajectory):
        yield PROMPT, row.trajectory.prompt
        for step in row.trajectory.steps:
            for piece in protocol.pieces("", (step,)):
                is_transcribed = step.transcribed is not None
                yield _TRANSCRIBED if is_transcribed else _part_of(piece), piece.text


def _part_of(piece: Piece) -> Part:
    if piece.author is Author.ENVIRONMENT:
        return _SEARCH_RESULTS if piece.is_world else _RESULT_TAGS
    return _POLICY_TEXT if piece.author is Author.POLICY else _MARKERS


def _pair_pieces(name: SetName, split: str) -> Iterator[tuple[Part, str]]:
    """Yield every piece of text of the pairs of a split."""
    for pair in tables.read_table(local_path(name, split), PreferencePair):
        yield PROMPT, pair.prompt
        yield from _side_pieces("shared prefix", pair.prefix, NEVER)
        yield from _side_pieces("chosen side", pair.chosen, "SFT stage 1, made likelier")
        yield from _side_pieces("rejected side", pair.rejected, "SFT stage 1, made less likely")


def _side_pieces(what: str, steps: Iterable[Step], trained: str) -> Iterator[tuple[Part, str]]:
    for step in steps:
        learned = trained if step.author is Author.POLICY else NEVER
        yield Part(what, step.author, learned), step.text


def _reading_order(part: Part) -> tuple[int, str]:
    return _READING_ORDER.index(part.what), part.author


def character_table(parts: Mapping[Part, int]) -> Markdown:
    """List the parts with their characters, who wrote them and what learns them."""
    total = sum(parts.values())
    rows: list[list[Cell]] = []
    for part, count in parts.items():
        author = Markdown(str(part.author))
        trained = Markdown(part.trained)
        rows.append([Markdown(part.what), author, count, share(count, total), trained])
    return table(("part", "written by", "characters", "share", "trained in"), rows)


def trained_share(parts: Mapping[Part, int]) -> Markdown:
    """Give the share of the characters that the policy wrote and some stage learns."""
    own = 0
    for part, count in parts.items():
        if part.author is Author.POLICY and part.trained != NEVER:
            own += count
    return share(own, sum(parts.values()))
