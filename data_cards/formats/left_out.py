"""Name the rows that an export leaves out, each with the reason."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path


class LeftOutReason(StrEnum):
    """A reason why a row is not in an export."""

    TOO_LONG = "too_long"
    """It has more than `export.max_tokens` tokens."""
    TEXT_CHANGED = "text_changed"
    """The tokenizer does not give its text back, so its labels could not be exact."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not in an export."""

    row_id: str
    set: str
    split: str
    reason: LeftOutReason
    detail: str


def write_left_out(path: Path, left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Write the rows that were left out, if any; return how many there are for each reason."""
    if not left_out:
        return {}
    lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in left_out]
    path.write_text("".join(lines), encoding="utf-8")
    num_by_reason = Counter(row.reason for row in left_out)
    return {f"left out as {reason} ({path.name})": num for reason, num in num_by_reason.items()}
