"""Find the rows that must not be trained on: copies, and rows that touch an evaluation set.

    coa screen
    coa screen shard=2/4        # a part of it (docs/scaling.md)

Reads data/filter/kept.parquet, data/branch/pairs.parquet (where the run makes pairs),
data/grade.parquet (which questions were sampled), data/questions.parquet and the files in
`screen.evaluation`. Writes
data/screen/excluded.parquet, one row for each trajectory, pair and question that curate.assemble
leaves out, with its reason, and data/screen/evaluation_sets.parquet, how many rows touch each
evaluation set. The question and what the policy wrote are compared, never an observation: a passage
that says what a test asks is not a leak.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
import polars as pl

from coa.progress import Progress
from coa.questions.evaluation_questions import read_evaluation
from coa.records.exclusions import EvaluationSet, Excluded, ExclusionReason, RowKind
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.plain_words import words
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import Author, Step, Trajectory
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.files import EVALUATION_SETS, EXCLUDED, GRADED, KEPT, PAIRS, QUESTIONS
from coa.store.metrics import write_metrics
from curate.screening.near_duplicates import Duplicate, NearDuplicates, find_in
from curate.screening.overlap import EvaluationSets, SharedRun
from curate.screening.shingles import hash_words

_ROWS_AT_ONCE = 1000
_CHARACTERS_AT_ONCE = 4_000_000
"""Size of the texts in memory at a time; what is computed from them takes about twenty times as
much."""


@dataclass(frozen=True, slots=True)
class ScreenParams:
    """When rows are copies, and what is evaluated on."""

    evaluation: str = QUESTIONS.as_posix()
    """Questions that models will be evaluated on: a file or a folder of them (.parquet, .jsonl,
    .csv), each one set. Validation and test questions of data/questions.parquet always count, one
    set for each source and split: the name of that file adds none."""
    evaluation_columns: Mapping[str, str] = field(default_factory=dict)
    """`question_id` and `question` to the names of these columns in the evaluation files, where
    they differ."""
    ngram_words: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Length of a run of words that a row may not share with an evaluation question."""
    shingle_words: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Length of the runs of words in which near-duplicates are counted."""
    min_similarity: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8
    """Share of common runs (Jaccard) from which on two rows are near-duplicates."""


class EvaluationMatch(NamedTuple):
    """The reason why a row touches an evaluation set."""

    reason: ExclusionReason
    detail: str
    sets: tuple[str, ...]
    """Names of the evaluation sets."""


class ScreenedRow(NamedTuple):
    """The parts of a row that are compared."""

    row_id: str
    question_id: str
    question: str
    own_text: str
    """What the policy wrote."""


def trajectory_rows(path: Path, rows: range | None = None) -> Iterator[ScreenedRow]:
    """Read the kept trajectories; of all, or of those whose numbers are given."""
    for row in tables.read_table(path, GradedTrajectory, rows):
        yield row_of(row.trajectory)


def row_of(trajectory: Trajectory) -> ScreenedRow:
    """Pick the parts of a trajectory that are compared."""
    return ScreenedRow(
        row_id=trajectory.trajectory_id,
        question_id=trajectory.question_id,
        question=trajectory.question,
        own_text=_policy_text(trajectory.steps),
    )


def pair_rows(path: Path, rows: range | None = None) -> Iterator[ScreenedRow]:
    """Read the pairs; the prefix and both sides are compared."""
    for pair in tables.read_table(path, PreferencePair, rows):
        text = _policy_text([*pair.prefix, *pair.chosen, *pair.rejected])
        yield ScreenedRow(pair.pair_id, pair.question_id, pair.question, text)


def question_rows(path: Path, graded: Path, rows: range) -> Iterator[ScreenedRow]:
    """Read the train questions that no trajectory was sampled for."""
    sampled = (
        tables.scan(graded, ["trajectory"])
        .select(question_id=pl.col("trajectory").struct.field("question_id"))
        .unique()
    )
    train = pl.scan_parquet(path).filter(pl.col("split") == "train").select("question_id")
    left = train.join(sampled, on="question_id", how="anti").collect(engine="streaming")
    unsampled = set(left["question_id"])
    for row in tables.read_table(path, Question, rows):
        if row.question_id in unsampled:
            yield ScreenedRow(row.question_id, row.question_id, row.question, "")


def _policy_text(steps: Iterable[Step]) -> str:
    return "\n".join(step.text for step in steps if step.author is Author.POLICY)


def read_marks(path: Path) -> dict[str, tuple[str, ...]]:
    """Read which questions are marked as held by evaluation sets, with the names of the sets."""
    marks: dict[str, tuple[str, ...]] = {}
    for question in tables.read_table(path, Question):
        if question.also_in:
            marks[question.question_id] = question.also_in
    return marks


class Screen:
    """A screen for copies and for what evaluation sets hold; rows come one kind after the other."""

    def __init__(
        self,
        params: ScreenParams,
        marks: Mapping[str, tuple[str, ...]],
        evaluation: EvaluationSets,
        spool: Path,
    ) -> None:
        """Keep what rows are compared with."""
        self._params = params
        self._marks = marks
        self._evaluation = evaluation
        self._spool = spool
        self.touched = {what: Counter[str]() for what in RowKind}
        """Numbers of rows so far that touch an evaluation set, by kind and by the set's name."""

    def excluded(self, what: RowKind, rows: Iterable[ScreenedRow]) -> Iterator[Excluded]:
        """Find the rows that are left out.

        Those that touch an evaluation set come first, then the copies among the others.
        """
        with self.open_copies(self._spool) as copies:
            yield from self.touching(what, rows, copies)
            yield from near_duplicates(what, copies.find())

    def open_copies(self, folder: Path, name: str = "") -> NearDuplicates:
        """Return where rows are compared with each other; with a name its files stay."""
        return NearDuplicates(
            folder,
            shingle_words=self._params.shingle_words,
            min_similarity=self._params.min_similarity,
            name=name,
        )

    def touching(
        self, what: RowKind, rows: Iterable[ScreenedRow], copies: NearDuplicates
    ) -> Iterator[Excluded]:
        """Find the rows that touch an evaluation set; the others are added to `copies`."""
        for batch in batches(rows):
            texts = [words(f"{row.question}\n{row.own_text}") for row in batch]
            hashed = hash_words(texts)
            left: list[ScreenedRow] = []
            is_left: list[bool] = []
            shared_runs = self._evaluation.shared(texts, hashed)
            for row, shared in zip(batch, shared_runs, strict=True):
                match = self._match(row, shared)
                is_left.append(match is None)
                if match is None:
                    left.append(row)
                    continue
                for name in match.sets:
                    self.touched[what].update([name])
                yield Excluded(row.row_id, row.question_id, what, match.reason, match.detail)
            row_ids = [row.row_id for row in left]
            question_ids = [row.question_id for row in left]
            copies.add(row_ids, hashed.take(np.array(is_left)), question_ids)

    def _match(self, row: ScreenedRow, shared: SharedRun | None) -> EvaluationMatch | None:
        """Tell why a row touches an evaluation set, and which; None where it touches none."""
        marks = self._marks.get(row.question_id)
        if marks:
            return EvaluationMatch(ExclusionReason.MARKED, f"also in {', '.join(marks)}", marks)
        equal = self._evaluation.equal(row.question)
        if equal:
            detail = f"asks what {equal.question_id} of {equal.set_name} asks"
            return EvaluationMatch(ExclusionReason.EVALUATION_QUESTION, detail, (equal.set_name,))
        if shared:
            question = shared.question
            detail = f"shares {shared.words!r} with {question.question_id} of {question.set_name}"
            return EvaluationMatch(ExclusionReason.EVALUATION_NGRAM, detail, (question.set_name,))
        near = self._evaluation.near(row.question)
        if near:
            question = near.question
            detail = f"nearly asks what {question.question_id} of {question.set_name} asks"
            detail += f" (similarity {near.similarity:.2f})"
            return EvaluationMatch(ExclusionReason.EVALUATION_NEAR, detail, (question.set_name,))
        return None


def open_screen(params: ScreenParams, spool: Path) -> Screen:
    """Open a screen against all evaluation questions of the run; `spool` is for temporary files."""
    questions = read_evaluation(QUESTIONS, Path(params.evaluation), params.evaluation_columns)
    evaluation = EvaluationSets(questions, run_words=params.ngram_words)
    return Screen(params, read_marks(QUESTIONS), evaluation, spool)


def near_duplicates(what: RowKind, found: Iterable[Duplicate]) -> Iterator[Excluded]:
    """Say of rows that nearly repeat another why they are left out; notes are question ids."""
    for row_id, other_id, similarity, question_id in found:
        detail = f"similarity {similarity:.2f} with {other_id}"
        yield Excluded(row_id, question_id, what, ExclusionReason.NEAR_DUPLICATE, detail)


def batches(rows: Iterable[ScreenedRow]) -> Iterator[list[ScreenedRow]]:
    """Group rows into batches that stay small in number and in text."""
    batch: list[ScreenedRow] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.question) + len(row.own_text)
        if len(batch) >= _ROWS_AT_ONCE or size >= _CHARACTERS_AT_ONCE:
            yield batch
            batch = []
            size = 0
    if batch:
        yield batch


class Compared(NamedTuple):
    """What rows were compared with, and how many touch it."""

    num_questions: int
    near_from: dict[str, float]
    """The similarity from which on a question is near, by evaluation set."""
    touched: dict[RowKind, Counter[str]]


def open_sources(
    work: ShardRun, bar: Progress, *, makes_pairs: bool
) -> dict[RowKind, Iterator[ScreenedRow]]:
    """Open the rows that are screened, or a shard of each kind, and show each on the bar."""
    kept, asked = (work.rows(tables.count_rows(path)) for path in (KEPT, QUESTIONS))
    pairs = work.rows(tables.count_rows(PAIRS)) if makes_pairs else range(0)
    total = len(kept) + len(pairs) + len(asked)

    def counted(rows: Iterable[ScreenedRow]) -> Iterator[ScreenedRow]:
        for row in rows:
            yield row
            bar.add()
            work.tell_row(bar.done, total)

    return {
        RowKind.TRAJECTORY: counted(trajectory_rows(KEPT, kept)),
        RowKind.PAIR: counted(pair_rows(PAIRS, pairs) if makes_pairs else ()),
        RowKind.QUESTION: counted(question_rows(QUESTIONS, GRADED, asked)),
    }


def screen_shard(
    screen: Screen, sources: Mapping[RowKind, Iterable[ScreenedRow]], work: ShardRun
) -> None:
    """Write which rows of a shard touch an evaluation set, and what their copies are found by."""
    for what, rows in sources.items():
        with screen.open_copies(work.folder, what) as copies:
            found = screen.touching(what, rows, copies)
            tables.write_table(work.folder / f"{what}.parquet", Excluded, found)


def join(what: RowKind, work: ShardRun, min_similarity: float) -> Iterator[Excluded]:
    """Yield what shards found among the rows of a kind, and the copies over all shards."""
    parts = work.parts("row_id", f"{what}.parquet")
    for part in parts:
        yield from tables.read_table(part, Excluded)
    found = find_in([part.parent for part in parts], what, min_similarity)
    yield from near_duplicates(what, found)


def main(arguments: Sequence[str]) -> str:
    """Screen all rows, or a shard of them, and return the summary line."""
    work = open_stage("curate.screen", arguments)
    params = work.params.section(ScreenParams)
    makes_pairs = work.params.section(AssembleParams, "assemble").makes_pairs
    work.launch("screen")
    found = read_evaluation(QUESTIONS, Path(params.evaluation), params.evaluation_columns)
    questions = list(found)
    sizes = Counter(question.set_name for question in questions)
    work.begin_rows(QUESTIONS, GRADED, KEPT, *[PAIRS] * makes_pairs, also=questions)
    counts = {what: Counter[ExclusionReason]() for what in RowKind}
    with ExitStack() as stack:
        if work.shard.is_merge:
            shards = work.counts(Compared)
            touched = {what: Counter[str]() for what in RowKind}
            for shard in shards:
                for what, names in shard.touched.items():
                    touched[what].update(names)
            compared = shards[0]._replace(touched=touched)
            excluded = {what: join(what, work, params.min_similarity) for what in RowKind}
        else:
            evaluation = EvaluationSets(questions, run_words=params.ngram_words)
            screen = Screen(params, read_marks(QUESTIONS), evaluation, EXCLUDED.parent)
            compared = Compared(len(evaluation), evaluation.min_similarity, screen.touched)
            bar = stack.enter_context(Progress("screen", None, "rows"))
            sources = open_sources(work, bar, makes_pairs=makes_pairs)
            if work.is_part:
                screen_shard(screen, sources, work)
                return work.finish(f"{work.folder}: {bar.done:,} rows screened", compared)
            excluded = {what: screen.excluded(what, rows) for what, rows in sources.items()}
        table = stack.enter_context(tables.TableWriter(EXCLUDED, Excluded))
        for what, rows in excluded.items():
            for row in rows:
                table.write(row)
                counts[what][row.reason] += 1
    tables.write_table(EVALUATION_SETS, EvaluationSet, evaluation_sets(sizes, compared.touched))
    metrics: dict[str, object] = {
        "compared_with": _compared_with(sizes),
        "evaluation_questions": compared.num_questions,
        "evaluation_sets": dict(sorted(sizes.items())),
        "near_from": compared.near_from,
    }
    for what, count in counts.items():
        metrics[str(what)] = {str(reason): count[reason] for reason in ExclusionReason}
    write_metrics("screen", metrics)
    shown = [what for what in RowKind if makes_pairs or what is not RowKind.PAIR]
    totals = ", ".join(f"{counts[what].total():,} of kind {what}" for what in shown)
    return work.finish(f"{EXCLUDED}: {totals}; compared with {_compared_with(sizes)}")


def _compared_with(sizes: Mapping[str, int]) -> str:
    """Say with how many evaluation questions and sets the rows were compared."""
    if not sizes:
        return "no evaluation set"
    return f"{sum(sizes.values()):,} questions of {', '.join(sorted(sizes))}"


def evaluation_sets(
    sizes: Mapping[str, int], touched: Mapping[RowKind, Counter[str]]
) -> Iterator[EvaluationSet]:
    """Describe every evaluation set, sorted by name, those that no row touches included."""
    for name in sorted(set(sizes).union(*touched.values())):
        num_touching = [touched[what][name] for what in RowKind]
        yield EvaluationSet(name, sizes.get(name, 0), *num_touching)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
