"""Trajectories to graded trajectories: one verdict each, against the gold answers and their aliases.

    python -m curate.grade

Reads data/sample/{cot,coa}.parquet and data/questions.parquet; writes data/grade.parquet. `samples=`, `modes=` and
`out=` grade another folder's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from coa import tables
from coa.errors import InputError
from coa.graded import GradedTrajectory, grade_trajectory
from coa.metrics import metrics_name, rate, write_metrics
from coa.params import Params
from coa.progress import Progress
from coa.question import Question
from coa.trajectory import Mode, Trajectory

QUESTIONS = Path("data/questions.parquet")
METRICS = Path("metrics")


@dataclass(frozen=True, slots=True)
class GradeParams:
    """What is graded, and where the verdicts go."""

    samples: str = "data/sample"
    """Folder with a file for each mode."""
    modes: tuple[Mode, ...] = tuple(Mode)
    """The modes that were sampled."""
    out: str = "data/grade.parquet"
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
                f"the question {trajectory.question_id!r} is not in {QUESTIONS}", where=trajectory.trajectory_id,
                fix="questions and trajectories are of different runs: dvc repro",
            )  # fmt: skip
        yield grade_trajectory(trajectory, question)


def by_actions(path: Path) -> pl.DataFrame:
    """The CoA trajectories and the share of them that is correct, by number of actions (the paper's Figure 3)."""
    trajectory = pl.col("trajectory").struct
    rows = pl.scan_parquet(path).filter(trajectory.field("mode") == Mode.COA)
    grouped = rows.group_by(actions=trajectory.field("num_actions")).agg(
        trajectories=pl.len(),
        correct_rate=pl.col("grade").struct.field("exact_match").mean().round(4),
    )
    return grouped.sort("actions").collect()


def main(arguments: Sequence[str]) -> str:
    """Grade the modes; the summary line is returned."""
    settings = Params.load("grade", arguments).section(GradeParams)
    files = {mode: Path(settings.samples) / f"{mode}.parquet" for mode in settings.modes}
    questions = {
        question.question_id: question for question in tables.read_table(QUESTIONS, Question)
    }
    correct = dict.fromkeys(files, 0)
    counts = dict.fromkeys(files, 0)
    total = sum(map(tables.count_rows, files.values()))
    out, name = Path(settings.out), metrics_name(settings.out)
    with (
        tables.TableWriter(out, GradedTrajectory) as table,
        Progress("grade", total, "trajectories") as bar,
    ):
        for mode, file in files.items():
            for row in grade_all(tables.read_table(file, Trajectory), questions):
                table.write(row)
                counts[mode] += 1
                correct[mode] += row.grade.exact_match
                bar.add(is_correct=row.grade.exact_match)
    _write_metrics(name, counts, correct)
    by_actions(out).write_csv(METRICS / f"{name.removesuffix('grade')}by_actions.csv")
    return f"{out}: " + ", ".join(
        f"{counts[mode]:,} {mode} ({correct[mode]:,} correct)" for mode in files
    )


def _write_metrics(name: str, counts: Mapping[Mode, int], correct: Mapping[Mode, int]) -> None:
    rates = {f"{mode}_correct_rate": rate(correct[mode], counts[mode]) for mode in counts}
    write_metrics(name, {**{f"{mode}_trajectories": counts[mode] for mode in counts}, **rates})


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
