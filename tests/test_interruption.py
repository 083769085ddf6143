"""Control-C, SIGTERM and SIGHUP on a real process that asks a slow server: calls are kept."""

import asyncio
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from coa.interruption import Interrupted, run_interruptible
from coa.policy.probe import STORY

CONCURRENCY = 6


@pytest.fixture(autouse=True)
def closed_terminals_are_heard() -> Iterator[None]:
    """Let commands hear SIGHUP, also where the tests run under nohup, which makes them deaf."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


class SlowServer:
    """Answers completions after some seconds, and counts what it was asked."""

    def __init__(self) -> None:
        self.seconds = 1.5
        self.is_over = False
        self.refused_share = 0.0
        """The share of requests that are refused for a moment, for ever."""
        self.num_asked = self.num_answered = 0
        self.num_probed = 0
        """Questions of the probe, which are answered at once."""

    @property
    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/completions", self._complete)
        return app

    async def _complete(self, request: web.Request) -> web.Response:
        if (await request.json())["prompt"].startswith(STORY):
            self.num_probed += 1
            return self._reply()
        self.num_asked += 1
        if self.num_asked % CONCURRENCY < self.refused_share * CONCURRENCY:
            return web.json_response({"error": {"message": "busy"}}, status=503)
        started = time.monotonic()
        while time.monotonic() < started + self.seconds and not self.is_over:
            await asyncio.sleep(0.02)
        self.num_answered += 1
        return self._reply()

    def _reply(self) -> web.Response:
        choice = {"index": 0, "text": "</think> \\boxed{1}", "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        reply = {"id": "1", "object": "text_completion", "created": 0, "model": "m"}
        return web.json_response({**reply, "choices": [choice], "usage": usage})


class Sampling:
    """`coa sample` in a folder of its own, asking a server."""

    def __init__(self, root: Path, folder: Path, url: str, terminal: int | None = None) -> None:
        self.journal = folder / ".journal/run-cot.sqlite"
        teacher = (
            "teacher.policy=completions",
            f"teacher.server.base_url={url}/v1",
            "teacher.server.model=m",
            f"teacher.concurrency={CONCURRENCY}",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "synth.sample", "mode=cot", "out=data/run", *teacher],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            preexec_fn=None if terminal is None else partial(os.login_tty, terminal),
        )

    def stop(self, *signals: int) -> tuple[int, str]:
        """Send signals with a pause between; the exit status and what was told."""
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.4)
        _, told = self.process.communicate(timeout=60)
        return self.process.returncode, told

    def num_recorded(self) -> int:
        with sqlite3.connect(self.journal) as journal:
            return int(journal.execute("SELECT count(*) FROM calls").fetchone()[0])


@pytest.fixture
def server() -> SlowServer:
    return SlowServer()


@pytest.fixture
def sampling(
    root: Path,
    small_run: Path,
    tmp_path: Path,
    server: SlowServer,
    served_app: Callable[..., AbstractContextManager[str]],
) -> Iterator[Callable[[], Sampling]]:
    """Starts sampling, and waits until all its slots ask."""
    for path in small_run.rglob("*"):
        if path.is_file() and ".journal" not in path.parts:
            target = tmp_path / path.relative_to(small_run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    started: list[Sampling] = []
    with served_app(server.app) as url:

        def start(terminal: int | None = None) -> Sampling:
            started.append(Sampling(root, tmp_path, url, terminal))
            asked = server.num_asked
            while server.num_asked < asked + CONCURRENCY:
                assert started[-1].process.poll() is None, started[-1].process.communicate()
                time.sleep(0.02)
            return started[-1]

        yield start
        for it in started:
            it.process.kill()
            it.process.communicate()
        server.is_over = True
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["SIGINT", "SIGTERM", "SIGHUP"],
)
def test_one_signal_keeps_every_call_under_way_and_makes_no_more(
    sampling: Callable[[], Sampling], server: SlowServer, number: int, status: int
) -> None:
    run = sampling()
    ended = run.stop(number)

    assert ended[0] == status, ended[1]
    assert f"waiting for {CONCURRENCY} calls under way" in ended[1]
    assert "run the same command again to resume" in ended[1]
    assert "Traceback" not in ended[1]
    num_recorded = run.num_recorded() - server.num_probed
    assert server.num_asked == server.num_answered == num_recorded == CONCURRENCY


def test_calls_that_only_wait_to_be_repeated_are_not_waited_for(
    sampling: Callable[[], Sampling], server: SlowServer
) -> None:
    server.refused_share = 0.5
    server.seconds = 3.0
    run = sampling()
    time.sleep(0.3)
    started = time.monotonic()
    status, told = run.stop(signal.SIGTERM)

    assert status == 143
    assert time.monotonic() - started < 15, "patience is ten minutes"
    assert "waiting for" in told
    assert run.num_recorded() - server.num_probed == server.num_answered > 0


def test_a_terminal_that_is_closed_keeps_every_call_under_way(
    sampling: Callable[..., Sampling], server: SlowServer
) -> None:
    ours, theirs = pty.openpty()
    run = sampling(theirs)
    os.close(theirs)
    os.close(ours)  # the kernel sends SIGHUP
    os.kill(run.process.pid, signal.SIGHUP)  # and so do shells

    assert run.process.wait(30) == 129
    num_recorded = run.num_recorded() - server.num_probed
    assert server.num_asked == server.num_answered == num_recorded == CONCURRENCY


def test_a_second_signal_stops_at_once(
    sampling: Callable[[], Sampling], server: SlowServer
) -> None:
    server.seconds = 60.0
    run = sampling()
    started = time.monotonic()
    status, told = run.stop(signal.SIGINT, signal.SIGINT)

    assert status == 130
    assert time.monotonic() - started < 5
    assert "Traceback" not in told
    assert run.num_recorded() == server.num_probed


def test_an_engine_that_holds_the_event_loop_can_be_interrupted() -> None:
    steps = []

    async def compute() -> None:
        for step in range(200):
            steps.append(step)
            time.sleep(0.01)  # a batch of a model in this process
            await asyncio.sleep(0)

    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    with pytest.raises(Interrupted) as stopped:
        run_interruptible(compute())
    timer.join()
    assert stopped.value.status == 143
    assert len(steps) < 150


def test_work_that_no_signal_disturbs_gives_its_result_and_the_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def work() -> int:
        return 7

    assert run_interruptible(work()) == 7
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
