"""Define the file that keeps a finished row: small, committed, and enough for paired intervals.

Outcomes are kept by column in the order of the questions' ids, a byte for each question, compressed
and in base64. Rows with the same hash of questions can be compared question by question.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coa.errors import InputError
from coa.intervals import Interval
from coa.student.results import read_json
from coa.whole_files import write_file
from evaluation.outcomes import Outcome

_NONE = 255
"""The byte of a question to which a column does not apply."""
COLUMNS: dict[str, Callable[[Outcome], int | None]] = {
    "exact_match": lambda row: row.exact_match,
    "num_actions": lambda row: row.num_actions,
    "num_hops": lambda row: row.num_hops,
    "needs_no_search": lambda row: row.needs_no_search,
    "is_broken": lambda row: row.is_broken,
    "searched_known": lambda row: row.searched_known,
    "needed_known": lambda row: row.needed_known,
    "searched_unknown": lambda row: row.searched_unknown,
    "needed_unknown": lambda row: row.needed_unknown,
}
"""What is kept of each question."""
Values = Mapping[str, int | None]
"""The columns of one question."""
GROUPS: dict[str, Callable[[Values], bool]] = {
    "all": lambda values: True,
    "single hop": lambda values: values["num_hops"] == 1,
    "multi hop": lambda values: (values["num_hops"] or 0) > 1,
    "popular": lambda values: values["needs_no_search"] == 1,
    "recent": lambda values: values["needs_no_search"] == 0,
}
"""Groups of questions. Popular ones join known facts alone, recent ones need a search."""
Point = tuple[float, float]
"""A step, and what was measured there."""
ROLLOUTS = "eval_rollouts/"
"""Begins the names of what was measured by rollouts while training (train/watching.py)."""


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A finished row of an experiment, for one seed."""

    experiment: str
    row: str
    seed: int
    fingerprint: str
    """Of all settings of the chain and of the evaluation (lab/plan.py)."""
    common: str
    """Of the settings that the rows of an experiment share."""
    command: str
    """Makes the row."""
    date: str
    model: str
    """The fingerprint of the model's files."""
    split: str
    questions: str
    """The hash of the questions that were asked."""
    num_questions: int
    num_failed: int
    """Rollouts in which a tool or a server failed; they count as wrong."""
    metrics: dict[str, dict[str, Interval | None]]
    """Means over groups of questions: group, measure, interval."""
    curves: dict[str, dict[str, list[Point]]]
    """From the logs of the chain: training, quantity, points."""
    columns: dict[str, str]
    """What became of every question, packed."""
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What else was measured: `gate` and `searches`, which the last training wrote beside its
    model, and `fidelity` of its simulator."""

    def questions_of(self, group: str) -> dict[int, dict[str, int | None]]:
        """Return the outcomes of a group of questions, by the question's place."""
        unpacked = {name: unpack(text, self.num_questions) for name, text in self.columns.items()}
        found = {}
        for place in range(self.num_questions):
            values = {name: column[place] for name, column in unpacked.items()}
            if GROUPS[group](values):
                found[place] = values
        return found


def pack(values: Iterable[int | None]) -> str:
    """Pack small numbers, a byte each; those above 254 are kept as 254."""
    codes = []
    for value in values:
        codes.append(_NONE if value is None else min(int(value), _NONE - 1))
    return base64.b64encode(zlib.compress(bytes(codes), 9)).decode()


def unpack(text: str, size: int) -> list[int | None]:
    """Read a packed column back.

    Raises:
        InputError: it is broken, or has another number of values.
    """
    try:
        inflate = zlib.decompressobj()
        # A committed file may come from anywhere: no more is unpacked than belongs there.
        codes = inflate.decompress(base64.b64decode(text, validate=True), size + 1)
    except (ValueError, zlib.error) as error:
        raise InputError("a column of a kept row is broken", got=error) from error
    if len(codes) != size:
        raise InputError("a column of a kept row has another length", expected=size, got=len(codes))
    return [None if code == _NONE else code for code in codes]


def pack_outcomes(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """Pack the outcomes, sorted by the question's id, by column."""
    rows = sorted(outcomes, key=lambda row: row.question_id)
    return {name: pack(read(row) for row in rows) for name, read in COLUMNS.items()}


def write_row(path: Path, row: KeptRow) -> None:
    """Write a kept row; equal rows give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, json.dumps(asdict(row), indent=1) + "\n")


def read_row(path: Path) -> KeptRow:
    """Read a kept row.

    Raises:
        InputError: the file is missing or holds something else.
    """
    return read_json(path, KeptRow, command="make lab EXPERIMENT=...")
