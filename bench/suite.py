"""Measure an evaluation of AutoCoA's test questions against a served fake with known latency.

    python -m bench.suite FILE             # qid, dataset, split, question, answers; two minutes
    python -m bench.suite FILE seconds=1   # the mean latency of a turn

`coa evaluate` itself runs, from reading the questions to writing the result: its loop, journal,
search, grades, intervals. The fake is a process of its own (`bench/many_servers.py`); each rollout
takes four turns and three searches in an index of a few passages. How long a turn takes follows
from its seed, so the ideal is known: every slot begins its next rollout as soon as the last one
could be over. A bare aiohttp client that only posts as many requests runs first, and shows what a
busy machine adds. Target: at most 1.1 times the ideal.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf

from bench.many_servers import NUM_TURNS, Fake, Options, ideal_seconds, post_bare, read_all
from coa.policy import session_name
from coa.progress import Progress
from coa.records.question import Question
from coa.records.trajectory import Mode, trajectory_id
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.settings.params import DEFAULT_PROFILE
from coa.store import tables
from coa.store.files import QUESTIONS
from evaluation import evaluate
from evaluation.result_files import FOLDER, read_result
from synth.question_file import QuestionFile
from synth.questions import QuestionParams, read_questions

IN_FLIGHT = 512
COLUMNS = {"question_id": "qid", "gold_answers": "answers", "source": "dataset"}
NAME = "suite"


def read_test_questions(path: str) -> list[Question]:
    """Read the file's test questions; a repeated one counts once."""
    file = QuestionFile(path, columns=COLUMNS, names_source=True)
    params = QuestionParams((file,), drops_bad_rows=True)
    return [question for question in read_questions(params) if question.split == "test"]


def write_settings(base_url: str) -> None:
    """Write params.yaml and the index that the evaluation reads, into the current folder."""
    passages = [Passage(f"p{i}", f"Who {i}", f"Who wrote book {i}? Ada did.") for i in range(20)]
    with Progress("index", None, "passages") as bar:
        build_index(iter(passages), Path("data/index"), IndexSettings(), "bench", bar)
    given = {
        "evaluate": {
            "name": NAME,
            "split": "test",
            "num_questions": 0,
            "prompts": {"coa": "prompt.txt"},
            "limits": {"max_context_tokens": 100_000},
            "policy": {
                "policy": "completions",
                "concurrency": IN_FLIGHT,
                "probe": False,
                "server": {"base_url": base_url, "model": "fake"},
            },
        }
    }
    Path("prompt.txt").write_text("Question: {question}")
    OmegaConf.save(OmegaConf.merge(OmegaConf.load("profile.yaml"), given), "params.yaml")


@contextmanager
def reading(fake: Fake) -> Iterator[None]:
    """Keep taking over what the fake counts, which it would else wait to hand over."""
    is_over = threading.Event()

    def read() -> None:
        while not is_over.wait(0.2):
            fake.read()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        is_over.set()
        reader.join()
        fake.read()


async def run_bare_client(options: Options, fake: Fake) -> float:
    """Post as many requests with a bare client; returns the times of the ideal that it takes."""
    reader = asyncio.create_task(read_all([fake]))
    try:
        return await post_bare(options, [fake])
    finally:
        reader.cancel()


def measure(questions: Sequence[Question], seconds: float) -> None:
    """Evaluate in the current folder and print the figures."""
    options = Options(1, len(questions), IN_FLIGHT, seconds)
    fake = Fake(options)
    write_settings(f"http://127.0.0.1:{fake.port}/v1")
    bare = asyncio.run(run_bare_client(options, fake))
    tables.write_table(QUESTIONS, Question, questions)
    with reading(fake):
        began_at, cpu = time.monotonic(), time.process_time()
        line = evaluate.main([])
        taken, cpu = time.monotonic() - began_at, time.process_time() - cpu
    fake.kill()
    result = read_result(FOLDER / f"{NAME}.json")
    ids = result.outcomes["question_id"]
    names = [session_name(trajectory_id(name, Mode.COA, 0)) for name in ids]
    ideal = ideal_seconds(options, [fake], names)
    assert len(fake.received) == NUM_TURNS * len(ids), "each turn is asked once"
    print(line)
    print(f"{len(ids):,} questions of {len(result.by_set)} sets, {IN_FLIGHT} in flight")
    print(f"ideal {ideal:.1f} s, taken {taken:.1f} s, CPU {cpu:.1f} s")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"times ideal {taken / ideal:.3f}; bare client {bare:.3f}; load averages {load}")


def main(arguments: Sequence[str]) -> None:
    """Read the questions, and measure in a folder of their own."""
    path, *rest = arguments
    given = dict(argument.split("=") for argument in rest)
    questions = read_test_questions(path)
    profile = DEFAULT_PROFILE.read_text(encoding="utf-8")
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("profile.yaml").write_text(profile)
            measure(questions, float(given.get("seconds", 2.5)))
        finally:
            os.chdir(here)


if __name__ == "__main__":
    main(sys.argv[1:])
