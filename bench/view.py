"""Measure how long the pages of `coa.view` take over a file of many trajectories.

    python -m bench.view               # 200,000 rows of 600 words; 1 minute
    python -m bench.view 1000000       # 6 minutes and 1 GB of disk

Opening a row must take less than 200 ms at the 95th percentile. Rows are opened before the list of
the file was read, as by a link, in random order.
"""

import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

from starlette.testclient import TestClient

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
from coa.store import tables
from coa.view.app import create_app
from coa.view.masks import Masks
from coa.view.run_files import find_files

NUM_ROWS = 200_000
NUM_OPENED = 100
NUM_LISTED = 5
WORDS = [f"word{number}" for number in range(5_000)]


def make_rows(count: int) -> Iterator[GradedTrajectory]:
    """Make trajectories with one search and 600 words each; every other one is wrong."""
    rng = random.Random(0)
    for number in range(count):
        text = " ".join(rng.choices(WORDS, k=300))
        call = f"{protocol.open_tag('search')} {text[:40]} {protocol.close_tag('search')}"
        answer = f"{protocol.THINK_CLOSE} \\boxed{{{'Ada' if number % 2 else 'Bo'}}}"
        steps = (
            Step(StepKind.THOUGHT, Author.POLICY, text),
            Step(StepKind.ACTION, Author.POLICY, call, tool="search", argument=text[:40]),
            Step(StepKind.OBSERVATION, Author.ENVIRONMENT, text, "search", outcome=Outcome.OK),
            Step(StepKind.ANSWER, Author.POLICY, answer),
        )
        asked = Question(
            f"q{number:08}", f"Who? {text[:80]}", ("Ada",), "train", "bridge", number % 4
        )
        yield grade_trajectory(_trajectory(asked, steps), asked)


def _trajectory(asked: Question, steps: tuple[Step, ...]) -> Trajectory:
    return Trajectory(
        trajectory_id=f"{asked.question_id}/coa/0",
        question_id=asked.question_id,
        mode=Mode.COA,
        index=0,
        question=asked.question,
        prompt="prompt",
        steps=steps,
        stop_reason=StopReason.ANSWERED,
        model="m",
        sampling=Sampling(),
        prompt_hash="hash",
        search_fingerprint="fp",
        num_prompt_tokens=1,
        num_policy_tokens=10,
        num_environment_tokens=5,
        num_calls=2,
        num_actions=1,
    )


def seconds(client: TestClient, path: str, query: dict[str, object]) -> float:
    """Return how long a page takes."""
    started = time.perf_counter()
    reply = client.get(path, params={name: str(value) for name, value in query.items()})
    assert reply.status_code == 200, reply.text
    return time.perf_counter() - started


def report(what: str, times: list[float]) -> None:
    """Print a line of the table."""
    p95 = quantiles(times, n=20)[-1] if len(times) > 1 else times[0]
    print(f"{what:52}{1000 * median(times):10,.0f}{1000 * p95:10,.0f}")


def measure(path: Path, count: int) -> None:
    """Print how long each page takes."""
    files = find_files([path.as_posix()])
    client = TestClient(create_app(files, Masks("")), base_url="http://127.0.0.1:8050")
    name = path.as_posix()
    rng = random.Random(1)
    opened = []
    for _ in range(NUM_OPENED):
        row_id = f"q{rng.randrange(count):08}/coa/0"
        opened.append(seconds(client, "/row", {"file": name, "id": row_id}))
    report("open a row by its link", opened)
    report("the list, for the first time", [seconds(client, "/rows", {"file": name})])
    searches: dict[str, dict[str, object]] = {
        "the list, again": {},
        "filter by grade and hops": {"grade": "wrong", "hops": 3},
        "search in questions": {"q": "word42 word17"},
        "the row after a row, with a filter": {},
    }
    for what, query in searches.items():
        times = []
        for _ in range(NUM_LISTED):
            if what.startswith("the row after"):
                row_id = f"q{2 * rng.randrange(count // 2):08}/coa/0"
                query = {"grade": "wrong", "id": row_id, "by": 1}
                times.append(seconds(client, "/neighbour", {"file": name, **query}))
            else:
                times.append(seconds(client, "/rows", {"file": name, **query}))
        report(what, times)
    text = {"file": name, "q": "word1 word2", "steps": 1}
    report("search in all steps, for the first time", [seconds(client, "/rows", text)])


def main(arguments: list[str]) -> None:
    """Print the table."""
    count = int(arguments[0]) if arguments else NUM_ROWS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        tables.write_table(path, GradedTrajectory, make_rows(count))
        size = path.stat().st_size / 1e6
        print(f"{f'{count:,} rows, {size:,.0f} MB':52}{'p50, ms':>10}{'p95, ms':>10}")
        measure(path, count)


if __name__ == "__main__":
    main(sys.argv[1:])
