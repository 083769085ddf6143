"""Write a smaller training set for an experiment: a mix of sets, or fewer pairs.

    python -m lab.subset out=data/lab/s0/cot_half num_rows=2000 \
        'sets=[data/assemble/coa,data/assemble/cot]' 'shares=[0.5,0.5]'

Of each set its share of the train rows is taken, in an order that follows from the seed. The
validation rows are all those of the sets.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from coa.errors import ConfigError
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.settings.outputs import check_folder
from coa.settings.params import Params
from coa.store import tables
from coa.student.sets import read_split


@dataclass(frozen=True, slots=True)
class LabSubsetParams:
    """Which rows of which sets are taken."""

    out: str = ""
    """The folder under data/ that gets train.parquet and validation.parquet."""
    sets: tuple[str, ...] = ()
    """Folders of data/assemble: of trajectories, or one of pairs."""
    shares: tuple[float, ...] = ()
    """Share of each set in the rows."""
    num_rows: int = 0
    """Train rows of all sets together."""
    is_wide: bool = True
    """One row of each question before a second one; otherwise all rows of few questions."""
    seed: int = 0
    """Chooses the rows."""


def question_of(row: Any) -> str:
    """Return the id of the question that a trajectory answers or a pair forks."""
    is_pair = isinstance(row, PreferencePair)
    found: str = row.question_id if is_pair else row.trajectory.question_id
    return found


def choose(rows: Iterable[Any], number: int, *, is_wide: bool, seed: int) -> list[Any]:
    """Choose rows by their questions, whose order follows from the seed."""
    by_question: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        by_question[question_of(row)].append(row)

    def draw(question_id: str) -> bytes:
        return hashlib.sha256(f"{seed}/{question_id}".encode()).digest()

    questions = sorted(by_question, key=draw)
    if is_wide:
        chosen = list(_round_robin([by_question[question] for question in questions]))
    else:
        # Stable: of questions with as many rows, the seed's order holds.
        questions.sort(key=lambda question: -len(by_question[question]))
        chosen = list(chain.from_iterable(by_question[question] for question in questions))
    return chosen[:number]


def _round_robin(groups: Sequence[Sequence[Any]]) -> Iterator[Any]:
    longest = max(map(len, groups), default=0)
    for place in range(longest):
        for group in groups:
            if place < len(group):
                yield group[place]


def main(arguments: Sequence[str]) -> str:
    """Write the set and return the summary line."""
    params = Params.load("lab_subset", arguments).section(LabSubsetParams)
    check_folder(params.out, "lab.subset")
    if not params.sets or len(params.sets) != len(params.shares):
        raise ConfigError(
            "every set needs its share",
            where="lab_subset.shares",
            expected=f"{len(params.sets)} numbers, one for each of lab_subset.sets",
            got=len(params.shares),
        )
    first = tables.open_parquet(Path(params.sets[0]) / "train.parquet")
    is_of_trajectories = "trajectory" in first.schema_arrow.names
    record: type[Any] = GradedTrajectory if is_of_trajectories else PreferencePair
    train: list[Any] = []
    validation: list[Any] = []
    for folder, share in zip(params.sets, params.shares, strict=True):
        number = round(params.num_rows * share)
        rows = read_split(folder, "train", record) if number else ()
        found = choose(rows, number, is_wide=params.is_wide, seed=params.seed)
        if len(found) < number:
            raise ConfigError(
                f"{folder} has too few rows",
                expected=f"{number:,} for a share of {share:g} of {params.num_rows:,}",
                got=f"{len(found):,}",
                fix="lower lab.num_mixed, or raise the set's size in the section assemble",
            )
        train += found
        validation += read_split(folder, "validation", record) if number else ()
    out = Path(params.out)
    tables.write_table(out / "train.parquet", record, train)
    tables.write_table(out / "validation.parquet", record, validation)
    num_questions = len({question_of(row) for row in train})
    return f"{out}: {len(train):,} train rows of {num_questions:,} questions"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
