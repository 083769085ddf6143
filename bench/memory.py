"""Measure the peak memory from tasks to filtered rows, which must not grow with their number.

    python -m bench.memory               # 1,000, 10,000 and 100,000 trajectories
    python -m bench.memory 1000 2000     # other sizes

Every step runs in a process of its own, as the stages do, and streams from file to file: `sample`
rolls out and writes, `grade` and `filter` read and write. A trajectory has about 100 words in one
action and an answer. The questions are held in memory by `sample` and `grade`; the last column
shows what reading and holding them alone takes.
"""

import asyncio
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import ClassVar

from coa.policy import Completion, Finish, Request
from coa.records import protocol
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, Outcome, Sampling, Trajectory, trajectory_id
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.spending.journaled import JournaledPolicy, JournaledTool
from coa.store import tables
from coa.store.journal import Journal
from coa.tools import ToolReply
from curate.filter import FilterParams, judge
from curate.grade import grade_all

SIZES = (1_000, 10_000, 100_000)
CONCURRENCY = 64
STEPS = ("sample", "grade", "filter", "questions")
WORDS = (
    "the",
    "a",
    "book",
    "city",
    "river",
    "was",
    "is",
    "by",
    "of",
    "in",
    "who",
    "wrote",
    "born",
    "year",
    "old",
)


class WordPolicy:
    """Policy that writes random words from the request's seed: one action, then an answer."""

    name = "words"
    identity: ClassVar[dict[str, object]] = {}

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Return no ids."""

    def count_tokens(self, text: str) -> int:
        """Count a token for every four characters."""
        return len(text) // 4 + 1

    async def complete(self, request: Request) -> Completion:
        """Answer at once."""
        words = " ".join(random.Random(request.seed).choices(WORDS, k=35))
        if protocol.open_tag("search") in request.context:
            return Completion(f"{words}{protocol.THINK_CLOSE} \\boxed{{Ada}}", Finish.END, 40)
        call = f" {protocol.open_tag('search')} {words[:30]} {protocol.close_tag('search')}"
        return Completion(words + call, Finish.STOP, 40)


class WordSearch:
    """Search tool that finds random words."""

    name = "search"
    fingerprint = "words"

    async def call(self, argument: str) -> ToolReply:
        """Answer at once."""
        return ToolReply(
            Outcome.OK, " ".join(random.Random(argument).choices(WORDS, k=30)), ("p1", "p2")
        )


def make_questions(count: int) -> Iterator[Question]:
    """Make questions about nothing."""
    for i in range(count):
        yield Question(
            f"q{i:07}",
            f"Who wrote book {i} of the old house?",
            ("Ada", "Ada Byron"),
            "train",
            "bridge",
            2,
        )


def read_questions(folder: Path) -> dict[str, Question]:
    """Read all questions by id, as the stages hold them."""
    rows = tables.read_table(folder / "questions.parquet", Question)
    return {question.question_id: question for question in rows}


def sample(folder: Path, *, has_journal: bool) -> None:
    """Roll out the questions."""
    asyncio.run(_sample(folder, read_questions(folder), has_journal=has_journal))


async def _sample(folder: Path, questions: dict[str, Question], *, has_journal: bool) -> None:
    run = RolloutContext(WordPolicy(), Sampling(), Limits(), WordSearch.fingerprint)
    with ExitStack() as stack:
        policy = WordPolicy()
        tool = WordSearch()
        table = stack.enter_context(tables.TableWriter(folder / "sample.parquet", Trajectory))
        if has_journal:
            journal = stack.enter_context(Journal(folder / "calls.sqlite"))
            driver = (JournaledPolicy(policy, journal), {"search": JournaledTool(tool, journal)})
            rows = roll_out_all(make_tasks(questions), run, *driver, concurrency=CONCURRENCY)
        else:
            rows = roll_out_all(
                make_tasks(questions), run, policy, {"search": tool}, concurrency=CONCURRENCY
            )
        async with aclosing(rows):
            async for row in rows:
                grade_trajectory(row, questions[row.question_id])
                table.write(row)


def make_tasks(questions: dict[str, Question]) -> Iterator[Task]:
    """Make a task for each question."""
    for key, question in questions.items():
        prompt = f"Question: {question.question}\n{protocol.THINK_OPEN}\n"
        name = trajectory_id(key, Mode.COA, 0)
        yield Task(name, key, Mode.COA, 0, question.question, prompt, "hash", ("search",))


def grade(folder: Path) -> None:
    """Grade the trajectories."""
    rows = tables.read_table(folder / "sample.parquet", Trajectory)
    tables.write_table(
        folder / "grade.parquet", GradedTrajectory, grade_all(rows, read_questions(folder))
    )


def filter_(folder: Path) -> None:
    """Divide graded trajectories into kept and dropped ones."""
    params = FilterParams()
    with (
        tables.TableWriter(folder / "kept.parquet", GradedTrajectory) as kept,
        tables.TableWriter(folder / "dropped.parquet", Dropped) as dropped,
    ):
        for row in tables.read_table(folder / "grade.parquet", GradedTrajectory):
            verdict = judge(row, params)
            if verdict is None:
                kept.write(row)
            else:
                dropped.write(verdict)


def peak_megabytes(folder: Path, step: str, *, has_journal: bool) -> float:
    """Measure the peak memory of one step in a fresh process."""
    command = [
        sys.executable,
        "-m",
        "bench.memory",
        "--step",
        step,
        str(folder),
        str(int(has_journal)),
    ]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_step(step: str, folder: Path, *, has_journal: bool) -> None:
    """Run one step in this process and print its peak in MB."""
    if step == "sample":
        sample(folder, has_journal=has_journal)
    elif step == "questions":
        read_questions(folder)
    else:
        {"grade": grade, "filter": filter_}[step](folder)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main(arguments: list[str]) -> None:
    """Print the table, or run one step in a process started for it."""
    if arguments[:1] == ["--step"]:
        run_step(arguments[1], Path(arguments[2]), has_journal=arguments[3] == "1")
        return
    sizes = [int(argument) for argument in arguments] or SIZES
    print("peak resident memory in MB, each step in a process of its own")
    print(f"{'trajectories':>12}{'journal':>9}" + "".join(f"{step:>11}" for step in STEPS))
    for has_journal in (False, True):
        for size in sizes:
            with tempfile.TemporaryDirectory() as folder:
                tables.write_table(
                    Path(folder) / "questions.parquet", Question, make_questions(size)
                )
                peaks = [
                    peak_megabytes(Path(folder), step, has_journal=has_journal) for step in STEPS
                ]
            shown = "".join(f"{peak:11.0f}" for peak in peaks)
            print(f"{size:12,}{'on' if has_journal else 'off':>9}{shown}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
