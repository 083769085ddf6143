"""Analyse why graded trajectories failed, with the step to blame and the evidence.

    coa analyse
    coa analyse shard=2/4        # a part of it (docs/scaling.md)

Reads data/grade.parquet, data/questions.parquet and, with `analyse.reads_corpus`, the passages
under gold titles from `index.corpus`; writes data/analyse.parquet, one row per graded trajectory
(`graded=` and `out=` name other files).
What no rule decides is `unknown`. Without gold titles the rules look at the answer only
(`curate.diagnosis.untitled`); questions that compare need titles and the corpus. Rows stream
through; only the questions and the gold passages of failed ones stay in memory. The causes are
listed in coa/records/causes.py.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from coa.errors import InputError
from coa.progress import Progress
from coa.records.causes import CONTRIBUTING_ONLY, Analysis, Cause
from coa.records.graded import GradedTrajectory
from coa.records.grading import Verdict
from coa.records.question import Question
from coa.records.trajectory import Mode
from coa.search.corpus import corpus_files, read_passages
from coa.search.index import IndexParams
from coa.settings.outputs import check_file, check_inputs, journal_name, metrics_name
from coa.settings.params import Params
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.files import ANALYSED, GRADED, QUESTIONS
from coa.store.metrics import rate, write_metrics
from curate.diagnosis.gold import gold_passages
from curate.diagnosis.queries import asking_words
from curate.diagnosis.rules import Context, diagnose


@dataclass(frozen=True, slots=True)
class AnalyseParams:
    """What the rules may use."""

    reads_corpus: bool = True
    """Read the passages under gold titles from `index.corpus`; without them the rules that need
    them say unknown. Where `index.corpus` is empty, there are none."""
    near_f1: float = 0.75
    """A wrong answer that overlaps an accepted one at least so much is blamed on the grader."""
    graded: str = GRADED.as_posix()
    """What is analysed."""
    out: str = ANALYSED.as_posix()
    """A file under data/; it names the metrics too."""


def analyse(row: GradedTrajectory, question: Question, context: Context) -> Analysis:
    """Apply the rules to one row."""
    trajectory = row.trajectory
    found = diagnose(row, question, context)
    # A correct trajectory has contributing findings only, an answer to an open-ended question too.
    has_cause = row.grade.verdict not in (Verdict.CORRECT, Verdict.OPEN)
    primary = found[0] if has_cause else None
    contributing = found[1:] if has_cause else found
    return Analysis(
        trajectory_id=trajectory.trajectory_id,
        question_id=trajectory.question_id,
        mode=trajectory.mode,
        index=trajectory.index,
        question_type=row.question_type,
        num_hops=row.num_hops,
        num_actions=trajectory.num_actions,
        stop_reason=trajectory.stop_reason,
        verdict=row.grade.verdict,
        cause=primary.cause if primary else None,
        step=primary.step if primary else None,
        evidence=primary.evidence if primary else "",
        passages=primary.passages if primary else (),
        needs_gold_titles=primary.needs_gold_titles if primary else False,
        contributing=contributing,
    )


def analyse_all(
    rows: Iterable[GradedTrajectory], questions: Mapping[str, Question], context: Context
) -> Iterator[Analysis]:
    """Apply the rules to each row, as it comes.

    Raises:
        InputError: a trajectory's question is not in the table.
    """
    for row in rows:
        question = questions.get(row.trajectory.question_id)
        if question is None:
            raise InputError(
                f"the question {row.trajectory.question_id!r} is not in {QUESTIONS}",
                where=row.trajectory.trajectory_id,
                fix="questions and trajectories are of different runs: dvc repro",
            )
        yield analyse(row, question, context)


def failed_questions(path: Path) -> set[str]:
    """Collect the ids of the questions that a trajectory failed: only their passages are needed."""
    rows = tables.scan(path, ["trajectory", "grade"]).filter(
        ~pl.col("grade").struct.field("exact_match")
    )
    ids = rows.select(pl.col("trajectory").struct.field("question_id")).unique()
    return set(ids.collect(engine="streaming").to_series())


def load_context(params: Params, questions: Mapping[str, Question]) -> Context:
    """Load what the rules know besides the rows.

    One pass over the corpus keeps the passages under gold titles of failed questions.
    """
    settings = params.section(AnalyseParams)
    asking = asking_words(question.question for question in questions.values())
    if not settings.reads_corpus:
        return Context(asking=asking, near_f1=settings.near_f1)
    index = params.section(IndexParams, "index")
    titles: set[str] = set()
    if index.corpus:
        for question_id in failed_questions(Path(settings.graded)) & questions.keys():
            titles.update(questions[question_id].gold_titles)
    if not titles:
        return Context(gold_passages((), titles), asking, settings.near_f1)
    files = corpus_files(index.corpus, index.reader)
    passages = read_passages(files, index.columns, index.reader)
    return Context(gold_passages(passages, titles), asking, settings.near_f1)


@dataclass(slots=True)
class Totals:
    """The counts of a run, for one mode."""

    analysed: int = 0
    causes: Counter[Cause] = field(default_factory=Counter)
    contributing: Counter[Cause] = field(default_factory=Counter)

    def add(self, row: Analysis) -> None:
        """Count a row."""
        self.analysed += 1
        if row.cause:
            self.causes[row.cause] += 1
        for finding in row.contributing:
            self.contributing[finding.cause] += 1

    def include(self, other: "Totals") -> None:
        """Add the counts of other rows."""
        self.analysed += other.analysed
        self.causes.update(other.causes)
        self.contributing.update(other.contributing)

    def metrics(self) -> dict[str, Any]:
        """Return the counts for the metrics file."""
        causes: dict[str, int] = {}
        contributing: dict[str, int] = {}
        for cause in Cause:
            if cause not in CONTRIBUTING_ONLY:
                causes[str(cause)] = self.causes[cause]
            if cause is not Cause.UNKNOWN:
                contributing[str(cause)] = self.contributing[cause]
        failed = sum(causes.values())
        return {
            "analysed": self.analysed,
            "failed": failed,
            "decided_rate": rate(failed - causes[Cause.UNKNOWN], failed),
            "causes": causes,
            "contributing": contributing,
        }


def analyse_file(work: ShardRun, out: Path) -> dict[Mode, Totals]:
    """Analyse the graded rows, or a shard of them, and count what was found."""
    graded = Path(work.params.section(AnalyseParams).graded)
    rows = work.rows(tables.count_rows(graded))
    questions: dict[str, Question] = {}
    for question in tables.read_table(QUESTIONS, Question):
        questions[question.question_id] = question
    context = load_context(work.params, questions)
    totals = {mode: Totals() for mode in Mode}
    with (
        tables.TableWriter(out, Analysis) as table,
        Progress("analyse", len(rows), "trajectories") as bar,
    ):
        trajectories = tables.read_table(graded, GradedTrajectory, rows)
        for row in analyse_all(trajectories, questions, context):
            table.write(row)
            totals[row.mode].add(row)
            bar.add()
            work.tell_row(bar.done, len(rows))
    return totals


def join(work: ShardRun, out: Path) -> dict[Mode, Totals]:
    """Join what shards analysed, and return the counts."""
    tables.join(out, Analysis, work.parts("trajectory_id", out.name))
    totals = {mode: Totals() for mode in Mode}
    for counted in work.counts(dict[Mode, Totals]):
        for mode in Mode:
            totals[mode].include(counted[mode])
    return totals


def main(arguments: Sequence[str]) -> str:
    """Analyse all graded rows, or a shard of them, and return the summary line."""
    work = open_stage("curate.analyse", arguments)
    settings = work.params.section(AnalyseParams)
    check_file(settings.out, "curate.analyse")
    check_inputs(work.params, settings.out, "graded")
    name = metrics_name(settings.out)  # refuses a bad `out` before anything is written
    work.launch(journal_name(settings.out))
    work.begin_rows(QUESTIONS, Path(settings.graded))
    out = work.out(Path(settings.out))
    totals = join(work, out) if work.shard.is_merge else analyse_file(work, out)
    num_analysed = sum(total.analysed for total in totals.values())
    num_failed = sum(total.causes.total() for total in totals.values())
    unknown = sum(total.causes[Cause.UNKNOWN] for total in totals.values())
    found = f"{num_failed:,} of {num_analysed:,} failed; of {unknown:,} the cause is unknown"
    if work.is_part:
        return work.finish(f"{out}: {found}", totals)
    write_metrics(name, {str(mode): totals[mode].metrics() for mode in Mode})
    return work.finish(f"{out}: {found}")


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
