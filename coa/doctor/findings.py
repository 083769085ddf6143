"""Define what the doctor can find in a row, and the record of an examined row."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from coa.records.trajectory import Author, Step, StepKind


class Fault(StrEnum):
    """What can be wrong with a row or with the tokenizer that made it."""

    UNREADABLE = "unreadable"
    """The row cannot be read, so nothing is known of its authors."""
    CUT_OFF = "cut_off"
    """The text ends before the policy's answer, or the row is longer than `doctor.max_tokens`."""
    OBSERVATION_TRAINED = "observation_trained"
    """Tokens of an observation are trained."""
    PROMPT_TRAINED = "prompt_trained"
    """Tokens of the prompt, or of text that the scaffold wrote, are trained."""
    POLICY_MASKED = "policy_masked"
    """Tokens that the policy wrote are not trained."""
    NOTHING_TRAINED = "nothing_trained"
    """No token of the row is trained."""
    BORDER_STRADDLED = "border_straddled"
    """A token holds text of the policy and of another author, so no mask can be right there."""
    OBSERVATION_FORGED = "observation_forged"
    """The policy wrote the tag of an observation itself; a mask that searches for tags hides it."""
    MASK_SHIFTED = "mask_shifted"
    """The labels or the mask are right when they are moved by one token."""
    LABELS_DIFFER = "labels_differ"
    """A label is neither -100 nor its own token."""
    BOS_DOUBLED = "bos_doubled"
    """The row begins with two beginning-of-sequence tokens."""
    END_MISSING = "end_missing"
    """No end-of-sequence token follows the policy's last text, so the model never learns to end."""
    END_MASKED = "end_masked"
    """The end-of-sequence token is there, but it is not trained."""
    REASONING_DROPPED = "reasoning_dropped"
    """The chat template leaves out reasoning that the row holds."""
    REASONING_MOVED = "reasoning_moved"
    """The chat template writes reasoning at another place than before what it led to."""
    CONTENT_DROPPED = "content_dropped"
    """The chat template leaves out a message's content or a call's argument."""
    TEMPLATE_FAILED = "template_failed"
    """The chat template refuses the row."""
    TEMPLATE_HAS_NO_MASK = "template_has_no_mask"
    """The chat template does not mark what the assistant wrote (`{% generation %}`)."""
    TEXT_CHANGED = "text_changed"
    """Decoding the ids does not give the text back."""
    AUTHORS_UNKNOWN = "authors_unknown"
    """A turn of the policy holds another framework's observation: nothing says who wrote it."""
    AUTHORS_CONTRADICT = "authors_contradict"
    """The recorded authors are not those that the form of the text shows."""
    TAG_FOLDED = "tag_folded"
    """The tokenizer does not give one of our tags back."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault of one row."""

    fault: Fault
    token: int | None = None
    """The first token that shows it; None where it belongs to no token."""
    count: int = 1
    """How many tokens show it, or how often it occurs."""
    detail: str = ""
    """The text at that place, or why a reader refused the row."""


class AuthorSpan(NamedTuple):
    """A stretch of the text, from `start` to `end`, and who wrote it."""

    start: int
    end: int
    author: Author | None
    """None where it is unknown or does not matter: a template's own text, an end token."""
    kind: StepKind | None = None
    """None for the prompt, and where it is unknown."""


def author_spans(prompt: str, steps: Iterable[Step]) -> list[AuthorSpan]:
    """Return who wrote which characters of a prompt and its steps; the spans leave no gap."""
    found = [AuthorSpan(0, len(prompt), Author.SCAFFOLD)]
    for step in steps:
        start = found[-1].end
        found.append(AuthorSpan(start, start + len(step.text), step.author, step.kind))
    return found


@dataclass(frozen=True, slots=True)
class MaskedRow:
    """A row as a trainer gets it, and who wrote its text."""

    row_id: str
    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    """For each token, whether it is trained."""
    spans: tuple[AuthorSpan, ...]
    """Who wrote the decoded text, in order and without a gap; text after the last is unjudged."""
    noticed: tuple[Finding, ...] = ()
    """What the reader already found."""
    has_end: bool = True
    """Whether an end token must follow the policy's last text."""
    has_mask: bool = True
    """Whether the mask is worth a judgement; False where none could be made."""
    in_own_tags: bool = False
    """Whether the text is written in this project's own tags."""


def refused_row(row_id: str, fault: Fault, detail: str) -> MaskedRow:
    """Return a row about which nothing is known but why."""
    return MaskedRow(row_id, (), (), (), (Finding(fault, detail=detail),), has_mask=False)


class AuthorCount(NamedTuple):
    """How much one author wrote, and how much of it is trained."""

    tokens: int
    trained: int


class ShownPiece(NamedTuple):
    """A stretch of the text in which every token has the same author and the same mask."""

    text: str
    author: str
    """An `Author`, or one of the two names in `examine`."""
    is_trained: bool
    is_wrong: bool
    """Whether it is trained and should not be, or the other way round."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What the doctor says of one row."""

    row_id: str
    findings: tuple[Finding, ...]
    counts: dict[str, AuthorCount]
    """By author."""
    pieces: tuple[ShownPiece, ...]
    """The text in order, to be shown."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings
