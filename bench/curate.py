"""Measure time and memory of the stages of curation, in one process and in shards.

    python -m bench.curate                  # 100,000 trajectories
    python -m bench.curate 1000000 2        # also in 2 shards

The stages run from file to file, each in a process of its own with one thread, then in shards side
by side and a merge, whose files must have the same bytes. A trajectory has one search and about 250
words, of which most are in no other one; each question has equally many, four in five are right,
and one in twenty copies an earlier one. Target: 100,000 trajectories in less than a minute a stage,
in half a gigabyte.
"""

import hashlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from coa.records import protocol
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

NUM_ROWS = 100_000
NUM_QUESTIONS, NUM_PASSAGES = 2_000, 20_000
VOCABULARY = [
    "".join(letters)
    for letters in itertools.islice(itertools.product("aeioklmnprst", repeat=4), 5000)
]
WEIGHTS = [1 / (rank + 10) for rank in range(5000)]  # as unequal as the words of a language


def name(i: int) -> str:
    """Make the i-th name: two capitalised words."""
    return f"Person{i % 997} Family{i}"


def words(generator: random.Random, count: int) -> str:
    """Draw a sentence of so many words."""
    return f"{' '.join(generator.choices(VOCABULARY, WEIGHTS, k=count))}."


def make_questions() -> Iterator[Question]:
    """Make questions that ask for the third of three names; the first two are the gold titles."""
    for i in range(NUM_QUESTIONS):
        first = name(3 * i)
        second = name(3 * i + 1)
        answer = name(3 * i + 2)
        yield Question(
            question_id=f"q{i}",
            question=f"Who is the teacher of the friend of {first}?",
            gold_answers=(answer,),
            split="train",
            question_type="bridge",
            num_hops=2,
            gold_titles=(first, second),
        )


def make_passages() -> Iterator[Passage]:
    """Make a passage under each name; it mentions the next name."""
    generator = random.Random(0)
    for i in range(NUM_PASSAGES):
        yield Passage(f"p{i}", name(i), f"{name(i)} knows {name(i + 1)}. {words(generator, 75)}")


def make_rollout(
    i: int,
    first: int,
    question: Question,
    passages: list[Passage],
    generator: random.Random,
) -> Trajectory:
    """Make one rollout with one search; every fifth is right."""
    steps: list[Step] = []
    asked = name(first)
    thought = f"{words(generator, 25)} I need the friend of {asked}. {words(generator, 20)}"
    call = f"{protocol.open_tag('search')} {asked} friend {protocol.close_tag('search')}"
    steps += protocol.parse_policy(f"{thought} {call}")
    place = first if i % 2 else generator.randrange(NUM_PASSAGES)
    shown = [passages[place], generator.choice(passages)]
    body = "\n".join(passage.text for passage in shown)
    ids = tuple(passage.id for passage in shown)
    steps.append(protocol.observation("search", body, Outcome.OK, ids))
    answer = question.gold_answers[0] if i % 5 == 0 else name(generator.randrange(NUM_PASSAGES))
    steps.append(
        Step(StepKind.THOUGHT, Author.POLICY, f"{words(generator, 40)} So I think it is {answer}.")
    )
    steps.append(
        Step(StepKind.ANSWER, Author.POLICY, f"{protocol.THINK_CLOSE} \\boxed{{{answer}}}")
    )
    return Trajectory(
        trajectory_id=f"{question.question_id}/coa/{i}",
        question_id=question.question_id,
        mode=Mode.COA,
        index=i,
        question=question.question,
        prompt="prompt",
        steps=tuple(steps),
        stop_reason=StopReason.ANSWERED,
        model="words",
        sampling=Sampling(),
        prompt_hash="hash",
        search_fingerprint="words",
        num_prompt_tokens=8,
        num_policy_tokens=300,
        num_environment_tokens=400,
        num_calls=4,
        num_actions=1,
    )


def make_run(folder: Path, count: int) -> None:
    """Make what the stages read: the rows of 2,000 rollouts again and again, in other words."""
    generator = random.Random(1)
    passages, questions = list(make_passages()), list(make_questions())
    base: list[dict[str, object]] = []
    for i, question in enumerate(questions):
        number = i if i % 5 == 1 else 5 * i
        row = make_rollout(number, 3 * i, question, passages, generator)
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
"""Each with the settings that it needs here."""
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
    count = int(arguments[0]) if arguments else NUM_ROWS
    num_shards = int(arguments[1]) if len(arguments) > 1 else 1
    with tempfile.TemporaryDirectory() as folder:
        measure_stages(Path(folder), count, num_shards)


if __name__ == "__main__":
    main(sys.argv[1:])
