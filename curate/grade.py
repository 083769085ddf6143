"""Grade trajectories: against the gold answers and their aliases, and by a judge if there is one.

    coa grade
    coa grade shard=2/4        # a part of it (docs/scaling.md)

Reads data/questions.parquet and {cot,coa}.parquet of the folders in `samples`: data/sample, and
data/ingest where trajectories of others are read; writes data/grade.parquet. With `samples=`,
`modes=` and `out=` it grades the trajectories of other folders. Where the section `judge` names
one, each row has the judge's verdict, too; open-ended questions need it
(docs/evaluation.md). A file whose rows are mostly written in the tags of another framework is
refused, and so is an id that occurs in two folders.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from coa.errors import InputError
from coa.interruption import run_interruptible
from coa.judging.judge import judge_all, judge_policy, open_judge
from coa.policy.foreign_tags import foreign_tags
from coa.progress import Progress
from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_trajectory, is_right
from coa.records.question import Question
from coa.records.trajectory import Mode, Trajectory
from coa.records.verdicts import JudgeVerdict
from coa.settings.outputs import check_file, check_inputs, journal_name, metrics_name
from coa.settings.params import Params
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.files import GRADED, QUESTIONS, SAMPLED
from coa.store.metrics import rate, write_metrics

_MOST = 0.5
"""A file with a greater share of rows in foreign tags is refused; a policy may write such a row now
and then of its own accord."""


@dataclass(frozen=True, slots=True)
class GradeParams:
    """What is graded, and where the verdicts go."""

    samples: tuple[str, ...] = (SAMPLED.as_posix(),)
    """Folders with a file for each mode, which may have no rows; no id may be in two of them."""
    modes: tuple[Mode, ...] = tuple(Mode)
    """The modes that were sampled."""
    out: str = GRADED.as_posix()
    """A file under data/; it names the metrics too."""


def grade_all(
    trajectories: Iterator[Trajectory], questions: Mapping[str, Question]
) -> Iterator[GradedTrajectory]:
    """Grade each trajectory against its question.

    Raises:
        InputError: a trajectory's question is not in the table.
    """
    for trajectory in trajectories:
        question = questions.get(trajectory.question_id)
        if question is None:
            raise InputError(
                f"the question {trajectory.question_id!r} is not in {QUESTIONS}",
                where=trajectory.trajectory_id,
                fix="questions and trajectories are of different runs: dvc repro",
            )
        yield grade_trajectory(trajectory, question)


class Sample(NamedTuple):
    """A file that is graded."""

    mode: Mode
    path: Path


def find_samples(params: GradeParams) -> list[Sample]:
    """List the files of all folders, mode by mode.

    Raises:
        InputError: a file is missing.
    """
    found: list[Sample] = []
    for mode in params.modes:
        for folder in params.samples:
            path = Path(folder) / f"{mode}.parquet"
            if not path.is_file():
                raise InputError(
                    f"{path} is missing",
                    where=f"grade.samples: {', '.join(params.samples)}",
                    expected=f"a file for each mode: {', '.join(params.modes)}",
                    fix="`dvc repro` makes it; or name the folders that are there: samples=[...]",
                )
            found.append(Sample(mode, path))
    return found


def require_unique_ids(paths: Sequence[Path]) -> None:
    """Make sure that no trajectory is in two files.

    Raises:
        InputError: two files have an id in common.
    """
    found = tables.find_shared_id(paths, "trajectory_id")
    if found:
        raise InputError(
            f"the trajectory {found.name!r} is in two files",
            where=f"{found.first} and {found.last}",
            expected="ids that are unique over all folders of grade.samples",
            fix="dvc repro ingest, which numbers imported trajectories after the teacher's; of "
            "two folders of your own, leave one out",
        )


@dataclass(slots=True)
class Tally:
    """The counts of rows: those of one file, or of all files of a mode."""

    rows: int = 0
    open: int = 0
    """Rows of open-ended questions: exact match says nothing of them."""
    correct: int = 0
    answered: int = 0
    """Rows with a boxed answer, right or wrong."""
    foreign: int = 0
    """Rows that are in foreign tags and have no boxed answer."""
    tags: Counter[str] = field(default_factory=Counter)
    """The foreign tags, each with the number of rows in foreign tags that have it."""
    first_foreign: str = ""
    """Id of the first row in foreign tags."""
    judged: Counter[JudgeVerdict] = field(default_factory=Counter)
    """Rows by what came of asking the judge; empty without one."""

    def add(self, row: GradedTrajectory) -> None:
        """Count a row."""
        self.rows += 1
        self.correct += bool(row.grade.exact_match)
        self.open += bool(row.rubric)
        if row.judgement:
            self.judged[row.judgement.verdict] += 1
        self.answered += row.grade.prediction is not None
        if row.grade.prediction is not None:
            return
        tags = foreign_tags(row.trajectory.steps)
        if tags:
            self.foreign += 1
            self.tags.update(tags)
            self.first_foreign = self.first_foreign or row.trajectory.trajectory_id

    def include(self, other: "Tally") -> None:
        """Add the counts of other rows."""
        self.rows += other.rows
        self.open += other.open
        self.correct += other.correct
        self.judged.update(other.judged)
        self.answered += other.answered
        self.foreign += other.foreign
        self.tags.update(other.tags)
        self.first_foreign = self.first_foreign or other.first_foreign

    def summary(self, mode: Mode) -> str:
        """Summarise a mode in a few words, and point to what may be a mistake in the settings."""
        text = f"{self.rows:,} {mode} ({self.correct:,} correct"
        if self.open:
            text += f", {self.open:,} open-ended"
        if self.judged:
            counts = [f"{count:,} {verdict}" for verdict, count in sorted(self.judged.items())]
            text += f"; by the judge {', '.join(counts)}"
        if self.rows and not self.answered:
            text += ", none has a boxed answer"
        if self.foreign:
            text += f", {self.foreign:,} in foreign tags: {self._named_tags()}"
        return f"{text})"

    def require_own_tags(self, file: Path) -> None:
        """Refuse a file most of whose rows are written in foreign tags.

        Raises:
            InputError: more than half of the rows are.
        """
        if self.foreign <= _MOST * self.rows:
            return
        raise InputError(
            f"{file} is not written in the tags of this project",
            where=f"{self.foreign:,} of {self.rows:,} rows, the first is {self.first_foreign!r}",
            expected=f"calls such as {protocol.open_tag('search')} query "
            f"{protocol.close_tag('search')}, answers in \\boxed{{}}",
            got=self._named_tags(),
            fix="name files that others released in ingest.files: coa ingest writes "
            "them in our tags, for samples=[data/ingest] (docs/guide.md); a "
            "teacher that writes such tags by itself needs prompt files (prompts.cot, prompts.coa) "
            "that show it ours",
        )

    def _named_tags(self) -> str:
        return ", ".join(f"{tag} in {count:,}" for tag, count in self.tags.most_common(4))


async def grade(
    samples: Sequence[Sample], params: Params, questions: Mapping[str, Question], work: ShardRun
) -> list[Tally]:
    """Grade the files, or a shard's rows of each, and return the counts of each file."""
    settings = params.section(GradeParams)
    tallies: list[Tally] = []
    total = sum(len(work.rows(tables.count_rows(sample.path))) for sample in samples)
    async with open_judge(params, work) as judge:
        with ExitStack() as stack:
            bar = stack.enter_context(Progress("grade", total, "trajectories"))
            out = Path(settings.out)
            if not work.is_part:
                table = stack.enter_context(tables.TableWriter(out, GradedTrajectory))
            for number, (_, path) in enumerate(samples):
                if work.is_part:
                    part = work.folder / _part(number)
                    table = stack.enter_context(tables.TableWriter(part, GradedTrajectory))
                tallies.append(Tally())
                rows = judge_all(judge, _graded(path, questions, work))
                async with aclosing(rows):
                    async for row in rows:
                        table.write(row)
                        tallies[-1].add(row)
                        bar.add(is_correct=is_right(row))
                        paid = judge.ledger.paid.total.dollars if judge and judge.ledger else 0.0
                        work.tell_row(bar.done, total, paid)
                if not work.is_part:
                    tallies[-1].require_own_tags(path)
    return tallies


def _part(number: int) -> str:
    """Name the file of a shard's rows of one sample."""
    return f"grade-{number}.parquet"


def join(samples: Sequence[Sample], out: Path, work: ShardRun) -> list[Tally]:
    """Join what shards graded, and return the counts of each file."""
    tallies = [Tally() for _ in samples]
    for counted in work.counts(list[Tally]):
        for tally, other in zip(tallies, counted, strict=True):
            tally.include(other)
    for tally, (_, path) in zip(tallies, samples, strict=True):
        tally.require_own_tags(path)
    names = [_part(number) for number in range(len(samples))]
    parts = work.parts("trajectory.trajectory_id", *names)
    tables.join(out, GradedTrajectory, parts)
    return tallies


async def _graded(
    path: Path, questions: Mapping[str, Question], work: ShardRun
) -> AsyncIterator[GradedTrajectory]:
    rows = work.rows(tables.count_rows(path))
    for row in grade_all(tables.read_table(path, Trajectory, rows), questions):
        yield row


def main(arguments: Sequence[str]) -> str:
    """Grade the modes, or a shard of them, and return the summary line."""
    work = open_stage("curate.grade", arguments)
    params = work.params
    settings = params.section(GradeParams)
    check_file(settings.out, "curate.grade")
    check_inputs(params, settings.out, "samples")
    out = Path(settings.out)
    name = metrics_name(settings.out)
    samples = find_samples(settings)
    paths = [path for _, path in samples]
    if not any(tables.count_rows(path) for path in paths):
        raise InputError(
            "there is no trajectory to grade", where=", ".join(str(path) for path in paths)
        )
    if len(settings.samples) > 1:
        require_unique_ids(paths)
    work.launch(journal_name(settings.out), judge_policy(params))
    work.begin_rows(QUESTIONS, *paths)
    if work.shard.is_merge:
        tallies = join(samples, out, work)
    else:
        questions: dict[str, Question] = {}
        for question in tables.read_table(QUESTIONS, Question):
            questions[question.question_id] = question
        tallies = run_interruptible(grade(samples, params, questions, work))
    by_mode = {mode: Tally() for mode in settings.modes}
    for (mode, _), tally in zip(samples, tallies, strict=True):
        by_mode[mode].include(tally)
    summaries = ", ".join(tally.summary(mode) for mode, tally in by_mode.items())
    if work.is_part:
        return work.finish(f"{work.folder}: {summaries}", counts=tallies)
    metrics: dict[str, object] = {}
    for mode, tally in by_mode.items():
        metrics[f"{mode}_trajectories"] = tally.rows
    for mode, tally in by_mode.items():
        metrics[f"{mode}_correct_rate"] = rate(tally.correct, tally.rows - tally.open)
        if tally.open:
            metrics[f"{mode}_open_ended"] = tally.open
        if tally.judged:
            counts = {str(verdict): tally.judged[verdict] for verdict in JudgeVerdict}
            metrics[f"{mode}_judged"] = counts
    write_metrics(name, metrics)
    return work.finish(f"{out}: {summaries}")


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
