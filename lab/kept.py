"""Define the file that keeps a finished row: rows/ROW-sSEED.json, a metrics file of DVC.

Its figures are at the top, where `dvc metrics` and `dvc exp show` read them. All else is in
the list `about`, as they read no lists. Outcomes are kept by column in the order of the questions'
ids, a byte for each question, compressed and in base64: rows with the same hash of questions can be
compared question by question.
"""

import base64
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coa.errors import InputError
from coa.intervals import Interval
from coa.records.trajectory import FORCED_STOPS
from coa.store.metrics import rate
from coa.store.whole_files import write_file
from coa.student.results import read_json
from evaluation.outcomes import Outcome
from lab.records import FOLDER

_NONE = 255
"""The byte of a question to which a column does not apply."""
COLUMNS: dict[str, Callable[[Outcome], int | None]] = {
    "exact_match": lambda row: row.exact_match,
    "f1": lambda row: None if row.f1 is None else round(100 * row.f1),
    "is_forced": lambda row: row.stop_reason in FORCED_STOPS,
    "num_actions": lambda row: row.num_actions,
    "num_hops": lambda row: row.num_hops,
    "needs_no_search": lambda row: row.needs_no_search,
    "is_broken": lambda row: row.is_broken,
    "searched_known": lambda row: row.searched_known,
    "needed_known": lambda row: row.needed_known,
    "searched_unknown": lambda row: row.searched_unknown,
    "needed_unknown": lambda row: row.needed_unknown,
}
"""What is kept of each question; F1 in hundredths."""
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said before the last training that practises on simulated searches."""

    predicts: str
    pays: Interval | None
    """What a simulated search brings, as a difference of shares of right answers."""


@dataclass(frozen=True, slots=True)
class KeptRow:
    """A finished row."""

    row: str
    seed: int
    plan: str
    """The hash of its plan (lab/plan.py)."""
    common: str
    """The hash of its plan's part that the rows of an experiment share."""
    code: str
    """The hash of the code that evaluated it."""
    date: str
    machine: dict[str, str]
    """What it was made on: platform, processor, version of torch, threads."""
    gate: Verdict | None = None
    """None where no training of the chain practises on simulated searches."""
    model: str = ""
    """The fingerprint of the model's files; empty where the gate predicted a harm, so that there is
    no model."""
    questions: str = ""
    """The hash of the questions that were asked."""
    num_questions: int = 0
    num_failed: int = 0
    """Rollouts in which a tool or a server failed; they count as wrong."""
    columns: dict[str, str] = field(default_factory=dict)
    """The outcome of every question, packed."""
    logged: dict[str, tuple[float, float]] = field(default_factory=dict)
    """The first and the last value of the quantities that an experiment shows of the log of the
    last training."""

    def questions_of(self, group: str = "all") -> dict[int, dict[str, int | None]]:
        """Return the outcomes of a group of questions, by the question's place.

        Raises:
            InputError: a column is broken.
        """
        unpacked = {name: unpack(text, self.num_questions) for name, text in self.columns.items()}
        found = {}
        for place in range(self.num_questions):
            values = {name: column[place] for name, column in unpacked.items()}
            if GROUPS[group](values):
                found[place] = values
        return found

    def mean(self, measure: str, group: str = "all") -> float | None:
        """Return the mean over a group of questions; None where there are none."""
        values = [float(outcome[measure] or 0) for outcome in self.questions_of(group).values()]
        return round(sum(values) / len(values), 4) if values else None

    def search_rate(self, facts: str) -> float | None:
        """Return P(search given known or unknown), of the facts that it said it needed."""
        outcomes = self.questions_of().values()
        searched = sum(outcome[f"searched_{facts}"] or 0 for outcome in outcomes)
        needed = sum(outcome[f"needed_{facts}"] or 0 for outcome in outcomes)
        return rate(searched, needed) if needed else None

    def figures(self) -> dict[str, float]:
        """Return the numbers that DVC shows; none where there is no model."""
        found: dict[str, float | None] = {}
        for group in GROUPS:
            name = "exact_match" if group == "all" else f"exact_match {group}"
            found[name] = self.mean("exact_match", group)
        found["searched_known"] = self.search_rate("known")
        found["searched_unknown"] = self.search_rate("unknown")
        f1 = self.mean("f1")
        found["f1"] = None if f1 is None else round(f1 / 100, 4)
        found["is_forced"] = self.mean("is_forced")
        found["num_actions"] = self.mean("num_actions")
        found["broken"] = self.mean("is_broken")
        found["num_failed"] = self.num_failed if self.num_questions else None
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _File:
    """What is read of a file: the figures follow from the rest."""

    about: tuple[KeptRow]


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


def row_path(row: str, seed: int, folder: Path = FOLDER) -> Path:
    """Return the file that keeps a row of a lab."""
    return folder / "rows" / f"{row}-s{seed}.json"


def write_row(row: KeptRow, folder: Path = FOLDER) -> Path:
    """Write a kept row of a lab; equal rows give equal bytes."""
    path = row_path(row.row, row.seed, folder)
    write_file(path, json.dumps({**row.figures(), "about": [asdict(row)]}, indent=1) + "\n")
    return path


def read_row(path: Path) -> KeptRow:
    """Read a kept row.

    Raises:
        InputError: the file is missing or holds something else.
    """
    return read_json(path, _File, command="dvc --cd lab repro").about[0]
