"""Read rows that are finished: token ids with labels or a mask, as a trainer takes them.

The ids are decoded. The marks of the chat template show the policy's turns, and our tags who wrote
what in them. Where nothing shows where the prompt ends, the tokens before the first trained one are
left unjudged.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from coa.doctor.findings import AuthorSpan, Fault, Finding, MaskedRow, refused_row
from coa.doctor.tags import read_turn
from coa.doctor.turns import OWN_OPENING, Turn, TurnMarks, policy_turns
from coa.records.tokens import PieceEncoder, Tokenizer
from coa.records.trajectory import Author

MASK_COLUMNS = ("labels", "loss_mask", "assistant_masks", "completion_mask")
"""The columns that say what is trained, in the order in which they are looked for."""
IGNORED = -100
"""The label of a token that is not trained (PyTorch's cross entropy)."""
_MOVED_SHARE = 0.9
"""Labels count as moved where at least this share of them are their neighbours' tokens."""


class FinishedReader(NamedTuple):
    """A reader of finished rows, for one tokenizer."""

    tokenizer: Tokenizer
    encoder: PieceEncoder
    marks: TurnMarks | None
    prompt_end: str = ""
    """What the prompt ends with; empty: it is looked for."""

    def read(self, row_id: str, values: Mapping[str, Any]) -> MaskedRow:
        """Read a row with `input_ids` and one of `MASK_COLUMNS`."""
        ids, given = _unpadded(values)
        fault = _id_fault(ids, given, len(self.tokenizer))  # type: ignore[arg-type]
        if fault:
            return refused_row(row_id, Fault.UNREADABLE, fault)
        noticed_labels: list[Finding] = []
        trained = [bool(flag) for flag in given]
        if mask_column(values) == "labels":
            trained, noticed_labels = _trained_by_labels(ids, given)
        text = self.encoder.decode(ids)
        turns, author = self._turns(text, ids, trained)
        spans, noticed, in_own_tags = _authors(text, turns, author)
        is_cut_off = any(finding.fault is Fault.CUT_OFF for finding in noticed)
        return MaskedRow(
            row_id,
            tuple(ids),
            tuple(trained),
            tuple(spans),
            (*noticed_labels, *noticed),
            has_end=not is_cut_off,
            in_own_tags=in_own_tags,
        )

    def _turns(
        self, text: str, ids: Sequence[int], trained: Sequence[bool]
    ) -> tuple[list[Turn], Author | None]:
        """Find the policy's turns, and who wrote the text before them, if that is known."""
        turns = policy_turns(text, self.marks, self.prompt_end)
        if turns:
            return [self._without_end(turn, text) for turn in turns], Author.SCAFFOLD
        first = trained.index(True) if True in trained else len(ids)
        start = len(self.encoder.decode(ids[:first])) if first else 0
        turn = Turn(start, start, len(text), len(text))
        return [self._without_end(turn, text)], None

    def _without_end(self, turn: Turn, text: str) -> Turn:
        """Leave end tokens and padding out of a turn."""
        names = [self.marks.end.strip()] if self.marks else []
        for kind in ("eos_token", "pad_token"):
            name = getattr(self.tokenizer, kind, None)
            if name:
                names.append(name)
        written = text[turn.start : turn.end].rstrip("\n")
        end = turn.end
        while names and written.endswith(tuple(names)):
            for name in names:
                written = written.removesuffix(name)
            end = turn.start + len(written)
        return turn._replace(end=end)


def _authors(
    text: str, turns: Sequence[Turn], author: Author | None
) -> tuple[list[AuthorSpan], list[Finding], bool]:
    """Read who wrote a decoded text, and whether it is in our tags.

    The text before the first turn is the given author's; what stands between turns came back to
    the policy, whoever wrote it.
    """
    spans: list[AuthorSpan] = []
    noticed: list[Finding] = []
    in_own_tags = False
    position = 0
    for turn in turns:
        if spans:
            author = _author_between(text[position : turn.opening])
        spans.append(AuthorSpan(position, turn.opening, author))
        spans.append(AuthorSpan(turn.opening, turn.start, None))
        written = text[turn.start : turn.end]
        is_opened = text.endswith(OWN_OPENING, 0, turn.start)
        reading = read_turn(written, is_whole=len(turns) == 1, is_opened=is_opened)
        noticed += reading.noticed
        in_own_tags = in_own_tags or reading.in_own_tags
        for span in reading.spans:
            start = turn.start + span.start
            end = turn.start + span.end
            spans.append(span._replace(start=start, end=end))
        spans.append(AuthorSpan(turn.end, turn.after, None))
        position = turn.after
    spans.append(AuthorSpan(position, len(text), _author_between(text[position:])))
    return spans, noticed, in_own_tags


def _author_between(text: str) -> Author | None:
    """Return the author of text that is in no turn of the policy; None for one without words."""
    return Author.ENVIRONMENT if text.strip() else None


def _unpadded(values: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """Return the ids and the labels or mask of a row, without what attention leaves out."""
    ids = _listed(values["input_ids"])
    column = mask_column(values)
    given = _listed(values[column]) if column else [1] * len(ids)
    seen = values.get("attention_mask")
    if not isinstance(seen, Sequence) or not len(seen) == len(ids) == len(given):
        return ids, given
    kept = [number for number, flag in enumerate(seen) if flag]
    return [ids[number] for number in kept], [given[number] for number in kept]


def _listed(value: Any) -> list[Any]:
    """Return a column's list; an empty one where it is none, which is refused later."""
    return list(value) if isinstance(value, Sequence) else []


def mask_column(values: Mapping[str, Any]) -> str:
    """Return the column that says what of a finished row is trained; empty where there is none."""
    for column in MASK_COLUMNS:
        if values.get(column) is not None:
            return column
    return ""


def _id_fault(ids: Sequence[Any], given: Sequence[Any], num_known: int) -> str:
    """Say why a row cannot be examined; empty where it can be."""
    if not ids or len(ids) != len(given):
        return f"{len(ids)} ids, and {len(given)} labels or flags"
    for number, token in enumerate(ids):
        if not isinstance(token, int) or not 0 <= token < num_known:
            return f"token {number} is {token!r}; the tokenizer has {num_known:,}"
    return ""


def _trained_by_labels(
    ids: Sequence[int], labels: Sequence[int]
) -> tuple[list[bool], list[Finding]]:
    """Read from labels what is trained; labels that hold the next token are moved back."""
    labelled = [number for number, label in enumerate(labels) if label != IGNORED]
    trained = [label != IGNORED for label in labels]
    wrong = [number for number in labelled if labels[number] != ids[number]]
    if not wrong:
        return trained, []
    for distance in (1, -1):
        moved = []
        for number in labelled:
            other = number + distance
            if 0 <= other < len(ids) and ids[other] == labels[number]:
                moved.append(number)
        if len(moved) < _MOVED_SHARE * len(labelled):
            continue
        flags = [False] * len(ids)
        for number in moved:
            flags[number + distance] = True
        which = "next" if distance > 0 else "previous"
        detail = f"labels hold the {which} token; trainers move the labels themselves"
        return flags, [Finding(Fault.MASK_SHIFTED, wrong[0], len(wrong), detail)]
    detail = f"label {labels[wrong[0]]} at token {ids[wrong[0]]}"
    return trained, [Finding(Fault.LABELS_DIFFER, wrong[0], len(wrong), detail)]
