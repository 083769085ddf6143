"""Compare the mask of a row with the authors of its text, token by token."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coa.doctor.alignment import Aligner, CharRange
from coa.doctor.findings import (
    AuthorCount,
    AuthorSpan,
    Examination,
    Fault,
    Finding,
    MaskedRow,
    ShownPiece,
)
from coa.records.tokens import PieceEncoder, Tokenizer
from coa.records.trajectory import Author

UNJUDGED = "unjudged"
"""The name of text whose author is unknown or does not matter."""
MIXED = "mixed"
"""The name of tokens that hold text of the policy and of another author."""
_EXCERPT_CHARS = 40
_FAULT_OF = {
    Author.ENVIRONMENT: Fault.OBSERVATION_TRAINED,
    Author.SCAFFOLD: Fault.PROMPT_TRAINED,
    Author.POLICY: Fault.POLICY_MASKED,
}
"""What is wrong where a token of this author is not treated as it should be."""


class _Token(NamedTuple):
    """A token with its author and its mask."""

    chars: CharRange
    author: str
    is_trained: bool

    @property
    def is_judged(self) -> bool:
        return self.author not in (UNJUDGED, MIXED)

    @property
    def is_wrong(self) -> bool:
        return self.is_judged and self.is_trained != (self.author == Author.POLICY)


@dataclass(frozen=True, slots=True)
class Doctor:
    """An examiner of rows, for one tokenizer."""

    tokenizer: Tokenizer
    encoder: PieceEncoder
    aligner: Aligner
    max_tokens: int = 0
    """Rows with more tokens count as cut off; 0 sets no limit."""

    @classmethod
    def of(cls, tokenizer: Tokenizer, max_tokens: int = 0) -> "Doctor":
        """Make the doctor for a tokenizer."""
        encoder = PieceEncoder(tokenizer)
        return cls(tokenizer, encoder, Aligner(encoder), max_tokens)

    def examine(self, row: MaskedRow) -> Examination:
        """Say what is wrong with a row, and what of it is trained."""
        findings = list(row.noticed)
        findings += self._length_findings(row)
        text = self.encoder.decode(row.ids) if row.ids else ""
        ranges = self.aligner.align(row.ids, text)
        if ranges is None:
            findings.append(Finding(Fault.TEXT_CHANGED, detail="tokens cannot be aligned"))
            return Examination(row.row_id, tuple(findings), {}, ())
        tokens = _with_authors(row, ranges)
        if row.has_mask:
            findings += _mask_findings(tokens, text)
        mixed = [number for number, token in enumerate(tokens) if token.author == MIXED]
        findings += _at(Fault.BORDER_STRADDLED, mixed, tokens, text)
        findings += self._end_findings(row, tokens)
        total = Counter(token.author for token in tokens)
        trained = Counter(token.author for token in tokens if token.is_trained)
        counts = {name: AuthorCount(total[name], trained[name]) for name in total}
        return Examination(row.row_id, tuple(findings), counts, _pieces(tokens, text))

    def _length_findings(self, row: MaskedRow) -> Iterator[Finding]:
        """Find a second beginning, and a row that a trainer would cut."""
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is not None and row.ids[:2] == (bos, bos):
            yield Finding(Fault.BOS_DOUBLED, token=1)
        if self.max_tokens and len(row.ids) > self.max_tokens:
            detail = f"{len(row.ids):,} tokens, and the limit is {self.max_tokens:,}"
            yield Finding(Fault.CUT_OFF, token=self.max_tokens, detail=detail)

    def _end_findings(self, row: MaskedRow, tokens: Sequence[_Token]) -> Iterator[Finding]:
        """Find a missing or masked end after the policy's last text."""
        end_id = getattr(self.tokenizer, "eos_token_id", None)
        by_policy = [
            number for number, token in enumerate(tokens) if token.author in (Author.POLICY, MIXED)
        ]
        if end_id is None or not by_policy or not row.has_end:
            return
        last = by_policy[-1]
        if row.ids[last] == end_id:
            return
        for number in range(last + 1, len(tokens)):
            if row.ids[number] != end_id:
                continue
            if row.has_mask and not tokens[number].is_trained:
                yield Finding(Fault.END_MASKED, token=number)
            return
        yield Finding(Fault.END_MISSING, token=last)


def _with_authors(row: MaskedRow, ranges: Sequence[CharRange]) -> list[_Token]:
    """Give every token the author of its characters."""
    tokens: list[_Token] = []
    first = 0
    for chars, is_trained in zip(ranges, row.trained, strict=True):
        while first < len(row.spans) and row.spans[first].end <= chars.start:
            first += 1
        author = _author_of(chars, row.spans, first)
        tokens.append(_Token(chars, author, is_trained))
    return tokens


def _author_of(chars: CharRange, spans: Sequence[AuthorSpan], first: int) -> str:
    """Name the author of a token's characters, which begin in the span `first` or after it."""
    authors: set[Author | None] = set()
    number = first
    while number < len(spans) and spans[number].start < chars.end:
        if spans[number].end > chars.start:
            authors.add(spans[number].author)
        number += 1
    if chars.start == chars.end or None in authors or not authors:
        return UNJUDGED
    if len(authors) == 1:
        return str(authors.pop())
    if Author.POLICY in authors:
        return MIXED
    return Author.ENVIRONMENT


def _mask_findings(tokens: Sequence[_Token], text: str) -> list[Finding]:
    """Find tokens that are trained and should not be, or the other way round."""
    if not any(token.is_trained for token in tokens):
        return [Finding(Fault.NOTHING_TRAINED)]
    wrong = [number for number, token in enumerate(tokens) if token.is_wrong]
    if not wrong:
        return []
    for distance in (1, -1):
        if _is_right_when_moved(tokens, distance):
            where = "late" if distance > 0 else "early"
            detail = f"the mask comes one token too {where}"
            return [Finding(Fault.MASK_SHIFTED, wrong[0], len(wrong), detail)]
    findings: list[Finding] = []
    for author, fault in _FAULT_OF.items():
        found = [number for number in wrong if tokens[number].author == author]
        findings += _at(fault, found, tokens, text)
    return findings


def _is_right_when_moved(tokens: Sequence[_Token], distance: int) -> bool:
    """Return whether the mask `distance` tokens on is the right one for every token."""
    num_judged = 0
    for number, token in enumerate(tokens):
        other = number + distance
        if not token.is_judged or not 0 <= other < len(tokens):
            continue
        num_judged += 1
        if tokens[other].is_trained != (token.author == Author.POLICY):
            return False
    return num_judged > 0


def _at(fault: Fault, found: Sequence[int], tokens: Sequence[_Token], text: str) -> list[Finding]:
    """Report a fault of several tokens once, with the text from the first of them on."""
    if not found:
        return []
    start = tokens[found[0]].chars.start
    return [Finding(fault, found[0], len(found), text[start : start + _EXCERPT_CHARS])]


def _pieces(tokens: Sequence[_Token], text: str) -> tuple[ShownPiece, ...]:
    """Join neighbouring tokens that look alike."""
    pieces: list[ShownPiece] = []
    start = 0
    for number, token in enumerate(tokens):
        after = tokens[number + 1] if number + 1 < len(tokens) else None
        looks = (token.author, token.is_trained, token.is_wrong)
        if after is not None and looks == (after.author, after.is_trained, after.is_wrong):
            continue
        piece = text[start : token.chars.end]
        start = token.chars.end
        pieces.append(ShownPiece(piece, token.author, token.is_trained, token.is_wrong))
    return tuple(pieces)
