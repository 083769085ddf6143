"""Tell evaluation sets apart by size and checksum, and hold them to those of a committed file.

A checksum covers the id, the text and the accepted answers of every question of a set. So a
benchmark in which a question was added, lost or changed is refused, and never measured unseen.
`coa pin` writes such a file; evaluation/pins/ has those that come with the project.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import ConfigError, InputError
from coa.records.question import Question
from coa.store.files import QUESTIONS
from coa.student.results import read_json


@dataclass(frozen=True, slots=True)
class Pin:
    """The size and the checksum of an evaluation set as a whole."""

    num_questions: int
    checksum: str
    """As `questions_hash` gives it."""

    def __str__(self) -> str:
        return f"{self.num_questions:,} questions, checksum {self.checksum}"


def questions_hash(questions: Iterable[Question]) -> str:
    """Hash ids, texts and gold answers or rubrics: the first 16 hex digits of their SHA-256."""
    asked = []
    for question in questions:
        graded_by = question.rubric or question.gold_answers
        asked.append((question.question_id, question.question, graded_by))
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def pin_sets(questions: Iterable[Question], split: str) -> dict[str, Pin]:
    """Return the size and checksum of each evaluation set of a split, by its name."""
    sets: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        if question.split == split:
            sets[question.source].append(question)
    pins = {}
    for name in sorted(sets):
        in_order = sorted(sets[name], key=lambda question: question.question_id)
        pins[name] = Pin(len(in_order), questions_hash(in_order))
    return pins


def read_pins(path: Path) -> dict[str, Pin]:
    """Read a file of pins.

    Raises:
        InputError: the file is missing or holds something else.
    """
    return read_json(path, dict[str, Pin], command=f"coa pin pins={path}")


def check_pins(found: Mapping[str, Pin], path: Path, sets: Sequence[str] = ()) -> None:
    """Refuse evaluation sets that differ from their pins.

    Args:
        found: the sets of the split, as `pin_sets` returns them.
        path: the file of the pins.
        sets: those that are asked; empty asks all, and then all that are pinned must be there.

    Raises:
        InputError: a set has another number of questions, or other questions.
        ConfigError: a set that is asked has no pin.
    """
    pins = read_pins(path)
    again = f"coa pin pins={path}"
    for name in sets or sorted({*pins, *found}):
        if name not in pins:
            raise ConfigError(
                f"the evaluation set {name!r} has no pin",
                where=path,
                expected=", ".join(pins),
                got=name,
                fix=f"leave it out (evaluate.sets), or pin the sets as they are: {again}",
            )
        if found.get(name) != pins[name]:
            raise InputError(
                f"the benchmark {name!r} has changed",
                where=QUESTIONS,
                expected=f"{pins[name]} ({path})",
                got=found.get(name, "no questions"),
                fix=f"restore its file and its entry in questions.files, or pin it anew: {again}",
            )
