"""Pair trajectories of one question that begin alike and end differently, from any source.

    python -m curate.shared_prefix

Nothing is rolled out: the trajectories are there already, several samples of one policy or imported
ones. Reads data/grade.parquet (`graded=` names another table). Of the trajectories of a question, a
right and a wrong one with the longest shared prefix make a pair. Where one of them calls a tool at
the point where they part and the other does not, it is a pair of the paper's two kinds, in
data/shared_prefix/pairs.parquet, which `branch.more_pairs` lets into the CoT+A set. All others
stand in data/shared_prefix/comparisons.parquet, with how they part: those in which both act or both
think, that share nothing, or that have an imported side. They enter no set.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import polars as pl

from coa.progress import Progress
from coa.records.comparisons import Comparison, Parting
from coa.records.graded import GradedTrajectory, is_sound
from coa.records.pairs import PairKind, PreferencePair
from coa.records.trajectory import StopReason
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import GRADED, SHARED_PREFIX
from coa.store.metrics import write_metrics
from coa.store.outputs import check_folder, metrics_name
from coa.store.spool import Spool
from curate.forks.parting import (
    Parted,
    is_borne_out,
    longest_first,
    to_comparison,
    to_preference_pair,
)
from curate.reports.right_column import right_column


@dataclass(frozen=True, slots=True)
class SharedPrefixParams:
    """Which trajectories are paired, and how many pairs a question gives."""

    max_pairs_per_question: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Pairs of a question in which one side acts and the other thinks, and as many comparisons;
    those with the longest shared prefix are kept."""
    graded: str = GRADED.as_posix()
    """The graded trajectories."""
    out: str = SHARED_PREFIX.as_posix()
    """The folder under data/ that gets both tables; it names the metrics too."""


def mixed_questions(path: Path) -> pl.DataFrame:
    """Find the questions that were answered both right and wrong, with the numbers of their rows.

    Raises:
        InputError: the file is missing, or lacks a column.
    """
    names = tables.open_parquet(path).schema_arrow.names
    tables.require_columns(path, names, tables.required_columns(GradedTrajectory))
    trajectory = pl.col("trajectory").struct
    columns = pl.scan_parquet(path).select(
        question_id=trajectory.field("question_id"),
        is_answered=trajectory.field("stop_reason") == StopReason.ANSWERED,
        is_right=right_column(path),
    )
    answered = columns.with_row_index("row").filter("is_answered").drop_nulls("is_right")
    questions = answered.group_by("question_id").agg("row", "is_right")
    is_mixed = pl.col("is_right").list.any() & ~pl.col("is_right").list.all()
    return questions.filter(is_mixed).select("question_id", "row").sort("question_id").collect()


def read_groups(path: Path) -> Iterator[list[GradedTrajectory]]:
    """Read the sound trajectories of each question that was answered both right and wrong.

    The rows of one question are in memory at a time, and some 200 bytes for each of the others,
    which wait in a temporary file.
    """
    questions = mixed_questions(path)
    wanted = set(questions["row"].explode())
    with Spool(GradedTrajectory) as spool:
        with Progress("shared_prefix", tables.count_rows(path), "trajectories") as bar:
            for number, row in enumerate(tables.read_table(path, GradedTrajectory)):
                if number in wanted and is_sound(row):
                    spool.put(number, row)
                bar.add()
        for rows in questions["row"]:
            yield [spool.take(number) for number in rows if number in spool]


class Writer:
    """A writer of the pairs and comparisons of one question after the other."""

    def __init__(
        self, pairs: tables.TableWriter, comparisons: tables.TableWriter, most: int
    ) -> None:
        """Write at most `most` pairs and as many comparisons of each question."""
        self._pairs = pairs
        self._comparisons = comparisons
        self._most = most
        self.questions: Counter[Parting] = Counter()
        """Questions by how the two with the longest shared prefix part."""
        self.kinds: Counter[PairKind] = Counter()
        self.partings: Counter[Parting] = Counter()
        """Comparisons by how they part."""
        self.num_undecided = 0
        """Questions without a pair because neither arm was right more often, or the other one."""
        self.num_without_licence = 0
        """Comparisons with an imported side that names no licence."""

    def add(self, rows: Sequence[GradedTrajectory]) -> None:
        """Pair the trajectories of a question and write the pairs with the longest prefixes."""
        found = longest_first(rows)
        if not found:
            return
        self.questions[found[0].parting] += 1
        self._write_decisions([pair for pair in found if pair.is_decision], rows)
        others = [pair for pair in found if not pair.is_decision]
        for pair in others[: self._most]:
            self._write_comparison(to_comparison(pair))

    def _write_decisions(
        self, decisions: Sequence[Parted], rows: Sequence[GradedTrajectory]
    ) -> None:
        """Write the first pairs whose kind is also that of all trajectories with the prefix."""
        num_written = 0
        for pair in decisions:
            if num_written == self._most:
                break
            made = to_preference_pair(pair, rows)
            if is_borne_out(made):
                self._pairs.write(made)
                self.kinds[made.kind] += 1
                num_written += 1
        if decisions and not num_written:
            self.num_undecided += 1

    def _write_comparison(self, comparison: Comparison) -> None:
        self._comparisons.write(comparison)
        self.partings[comparison.parting] += 1
        for source in (comparison.chosen_source, comparison.rejected_source):
            if source.is_imported and not source.license:
                self.num_without_licence += 1
                break

    def metrics(self, num_questions: int) -> dict[str, object]:
        """Return the figures of a run over so many questions."""
        return {
            "questions": num_questions,
            "mixed_questions": self.questions.total(),
            "longest_prefix": _by_parting(self.questions),
            "pairs": {str(kind): self.kinds[kind] for kind in PairKind},
            "undecided_questions": self.num_undecided,
            "comparisons": _by_parting(self.partings),
            "comparisons_without_licence": self.num_without_licence,
        }


def _by_parting(count: Counter[Parting]) -> dict[str, int]:
    return {str(parting): count[parting] for parting in Parting}


def count_questions(path: Path) -> int:
    """Count the questions of a graded table."""
    question_id = pl.col("trajectory").struct.field("question_id")
    return int(pl.scan_parquet(path).select(question_id.n_unique()).collect().item())


def main(arguments: Sequence[str]) -> str:
    """Pair the trajectories of every question and return the summary line."""
    params = Params.load("shared_prefix", arguments).section(SharedPrefixParams)
    check_folder(params.out)
    out = Path(params.out)
    name = metrics_name(params.out)
    graded = Path(params.graded)
    with (
        tables.TableWriter(out / "pairs.parquet", PreferencePair) as pairs,
        tables.TableWriter(out / "comparisons.parquet", Comparison) as comparisons,
    ):
        writer = Writer(pairs, comparisons, params.max_pairs_per_question)
        for rows in read_groups(graded):
            writer.add(rows)
    num_questions = count_questions(graded)
    write_metrics(name, writer.metrics(num_questions))
    kinds = ", ".join(f"{writer.kinds[kind]:,} {kind}" for kind in PairKind)
    partings = ", ".join(f"{writer.partings[parting]:,} {parting}" for parting in Parting)
    line = (
        f"{out}: {pairs.num_rows:,} pairs ({kinds}) and {comparisons.num_rows:,} comparisons "
        f"({partings}) of {num_questions:,} questions, {writer.questions.total():,} of them "
        "answered both right and wrong"
    )
    if writer.num_undecided:
        line += f"; {writer.num_undecided:,} give none, because the other arm was right as often"
    if writer.num_without_licence:
        line += f"; {writer.num_without_licence:,} comparisons have a side of unknown licence"
    return line


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
