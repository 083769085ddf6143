"""Measure the speed of the error analysis, and that its memory does not grow with its input.

    python -m bench.analyse              # 10,000 and 100,000 trajectories
    python -m bench.analyse 1000 5000    # other sizes

A trajectory has four thoughts of 50 words, three searches with two passages of 80 words each, and
an answer; four in five are wrong, half of these although the passages under the gold titles were
shown. 2,000 questions with two gold titles each, a corpus of 20,000 passages. The stages run from
file to file in a process of their own, with one thread. Target: 100,000 trajectories in under 5
minutes.
"""

import itertools
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_trajectory
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

SIZES = (10_000, 100_000)
NUM_QUESTIONS, NUM_PASSAGES, NUM_SEARCHES = 2_000, 20_000, 3
PARAMS = """
index: {corpus: corpus.parquet, columns: {}, is_stemmed: true, out: data/index}
analyse:
  {reads_corpus: true, near_f1: 0.75, graded: data/grade.parquet, out: data/analyse.parquet}
"""
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


def make_rows(count: int) -> Iterator[GradedTrajectory]:
    """Make rollouts over the questions in turn."""
    generator = random.Random(1)
    passages = list(make_passages())
    questions = list(make_questions())
    for i in range(count):
        place = i % NUM_QUESTIONS
        question = questions[place]
        rollout = make_rollout(i, 3 * place, question, passages, generator)
        yield grade_trajectory(rollout, question)


def make_rollout(
    i: int,
    first: int,
    question: Question,
    passages: list[Passage],
    generator: random.Random,
    num_searches: int = NUM_SEARCHES,
) -> Trajectory:
    """Make one rollout; every fifth is right."""
    steps: list[Step] = []
    for k in range(num_searches):
        asked = name(first + min(k, 1))
        thought = f"{words(generator, 25)} I need the friend of {asked}. {words(generator, 20)}"
        call = f"{protocol.open_tag('search')} {asked} friend {protocol.close_tag('search')}"
        steps += protocol.parse_policy(f"{thought} {call}")
        place = first + k if i % 2 else generator.randrange(NUM_PASSAGES)
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
        num_actions=num_searches,
    )


def run_stage(module: str, folder: Path) -> tuple[float, float, int]:
    """Run a stage in its own process; return wall seconds, CPU seconds and peak memory in MB."""
    code = f"import sys, resource; from {module} import main; print(main([]), file=sys.stderr);"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    threads = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | threads,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, spent, int(done.stdout)


def main(arguments: list[str]) -> None:
    """Print the table."""
    times = f"{'wall s':>9}{'CPU s':>9}{'rows a second':>15}"
    print(f"{'trajectories':>12}{'stage':>18}{times}{'peak MB':>9}")
    sizes = [int(argument) for argument in arguments] or SIZES
    for count in sizes:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            tables.write_table(folder / "corpus.parquet", Passage, make_passages())
            tables.write_table(folder / "data/questions.parquet", Question, make_questions())
            tables.write_table(folder / "data/grade.parquet", GradedTrajectory, make_rows(count))
            (folder / "params.yaml").write_text(PARAMS, encoding="utf-8")
            for module in ("curate.analyse", "curate.report"):
                wall, spent, peak = run_stage(module, folder)
                print(
                    f"{count:12,}{module:>18}{wall:9.1f}{spent:9.1f}{count / wall:15,.0f}{peak:9}",
                    flush=True,
                )


if __name__ == "__main__":
    main(sys.argv[1:])
