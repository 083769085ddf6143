"""Run stages in shards over a copy of the small run; a teacher counts what it answers."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.policy import Completion, Request
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve
from coa.settings.params import Params
from coa.shards.files import JOURNAL, PROGRESS, SHARDS, Shard, read_standing
from coa.store.journal_file import JOURNALS
from tests.completions_support import in_a_thread

ROOT = Path(__file__).parent.parent
CONCURRENCY = 8
MADE = (
    "data/sample",
    "data/grade.parquet",
    "data/analyse.parquet",
    "data/filter",
    "data/branch",
    "data/screen",
    "data/evaluate",
    "metrics",
    "results",
)


def copy_run(small_run: Path, to: Path) -> Path:
    """A copy of the small run without its journals, and without what the stages write."""
    for path in small_run.rglob("*"):
        if path.is_file() and ".journal" not in path.parts:
            target = to / path.relative_to(small_run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    return to


def made(folder: Path = Path()) -> dict[str, bytes]:
    """All files that a stage wrote, and that its journal is one."""
    found = {}
    for top in MADE:
        for path in (folder / top, *sorted((folder / top).rglob("*"))):
            if path.is_file():
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def clear(folder: Path = Path()) -> None:
    """Remove the journals, so that everything is asked again."""
    shutil.rmtree(folder / JOURNALS, ignore_errors=True)


Main = Callable[[Sequence[str]], str]


def run_shards(main: Main, arguments: Sequence[str], count: int) -> str:
    """Run every shard in this process, the last one first, and merge."""
    for number in range(count, 0, -1):
        main([*arguments, f"shard={number}/{count}"])
    return main([*arguments, "shard=merged"])


class Paid(ScriptedPolicy):
    """A script as a slow, paid model that remembers which calls it answered."""

    def __init__(self, write: Callable[[Request], str], seconds: float = 0.02) -> None:
        super().__init__(write, "paid")
        self.answered: Counter[Request] = Counter()
        self._seconds = seconds

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(self._seconds)
        self.answered[request] += 1
        return await super().complete(request)

    @property
    def num_repeated(self) -> int:
        """Answers that were given before."""
        return self.answered.total() - len(self.answered)


@contextmanager
def paid_teacher(folder: Path) -> Iterator[tuple[Paid, list[str]]]:
    """The teacher of a run behind a real HTTP server, and the arguments that name it."""
    params = Params.load("microworld", path=folder / "params.yaml")
    teacher = scripted_teacher(params.section(MicroworldParams))
    policy = Paid(lambda request: teacher._complete(request).text)
    with in_a_thread(serve(policy)) as base_url:
        yield policy, [*at("teacher", base_url), "teacher.probe=false"]


@contextmanager
def paid_judge() -> Iterator[tuple[Paid, list[str]]]:
    """A judge behind a real HTTP server, to whom every second answer is right."""
    policy = Paid(lambda request: ("CORRECT", "INCORRECT")[len(request.context) % 2])
    with in_a_thread(serve(policy)) as base_url:
        yield policy, [*PROMPTS, *at("judge.policy", base_url)]


PROMPTS = [
    f"judge.prompt={ROOT / 'coa/judging/prompts/simpleqa.txt'}",
    f"judge.rubric_prompt={ROOT / 'coa/judging/prompts/criterion.txt'}",
]


def at(section: str, base_url: str) -> list[str]:
    """The arguments that name a paid model behind a server."""
    return [
        f"{section}.policy=completions",
        f"{section}.server.base_url={base_url}",
        f"{section}.server.model=paid",
        f"{section}.concurrency={CONCURRENCY}",
    ]


def start(folder: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command in a folder, with the code of this project."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output[-3000:]
    return output


def wait_until(is_true: Callable[[], bool], seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def num_done(folder: Path, journal: str, shard: Shard) -> int:
    return read_standing(folder / SHARDS / journal / shard.folder).done


def process_of(folder: Path, journal: str, shard: Shard, file: str = JOURNAL) -> int:
    """The process that runs a shard, once it has begun."""
    place = folder / SHARDS / journal / shard.folder
    begun = place / (PROGRESS if file == JOURNAL else f"{file}.pid")
    wait_until(lambda: begun.exists() and bool(begun.read_text()))
    return int((place / f"{file}.pid").read_text().split()[0])


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)
