"""Rows that are right and well-formed to those that must not be trained on all the same: copies, and what is evaluated.

    python -m curate.screen

Reads data/filter/kept.parquet, data/branch/pairs.parquet, data/grade.parquet (which questions were sampled),
data/questions.parquet and the files in `screen.evaluation`; writes data/screen/excluded.parquet, one row for each
trajectory, pair and question that curate.assemble leaves out, with its reason, and data/screen/evaluation_sets.parquet,
how many of them touch each evaluation set. Compared are the question and what the policy wrote, never an observation:
that a passage says what a test asks is no leak.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import polars as pl

from coa import tables
from coa.exclusions import EvaluationSet, Excluded, ExclusionReason, RowKind
from coa.files import EVALUATION_SETS, EXCLUDED, GRADED, KEPT, PAIRS, QUESTIONS
from coa.graded import GradedTrajectory
from coa.metrics import write_metrics
from coa.pairs import PreferencePair
from coa.params import Params
from coa.plain_words import words
from coa.progress import Progress
from coa.question import Question
from coa.trajectory import Author, Step, Trajectory
from curate.evaluation_files import read_evaluation
from curate.near_duplicates import NearDuplicates
from curate.overlap import EvaluationQuestion, EvaluationSets, SharedRun
from curate.shingles import hash_words

_ROWS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 4_000_000
"""Texts in memory at a time; what is computed of them takes about twenty times as much."""


@dataclass(frozen=True, slots=True)
class ScreenParams:
    """When rows are copies, and what is evaluated on."""

    evaluation: str = QUESTIONS.as_posix()
    """Questions that models will be evaluated on: a file or a folder of them (.parquet, .jsonl, .csv), each one set.
    Validation and test questions of data/questions.parquet always count: the name of that file adds none."""
    evaluation_columns: Mapping[str, str] = field(default_factory=dict)
    """`question_id` and `question` to the names of these columns in the evaluation files, where they differ."""
    ngram_words: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Length of a run of words that a row may not share with an evaluation question."""
    shingle_words: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Length of the runs of words in which near-duplicates are counted."""
    min_similarity: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """Share of common runs (Jaccard) from which on two rows are near-duplicates."""


class EvaluationMatch(NamedTuple):
    """Why a row touches an evaluation set."""

    reason: ExclusionReason
    detail: str
    sets: tuple[str, ...]
    """Names of the evaluation sets."""


class ScreenedRow(NamedTuple):
    """What is compared of a row."""

    row_id: str
    question_id: str
    question: str
    own_text: str
    """What the policy wrote."""


def trajectory_rows(path: Path) -> Iterator[ScreenedRow]:
    """The kept trajectories."""
    return (row_of(row.trajectory) for row in tables.read_table(path, GradedTrajectory))


def row_of(trajectory: Trajectory) -> ScreenedRow:
    """What is compared of a trajectory."""
    own_text = _policy_text(trajectory.steps)
    return ScreenedRow(
        trajectory.trajectory_id, trajectory.question_id, trajectory.question, own_text
    )


def pair_rows(path: Path) -> Iterator[ScreenedRow]:
    """The pairs: the prefix and both sides."""
    for pair in tables.read_table(path, PreferencePair):
        text = _policy_text([*pair.prefix, *pair.chosen, *pair.rejected])
        yield ScreenedRow(pair.pair_id, pair.question_id, pair.question, text)


def question_rows(path: Path, graded: Path) -> Iterator[ScreenedRow]:
    """The train questions that no trajectory was sampled for."""
    tables.require_columns(graded, tables.open_parquet(graded).schema_arrow.names, ["trajectory"])
    sampled = (
        pl.scan_parquet(graded)
        .select(question_id=pl.col("trajectory").struct.field("question_id"))
        .unique()
    )
    train = pl.scan_parquet(path).filter(pl.col("split") == "train").select("question_id")
    unsampled = set(train.join(sampled, on="question_id", how="anti").collect()["question_id"])
    for row in tables.read_table(path, Question):
        if row.question_id in unsampled:
            yield ScreenedRow(row.question_id, row.question_id, row.question, "")


def _policy_text(steps: Iterable[Step]) -> str:
    return "\n".join(step.text for step in steps if step.author is Author.POLICY)


def read_marks(path: Path) -> dict[str, tuple[str, ...]]:
    """The questions that say themselves that an evaluation set holds them, with the names of the sets."""
    return {
        row.question_id: row.also_in for row in tables.read_table(path, Question) if row.also_in
    }


class Screen:
    """What rows are held against; it looks at the rows of one kind after the other."""

    def __init__(
        self,
        params: ScreenParams,
        marks: Mapping[str, tuple[str, ...]],
        evaluation: EvaluationSets,
        spool: Path,
    ) -> None:
        """`spool` is the folder for a temporary file, see `curate.near_duplicates`."""
        self._params = params
        self._marks = marks
        self._evaluation = evaluation
        self._spool = spool
        self.touched: Counter[tuple[str, RowKind]] = Counter()
        """Rows seen so far that touch an evaluation set, by the set's name and by kind."""

    def excluded(self, what: RowKind, rows: Iterable[ScreenedRow]) -> Iterator[Excluded]:
        """The rows that are left out: first those that touch an evaluation set, then copies among the others."""
        size, similarity = self._params.shingle_words, self._params.min_similarity
        questions: dict[str, str] = {}
        with NearDuplicates(self._spool, shingle_words=size, min_similarity=similarity) as copies:
            for batch in batches(rows):
                texts = [words(f"{row.question}\n{row.own_text}") for row in batch]
                hashed = hash_words(texts)
                found = list(map(self._overlap, batch, self._evaluation.shared(texts, hashed)))
                self.touched.update(
                    (name, what) for overlap in found if overlap for name in overlap.sets
                )
                yield from (
                    Excluded(row.row_id, row.question_id, what, overlap.reason, overlap.detail)
                    for row, overlap in zip(batch, found, strict=True)
                    if overlap
                )
                left = {
                    row.row_id: row.question_id
                    for row, overlap in zip(batch, found, strict=True)
                    if not overlap
                }
                copies.add(list(left), hashed.take(np.array([not overlap for overlap in found])))
                questions |= left
            for row_id, other, value in copies.find():
                detail = f"similarity {value:.2f} with {other}"
                yield Excluded(
                    row_id, questions[row_id], what, ExclusionReason.NEAR_DUPLICATE, detail
                )

    def _overlap(self, row: ScreenedRow, shared: SharedRun | None) -> EvaluationMatch | None:
        """Why a row touches an evaluation set, and what it touches."""
        if marks := self._marks.get(row.question_id):
            return EvaluationMatch(ExclusionReason.MARKED, f"also in {', '.join(marks)}", marks)
        if equal := self._evaluation.equal(row.question):
            detail = f"asks what {equal.question_id} of {equal.set_name} asks"
            return EvaluationMatch(ExclusionReason.EVALUATION_QUESTION, detail, (equal.set_name,))
        if shared:
            question = shared.question
            detail = f"shares {shared.words!r} with {question.question_id} of {question.set_name}"
            return EvaluationMatch(ExclusionReason.EVALUATION_NGRAM, detail, (question.set_name,))
        if near := self._evaluation.near(row.question):
            question = near.question
            detail = f"nearly asks what {question.question_id} of {question.set_name} asks"
            return EvaluationMatch(
                ExclusionReason.EVALUATION_NEAR,
                f"{detail} (similarity {near.similarity:.2f})",
                (question.set_name,),
            )
        return None


def batches(rows: Iterable[ScreenedRow]) -> Iterator[list[ScreenedRow]]:
    """Rows in batches that stay small in number and in text."""
    batch: list[ScreenedRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.question) + len(row.own_text)
        if len(batch) >= _ROWS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def main(arguments: Sequence[str]) -> str:
    """Screen all rows; the summary line is returned."""
    params = Params.load("screen", arguments).section(ScreenParams)
    sizes: Counter[str] = Counter()
    questions = read_evaluation(QUESTIONS, Path(params.evaluation), params.evaluation_columns)
    evaluation = EvaluationSets(sized(questions, sizes), run_words=params.ngram_words)
    screen = Screen(params, read_marks(QUESTIONS), evaluation, EXCLUDED.parent)
    sources = {
        RowKind.TRAJECTORY: trajectory_rows(KEPT),
        RowKind.PAIR: pair_rows(PAIRS),
        RowKind.QUESTION: question_rows(QUESTIONS, GRADED),
    }
    counts = {what: Counter[ExclusionReason]() for what in RowKind}
    with tables.TableWriter(EXCLUDED, Excluded) as table, Progress("screen", None, "rows") as bar:
        for what, rows in sources.items():
            for found in screen.excluded(what, counted(rows, bar)):
                table.write(found)
                counts[what][found.reason] += 1
    tables.write_table(EVALUATION_SETS, EvaluationSet, evaluation_sets(sizes, screen.touched))
    excluded = {
        str(what): {str(reason): count[reason] for reason in ExclusionReason}
        for what, count in counts.items()
    }
    figures = {"evaluation_questions": len(evaluation), "near_from": evaluation.min_similarity}
    write_metrics("screen", {**figures, **excluded})
    return f"{EXCLUDED}: " + ", ".join(
        f"{count.total():,} of kind {what}" for what, count in counts.items()
    )


def sized(
    questions: Iterable[EvaluationQuestion], sizes: Counter[str]
) -> Iterator[EvaluationQuestion]:
    """The questions, each counted in `sizes` under its set's name as it passes."""
    for question in questions:
        sizes[question.set_name] += 1
        yield question


def evaluation_sets(
    sizes: Mapping[str, int], touched: Mapping[tuple[str, RowKind], int]
) -> Iterator[EvaluationSet]:
    """Every evaluation set by name, those that no row touches too."""
    for name in sorted({*sizes, *(name for name, _ in touched)}):
        yield EvaluationSet(
            name, sizes.get(name, 0), *(touched.get((name, what), 0) for what in RowKind)
        )


def counted(rows: Iterable[ScreenedRow], bar: Progress) -> Iterator[ScreenedRow]:
    """The rows, each shown on the bar as it passes."""
    for row in rows:
        yield row
        bar.add()


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
