"""Measure how fast curation reads, grades and filters on one core, and what each part costs.

    python -m bench.curate               # 20,000 trajectories of 600 words
    python -m bench.curate 100000

A trajectory has five thoughts, four searches with results, and an answer; one in ten breaks a rule.
Each part is timed as the stages run it, over rows that are already in memory; then the two stages
are run from file to file. Target: under 60 s for 100,000 trajectories, reading, grading and
filtering together.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from coa import protocol, tables
from coa.drops import Dropped
from coa.graded import GradedTrajectory, grade_trajectory
from coa.question import Question
from coa.trajectory import Author, Mode, Outcome, Sampling, Step, StepKind, StopReason, Trajectory
from curate.filter import RULES, FilterParams, Rule, judge

NUM_ROWS = 20_000
NUM_SEARCHES = 4
QUESTION = Question(
    "q",
    "Who wrote the book?",
    ("Ada Lovelace", "Ada", "Countess of Lovelace"),
    "train",
    "bridge",
    2,
)
PARAMS = FilterParams()


def make_rows(count: int) -> Iterator[Trajectory]:
    """Make trajectories of about 600 words from a vocabulary of 5,000.

    The words are as unequally frequent as those of a language.
    """
    generator = random.Random(0)
    vocabulary = [f"w{i:x}" for i in range(5000)]
    weights = [1 / (rank + 10) for rank in range(5000)]
    draw = partial(generator.choices, vocabulary, weights)
    for i in range(count):
        steps: list[Step] = []
        for _ in range(NUM_SEARCHES):
            thought = " ".join(draw(k=50))
            query = " ".join(draw(k=5))
            found = " ".join(draw(k=80))
            call = f"{protocol.open_tag('search')} {query} {protocol.close_tag('search')}"
            steps.append(Step(StepKind.THOUGHT, Author.POLICY, thought))
            steps.append(Step(StepKind.ACTION, Author.POLICY, call, "search", query))
            steps.append(protocol.observation("search", found, Outcome.OK, ("p1", "p2")))
        steps.append(Step(StepKind.THOUGHT, Author.POLICY, " ".join(draw(k=50))))
        answer = "Somebody else" if i % 10 == 0 else "Ada"
        text = f"{protocol.THINK_CLOSE} The answer is \\boxed{{{answer}}}."
        steps.append(Step(StepKind.ANSWER, Author.POLICY, text))
        yield Trajectory(
            trajectory_id=f"q{i}/coa/0",
            question_id="q",
            mode=Mode.COA,
            index=0,
            question=QUESTION.question,
            prompt="Question: Who?\n",
            steps=tuple(steps),
            stop_reason=StopReason.ANSWERED,
            model="words",
            sampling=Sampling(),
            prompt_hash="hash",
            search_fingerprint="words",
            num_prompt_tokens=8,
            num_policy_tokens=300,
            num_environment_tokens=400,
            num_calls=5,
            num_actions=NUM_SEARCHES,
        )


def seconds(work: Callable[[], object]) -> float:
    """Measure the CPU seconds of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def apply(rule: Rule, rows: Iterable[GradedTrajectory]) -> None:
    """Try one rule on all rows."""
    for row in rows:
        rule(row, PARAMS)


def grade_file(folder: Path) -> None:
    """Grade the rows of a file as `curate.grade` does."""
    rows = tables.read_table(folder / "sample.parquet", Trajectory)
    graded = (grade_trajectory(row, QUESTION) for row in rows)
    tables.write_table(folder / "grade.parquet", GradedTrajectory, graded)


def filter_file(folder: Path) -> None:
    """Filter the rows of a file as `curate.filter` does."""
    with (
        tables.TableWriter(folder / "kept.parquet", GradedTrajectory) as kept,
        tables.TableWriter(folder / "dropped.parquet", Dropped) as dropped,
    ):
        for row in tables.read_table(folder / "grade.parquet", GradedTrajectory):
            verdict = judge(row, PARAMS)
            if verdict is None:
                kept.write(row)
            else:
                dropped.write(verdict)


def measure(folder: Path, count: int) -> Iterator[tuple[str, float]]:
    """Give name and CPU seconds of each part, then of the stages."""
    made = list(make_rows(min(count, 2000)))
    scale = count / len(made)
    graded = [grade_trajectory(row, QUESTION) for row in made]
    yield "part: grade", scale * seconds(lambda: [grade_trajectory(row, QUESTION) for row in made])
    for reason, rule in RULES.items():
        yield f"part: rule {reason}", scale * seconds(partial(apply, rule, graded))
    yield "part: all rules", scale * seconds(lambda: [judge(row, PARAMS) for row in graded])
    file = folder / "part.parquet"
    # The first write imports modules, which is not counted.
    tables.write_table(file, GradedTrajectory, graded[:1])
    yield "part: write", scale * seconds(lambda: tables.write_table(file, GradedTrajectory, graded))
    yield "part: read", scale * seconds(lambda: list(tables.read_table(file, GradedTrajectory)))
    tables.write_table(folder / "sample.parquet", Trajectory, make_rows(count))
    yield "stage: grade", seconds(lambda: grade_file(folder))
    yield "stage: filter", seconds(lambda: filter_file(folder))


def main(arguments: list[str]) -> None:
    """Print the table."""
    count = int(arguments[0]) if arguments else NUM_ROWS
    note = "parts are scaled up from 2,000 rows"
    print(f"{count:,} trajectories of about 600 words, CPU of one core; {note}")
    print(f"{'':30}{'seconds':>10}{'rows a second':>15}{'s for 100,000':>15}")
    with tempfile.TemporaryDirectory() as folder:
        for name, spent in measure(Path(folder), count):
            rate = count / max(spent, 1e-9)
            scaled = spent / count * 100_000
            print(f"{name:30}{spent:10.2f}{rate:15,.0f}{scaled:15.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
