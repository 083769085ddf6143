"""Trajectories to graded trajectories: one verdict each, against the gold answers and their aliases.

    python -m curate.grade

Reads data/sample/{cot,coa}.parquet and data/questions.parquet; writes data/grade.parquet.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from coa import tables
from coa.errors import InputError
from coa.graded import GradedTrajectory, grade_trajectory
from coa.metrics import rate, write_metrics
from coa.params import Params
from coa.progress import Progress
from coa.question import Question
from coa.trajectory import Mode, Trajectory

SAMPLES = Path("data/sample")
QUESTIONS = Path("data/questions.parquet")
OUT = Path("data/grade.parquet")
PLOT = Path("metrics/by_actions.csv")


def grade_all(trajectories: Iterator[Trajectory], questions: Mapping[str, Question]) -> Iterator[GradedTrajectory]:
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
        trajectories=pl.len(), correct_rate=pl.col("grade").struct.field("exact_match").mean().round(4)
    )
    return grouped.sort("actions").collect()


def main(arguments: Sequence[str]) -> str:
    """Grade both modes; the summary line is returned."""
    Params.load("grade", arguments)
    questions = {question.question_id: question for question in tables.read_table(QUESTIONS, Question)}
    correct = dict.fromkeys(Mode, 0)
    counts = dict.fromkeys(Mode, 0)
    total = sum(tables.count_rows(SAMPLES / f"{mode}.parquet") for mode in Mode)
    with tables.TableWriter(OUT, GradedTrajectory) as table, Progress("grade", total, "trajectories") as bar:
        for mode in Mode:
            for row in grade_all(tables.read_table(SAMPLES / f"{mode}.parquet", Trajectory), questions):
                table.write(row)
                counts[mode] += 1
                correct[mode] += row.grade.exact_match
                bar.add(is_correct=row.grade.exact_match)
    rates = {f"{mode}_correct_rate": rate(correct[mode], counts[mode]) for mode in Mode}
    write_metrics("grade", {**{f"{mode}_trajectories": counts[mode] for mode in Mode}, **rates})
    by_actions(OUT).write_csv(PLOT)
    return f"{OUT}: " + ", ".join(f"{counts[mode]:,} {mode} ({correct[mode]:,} correct)" for mode in Mode)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
