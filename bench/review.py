"""Measure how long a reviewer waits for annotate.serve, and how much memory it takes.

Measured are the start, the push of long trajectories, the next records and searches.

    python -m bench.review [records=5000] [searched=10000] [folder=/tmp/bench-review]

Makes trajectories of 15 KB in `folder`, starts a server there, and speaks to it as push and the
page do.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from coa.records import protocol
from coa.records.causes import Analysis
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.grading import Verdict
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Sampling, Step, StepKind, StopReason, Trajectory
from coa.store import tables

PORT = 6987
_SYLLABLES = [f"{a}{b}{c}" for a in "bdfgklmprst" for b in "aeiou" for c in "nrstl"]
_CHARACTERS = 15_000


def trajectories(count: int) -> Iterator[GradedTrajectory]:
    """Make right trajectories of 15 KB: ten searches with long observations."""
    dice = random.Random(0)
    for number in range(count):
        steps: list[Step] = []
        for turn in range(10):
            words = ["".join(dice.choices(_SYLLABLES, k=2)) for _ in range(_CHARACTERS // 75)]
            text = " ".join(words)
            steps += protocol.parse_policy(
                f"Step {turn}. {protocol.open_tag('search')} {turn} {protocol.close_tag('search')}"
            )
            steps.append(protocol.observation("search", f"rare{number % 500} {text}", Outcome.OK))
        steps += protocol.parse_policy(f"So. {protocol.THINK_CLOSE} \\boxed{{Ada}}")
        asked = Question(f"q{number:06}", f"Who wrote number {number}?", ("Ada",), "train")
        made = Trajectory(
            trajectory_id=f"{asked.question_id}/coa/0",
            question_id=asked.question_id,
            mode=Mode.COA,
            index=0,
            question=asked.question,
            prompt="prompt",
            steps=tuple(steps),
            stop_reason=StopReason.ANSWERED,
            model="m",
            sampling=Sampling(),
            prompt_hash="hash",
            search_fingerprint="fp",
            num_prompt_tokens=1,
            num_policy_tokens=10,
            num_environment_tokens=5,
            num_calls=2,
            num_actions=10,
        )
        yield grade_trajectory(made, asked)


def write_run(folder: Path, count: int) -> float:
    """Write the files that push reads; return the mean number of characters of a trajectory."""
    sections = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    characters = 0

    def analyses() -> Iterator[Analysis]:
        nonlocal characters
        for row in tables.read_table(folder / "data/grade.parquet", GradedTrajectory):
            trajectory = row.trajectory
            for step in trajectory.steps:
                if step.kind is not StepKind.MARKER:
                    characters += len(step.text)
            yield Analysis(
                trajectory_id=trajectory.trajectory_id,
                question_id=trajectory.question_id,
                mode=trajectory.mode,
                index=0,
                question_type="",
                num_hops=None,
                num_actions=10,
                stop_reason=trajectory.stop_reason,
                verdict=Verdict.CORRECT,
                cause=None,
                step=None,
                evidence="",
                passages=(),
                needs_gold_titles=False,
                contributing=(),
            )

    tables.write_table(folder / "data/grade.parquet", GradedTrajectory, trajectories(count))
    tables.write_table(folder / "data/analyse.parquet", Analysis, analyses())
    return characters / count


def start(folder: Path) -> tuple[subprocess.Popen[str], float, dict[str, str]]:
    """Start a server in `folder`; return it, the seconds until its page answered, new passwords."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "annotate.serve", f"port={PORT}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    passwords: dict[str, str] = {}
    assert process.stdout
    for line in process.stdout:
        if line.startswith("  "):
            name, password = line.split()
            passwords[name] = password
        if line.startswith("stop it"):
            return process, time.monotonic() - begun, passwords
    raise SystemExit("the server did not start")


def memory_mb(pid: int) -> float:
    """Measure the memory of a process and its children in megabytes, shared pages divided."""
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout.split()
    total = 0
    for process in (str(pid), *children):
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        for line in rollup.splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def took(act: Callable[[], Any], times: int = 20) -> float:
    """Measure the median of some runs, in milliseconds."""
    found = []
    for _ in range(times):
        begun = time.monotonic()
        act()
        found.append(time.monotonic() - begun)
    return statistics.median(found) * 1000


def main(arguments: Sequence[str]) -> str:
    """Measure everything and return the figures as JSON."""
    asked = {"records": "5000", "searched": "10000", "folder": "/tmp/bench-review"}
    asked |= dict(argument.split("=", 1) for argument in arguments)
    folder = Path(asked["folder"])
    records = int(asked["records"])
    searched = int(asked["searched"])
    folder.mkdir(parents=True)
    found: dict[str, float] = {"characters": write_run(folder, searched)}
    process, found["first_start_s"], passwords = start(folder)
    process.terminate()
    process.wait()
    process, found["start_s"], _ = start(folder)
    try:
        for count in (records, searched):
            begun = time.monotonic()
            push = ["annotate.push", f"num_items={count}", "kinds=[trajectory]", "audit_share=1.0"]
            subprocess.run([sys.executable, "-m", *push], cwd=folder, check=True)
            found[f"push_{count}_s"] = time.monotonic() - begun
        found |= reviewing(passwords["anna"])
        found["memory_mb"] = memory_mb(process.pid)
    finally:
        process.terminate()
        process.wait()
    return json.dumps({name: round(value, 1) for name, value in found.items()}, indent=2)


def reviewing(password: str) -> dict[str, float]:
    """Measure what a reviewer's page asks for, in milliseconds."""
    with httpx.Client(base_url=f"http://127.0.0.1:{PORT}", timeout=60) as http:
        credentials = {"username": "anna", "password": password}
        token = http.post("/api/v1/token", data=credentials).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        (data_set,) = (it["id"] for it in http.get("/api/v1/me/datasets").json()["items"])
        path = f"/api/v1/me/datasets/{data_set}/records/search"
        pending = {
            "type": "terms",
            "scope": {"entity": "response", "property": "status"},
            "values": ["pending"],
        }

        def search(text: str = "") -> None:
            body: dict[str, Any] = {"query": {"text": {"q": text}}} if text else {}
            body["filters"] = {"type": "and", "and": [pending]}
            http.post(path, params={"limit": 10}, json=body).raise_for_status()

        queries = {
            "rare_word": "rare7",
            "two_words": "search result",
            "prefix": "rare4*",
            "phrase": '"wrote number"',
        }
        found = {"next_ten_records_ms": took(search)}
        for name, text in queries.items():
            found[f"search_{name}_ms"] = took(partial(search, text), 5)
        return found


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
