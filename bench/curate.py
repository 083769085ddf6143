"""Measure how fast curation reads, grades and filters on one core, and what each part costs.

    python -m bench.curate               # 20,000 trajectories of 600 words
    python -m bench.curate 100000
    python -m bench.curate stages 200000 2      # the four stages of curation, also in 2 shards

A trajectory has five thoughts, four searches with results, and an answer; one in ten breaks a rule.
Each part is timed as the stages run it, over rows that are already in memory; then the two stages
are run from file to file. Target: under 60 s for 100,000 trajectories, reading, grading and
filtering together.

The stages of curation are run from file to file as well, each in a process of its own, then in
shards side by side and a merge, whose files must have the same bytes. Their trajectories have one
search and about 250 words, of which most are in no other one; each question has equally many, four
in five are right, and one in twenty copies an earlier one.
"""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.analyse import make_passages, make_questions, make_rollout
from coa.records import protocol
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import (
    Author,
    Mode,
    Outcome,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
)
from coa.search import Passage
from coa.store import tables
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


def make_run(folder: Path, count: int) -> None:
    """Make what the stages read: the rows of 2,000 rollouts again and again, in other words."""
    generator = random.Random(1)
    passages, questions = list(make_passages()), list(make_questions())
    base: list[dict[str, object]] = []
    for i, question in enumerate(questions):
        number = i if i % 5 == 1 else 5 * i
        row = make_rollout(number, 3 * i, question, passages, generator, num_searches=1)
        base.append(msgspec.to_builtins(row))
    schema = tables.schema_of(Trajectory)
    made = pa.Table.from_pylist(base, schema=schema).combine_chunks()
    data = folder / "data"
    tables.write_table(data / "sample/cot.parquet", Trajectory, ())
    with pq.ParquetWriter(data / "sample/coa.parquet", schema, compression="zstd") as writer:
        for block in range(count // len(base)):
            ids = [f"{question.question_id}/coa/{block}" for question in questions]
            rows = made.set_column(0, schema.field(0), pa.array(ids))
            writer.write_table(_in_other_words(rows, block), row_group_size=1000)
    tables.write_table(data / "questions.parquet", Question, questions)
    tables.write_table(data / "branch/pairs.parquet", PreferencePair, ())
    tables.write_table(folder / "corpus.parquet", Passage, passages)
    shutil.copy("conf/microworld.yaml", folder / "params.yaml")


def _in_other_words(rows: pa.Table, block: int) -> pa.Table:
    """Change most words of all steps; every tenth row has the words of the block before or its own.

    Of two blocks side by side such rows are copies.
    """
    place = rows.schema.get_field_index("steps")
    steps = rows.column(place).combine_chunks()
    values = steps.flatten()
    number = np.repeat(np.arange(len(steps)), np.diff(steps.offsets))
    text = values.field("text")
    own = pc.replace_substring(text, " a", f" {block}a")
    shared = pc.replace_substring(text, " a", f" {block // 2 * 2}a")
    columns = [values.field(i) for i in range(values.type.num_fields)]
    columns[values.type.get_field_index("text")] = pc.if_else(number % 10 == 0, shared, own)
    changed = pa.StructArray.from_arrays(columns, fields=list(values.type))
    column = pa.ListArray.from_arrays(steps.offsets, changed, type=steps.type)
    return rows.set_column(place, rows.schema.field(place), column)


STAGES = {
    "grade": (),
    "analyse": ("index.corpus=corpus.parquet", "index.columns={}"),
    "filter": ("max_policy_tokens=4096", "max_copied_words=24"),
    "screen": (),
}
_CHILD = """
import sys, resource
from importlib import import_module
import_module(sys.argv[1]).main(sys.argv[2:])
spent = resource.getrusage(resource.RUSAGE_SELF)
print(spent.ru_utime + spent.ru_stime, spent.ru_maxrss // 1024)
"""


def run_stages(folder: Path, stage: str, shards: list[str]) -> None:
    """Run a stage, once for each `shard=` at the same time, and print a line for each process."""
    variables = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    started = time.perf_counter()
    processes: list[subprocess.Popen[str]] = []
    for shard in shards:
        command = [sys.executable, "-c", _CHILD, f"curate.{stage}", *STAGES[stage], *shard.split()]
        processes.append(
            subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
    for shard, process in zip(shards, processes, strict=True):
        output, _ = process.communicate()
        spent, peak = output.split()
        wall = time.perf_counter() - started
        name = f"{stage} {shard}"
        print(f"{name:30}{wall:10.0f}{float(spent):10.0f}{int(peak):10,}", flush=True)


def made_bytes(folder: Path) -> dict[str, str]:
    """Return the hash of every file that the stages wrote."""
    found: dict[str, str] = {}
    for top in ("data", "metrics"):
        for path in sorted((folder / top).rglob("*.*")):
            with path.open("rb") as file:
                found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def measure_stages(folder: Path, count: int, num_shards: int) -> None:
    """Print time and memory of each stage, in one process and in shards."""
    make_run(folder, count)
    print(f"{count:,} trajectories of about 250 words")
    print(f"{'':30}{'wall s':>10}{'CPU s':>10}{'peak MB':>10}", flush=True)
    for stage in STAGES:
        run_stages(folder, stage, [""])
        expected = made_bytes(folder)
        if num_shards > 1:
            run_stages(folder, stage, [f"shard={i + 1}/{num_shards}" for i in range(num_shards)])
            run_stages(folder, stage, ["shard=merged"])
            same = "the same" if made_bytes(folder) == expected else "OTHER"
            print(f"{stage}: bytes of the merge: {same}", flush=True)


def main(arguments: list[str]) -> None:
    """Print the table."""
    if arguments[:1] == ["stages"]:
        count, num_shards = (int(argument) for argument in arguments[1:3])
        with tempfile.TemporaryDirectory() as folder:
            measure_stages(Path(folder), count, num_shards)
        return
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
