"""Measure shards against one process: the same sampling, the same served fake, its latency known.

    python -m bench.shards                 # 1, 2 and 4 shards, on Ray
    python -m bench.shards counts=1,8

A folder of its own gets a small invented world. The fake is the world's teacher behind a real HTTP
server in a process of its own, with replies of `seconds` on average. Each run starts without a
journal. Beside the wall time stand the calls that the server answered, those that it answered
twice, and whether the bytes are those of one process.
"""

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, fields
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.policy import Completion, Request
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve
from coa.settings.params import Params

ROOT = Path(__file__).parent.parent
COPIED = ("coa", "synth", "conf", "pipeline")
OUT = Path("data/sample/coa.parquet")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line."""

    counts: str = "1,2,4"
    questions: int = 800
    """Half of them are asked with search."""
    concurrency: int = 8
    """Rollouts in flight in each shard."""
    seconds: float = 0.8
    """The mean time of a reply; the times are spread as an exponential distribution."""


class Counting(ScriptedPolicy):
    """The world's teacher, which counts what it answers."""

    def __init__(self, params: MicroworldParams) -> None:
        teacher = scripted_teacher(params)
        super().__init__(lambda request: teacher._complete(request).text, "counting")
        self.answered: Counter[str] = Counter()

    async def complete(self, request: Request) -> Completion:
        """Answer, and count it."""
        self.answered[hashlib.sha256(repr(request).encode()).hexdigest()] += 1
        return await super().complete(request)


def serve_teacher(folder: str, seconds: float, connection: Connection) -> None:
    """Serve the teacher; each message asks how many calls it answered and how many twice."""
    params = Params.load("microworld", path=Path(folder) / "params.yaml")
    policy = Counting(params.section(MicroworldParams))

    async def run() -> None:
        async with serve(policy, latency_seconds=seconds) as base_url:
            connection.send(base_url)
            while await asyncio.to_thread(connection.recv):
                total = policy.answered.total()
                connection.send((total, total - len(policy.answered)))
                policy.answered.clear()

    asyncio.run(run())


def run_command(folder: Path, *arguments: str) -> float:
    """Run a command in the folder; return its wall time."""
    paths = [str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    started = time.monotonic()
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.monotonic() - started


def prepare(folder: Path) -> None:
    """Make a project with a small world, its questions and its index."""
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    (folder / "data").mkdir()
    run_command(folder, "coa.params", "conf/tiny.yaml")
    for module in ("synth.microworld", "synth.questions", "coa.search.index"):
        run_command(folder, module)


def measure(options: Options) -> None:
    """Print a row for each number of shards."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        ours, theirs = get_context("spawn").Pipe()
        arguments = (name, options.seconds, theirs)
        server = get_context("spawn").Process(target=serve_teacher, args=arguments, daemon=True)
        server.start()
        sampling = (
            "synth.sample",
            "mode=coa",
            f"num_questions={options.questions}",
            f"teacher.concurrency={options.concurrency}",
            "teacher.policy=completions",
            "teacher.probe=false",
            "teacher.server.model=counting",
            f"teacher.server.base_url={ours.recv()}",
        )
        alone, expected = 0.0, b""
        print("shards  wall s  faster  calls  answered twice  same bytes", flush=True)
        for count in map(int, options.counts.split(",")):
            shutil.rmtree(folder / ".journal", ignore_errors=True)
            shards = (f"shards.num_shards={count}", "shards.launcher=ray")
            seconds = run_command(folder, *sampling, *shards)
            found = (folder / OUT).read_bytes()
            alone, expected = alone or seconds, expected or found
            ours.send(True)
            calls, twice = ours.recv()
            row = (f"{count:6}", f"{seconds:7.1f}", f"{alone / seconds:7.2f}", f"{calls:6,}")
            print(*row, f"{twice:14,}  {found == expected}", flush=True)
        ours.send(False)
        server.join(5)


def main() -> None:
    """Read the options and measure."""
    given = dict(argument.split("=", 1) for argument in sys.argv[1:])
    kinds = {field.name: type(field.default) for field in fields(Options)}
    measure(Options(**{name: kinds[name](value) for name, value in given.items()}))


if __name__ == "__main__":
    main()
