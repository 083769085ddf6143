"""Fixtures that several test modules share.

Not covered, and why: training on a GPU and vLLM on one (no such machine in CI; opt-in by the marker
`gpu`); web search (needs the internet). Tests that need the internet bear the marker `network` and
run with `--network`. Tests that want Argilla's server or a browser bear the marker `full` and run
in `make test-full`; attacks, faults, kills and runs of documents that take minutes bear `long` and
run in `make test-long`; those against the real vLLM on a CPU bear `vllm` and run in
`make test-vllm`. The names, links and imports in `tests/house` are checked by `make check`.
"""

import asyncio
import contextlib
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from aiohttp import web
from filelock import FileLock
from hypothesis import settings

if TYPE_CHECKING:
    from coa.student.checkpoint import Student

MakeFolder = Callable[[Path], object]
"""What makes a folder that is not there yet."""

# Support modules hold assertions too; pytest explains only those that it knows of.
for support in Path(__file__).parent.glob("*_support.py"):
    pytest.register_assert_rewrite(f"tests.{support.stem}")

# One thread each: tests share two cores, and a run must not depend on how many there are.
for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ.setdefault(name, "false" if name.startswith("TOKENIZERS") else "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# A test's own DVC repository would send statistics of its use.
os.environ.setdefault("DVC_NO_ANALYTICS", "1")

# The same examples in every run, since a red build must be reproducible; no time limit, since CI
# machines are noisy.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="also the tests that want Argilla's server or a browser"
    )
    parser.addoption("--long", action="store_true", help="also the tests that take minutes")
    parser.addoption("--network", action="store_true", help="also the tests that need the internet")
    parser.addoption("--vllm", action="store_true", help="also the tests against the real vLLM")


# Files whose tests take longest, in this order.
LONGEST = (
    "test_docs_run",
    "test_publish",
    "test_pipeline",
    "test_lab_dvc",
    "test_interruption",
    "test_train_stages",
    "test_profiles_dry_run",
    "test_sets_not_built",
)


def starting_order(item: pytest.Item) -> int:
    """Put the longest files first: one that started last would keep a single process busy."""
    name = item.path.stem
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests with these markers unless they are asked for; long files start first."""
    items.sort(key=starting_order)
    for marker in ("full", "long", "network", "vllm"):
        if config.getoption(f"--{marker}"):
            continue
        config.hook.pytest_deselected(items=[it for it in items if it.get_closest_marker(marker)])
        items[:] = [item for item in items if not item.get_closest_marker(marker)]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keep torch on one thread while a module's tests run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, MakeFolder], Path]:
    """Make a folder once for all processes of a test run; tests read or copy it.

    The first process that asks for a name makes its folder, the others wait.
    """
    temporary = tmp_path_factory.getbasetemp()
    shared = temporary.parent if "PYTEST_XDIST_WORKER" in os.environ else temporary

    def find_or_make(name: str, make: MakeFolder) -> Path:
        folder = shared / "shared" / name
        finished = folder.with_suffix(".finished")
        folder.parent.mkdir(exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not finished.exists():
                make(folder)
                finished.touch()
        return folder

    return find_or_make


@pytest.fixture(scope="session")
def student_folder(shared_folder: Callable[[str, MakeFolder], Path]) -> Path:
    """Save a small student that knows the words of RL's questions."""
    from tests.rl_support import TEXTS, save_student

    return shared_folder("student", lambda folder: save_student(folder, TEXTS))


@pytest.fixture
def student(student_folder: Path) -> "Student":
    """Load the student anew, since training changes it."""
    from coa.student.checkpoint import load_student

    return load_student(str(student_folder))


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    """Run a module's coroutines in one event loop."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def finished_project(shared_folder: Callable[[str, MakeFolder], Path]) -> Path:
    """Make a project after one `dvc repro` on the tiny profile; tests that change it copy it."""
    from tests.project_support import REPRO, finish, make_tiny_project

    def make(folder: Path) -> None:
        make_tiny_project(folder)
        finish(folder, *REPRO)

    return shared_folder("finished", make)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).parent.parent


class ServedSearch:
    """A search server in a thread of this process, for as long as the `with` statement lasts."""

    def __init__(self, finder: object, serving: object) -> None:
        import uvicorn

        from coa.search.app import create_app
        from coa.search.connections import server_config

        config = server_config(
            create_app(finder, serving),  # type: ignore[arg-type]
            serving.limits,  # type: ignore[attr-defined]
            log_level="error",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}
        )
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "ServedSearch":
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def send(
        self, path: str, body: object = None, **headers: str
    ) -> tuple[int, object, dict[str, str]]:
        """Send a GET, or a POST where there is a body; return status, decoded body and headers.

        Bytes are sent as they are, any other body as JSON.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return reply.status, json.loads(reply.read()), dict(reply.headers.items())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), dict(error.headers.items())


SMALL_WORLD = """
sample: {num_questions: 80}
branch: {max_parents: {act_is_better: 20, think_is_better: 30}}
assemble: {num_cot_a: 6, num_coa: 20, num_cot: 6, num_rl: 10, validation_share: 0.2}
"""
"""What is smaller than in the tiny profile: a whole run in four seconds."""
SMALL_STAGES = (
    ("synth.microworld",),
    ("synth.questions",),
    ("coa.search.index",),
    ("synth.sample", "mode=cot"),
    ("synth.sample", "mode=coa"),
    ("curate.grade",),
    ("curate.analyse",),
    ("curate.filter",),
    ("curate.branch",),
    ("curate.screen",),
    ("curate.assemble",),
    ("data_cards.render",),
)


@pytest.fixture(scope="session")
def small_run(root: Path, shared_folder: Callable[[str, MakeFolder], Path]) -> Path:
    """Make a folder with all files, settings and journals of a small run of the line of data.

    Tests read or copy it.
    """
    return shared_folder("small", partial(make_small_run, root))


def make_small_run(root: Path, folder: Path) -> None:
    """Run the line of data on a small world in a folder."""
    from coa.settings.params import write_profiles

    for prompts in ("synth/prompts", "train/prompts"):
        shutil.copytree(root / prompts, folder / prompts)
    (folder / "data").mkdir()
    shutil.copy2(root / "data/reviews.parquet", folder / "data")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        Path("small.yaml").write_text(SMALL_WORLD, encoding="utf-8")
        write_profiles(
            [root / "conf/tiny.yaml", Path("small.yaml")], base=root / "conf/microworld.yaml"
        )
        for module, *arguments in SMALL_STAGES:
            importlib.import_module(module).main(arguments)


@pytest.fixture(scope="session")
def served_search() -> type[ServedSearch]:
    """The class of search servers to test against."""
    return ServedSearch


@contextlib.contextmanager
def serve_app(app: web.Application, host: str = "127.0.0.1") -> Iterator[str]:
    """An aiohttp application behind a real socket, in a thread of its own; its address."""
    started, loop, stopping = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    urls: list[str] = []

    async def serve() -> None:
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        urls.append(f"http://{host}:{runner.addresses[0][1]}")
        started.set()
        await stopping.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(60)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
        loop.close()


@pytest.fixture(scope="session")
def served_app() -> Callable[..., contextlib.AbstractContextManager[str]]:
    """Serves an aiohttp application while a test needs it."""
    return serve_app


class ReviewServer:
    """`coa review serve` in a folder of its own, started and stopped as a person would."""

    def __init__(self, root: Path, folder: Path, *arguments: str) -> None:
        self.folder, self._arguments = folder, arguments
        self.environment = {
            **{
                name: value for name, value in os.environ.items() if not name.startswith("ARGILLA_")
            },
            "PYTHONPATH": str(root),
        }
        self.passwords: dict[str, str] = {}
        self.url = ""
        self.process: subprocess.Popen[str] | None = None
        self.connections = contextlib.ExitStack()
        """Closed when the server is stopped."""

    def start(self, *arguments: str) -> "ReviewServer":
        """Start it, and read what it tells: its address, and the passwords of new accounts."""
        command = [sys.executable, "-m", "annotate.serve", *self._arguments, *arguments]
        with (self.folder / "serve.err").open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout
        for line in self.process.stdout:
            if " is at http" in line:
                self.url = line.split(" is at ")[1].strip()
            if line.startswith("  "):
                name, password = line.split()
                self.passwords[name] = password
            if line.startswith("stop it"):
                return self
        raise AssertionError((self.folder / "serve.err").read_text())

    def stop(self) -> str:
        """Stop it in order; returns the last line that it wrote."""
        assert self.process and self.process.stdout
        self.connections.close()
        self.process.terminate()
        told = self.process.stdout.read()
        self.process.wait(30)
        self.process.stdout.close()
        return told.strip()

    def do(self, module: str, *arguments: str) -> str:
        """What a command of the project says last; run in this process and the server's folder."""
        return self.do_in(self.folder, module, *arguments)

    def do_in(self, folder: Path, module: str, *arguments: str) -> str:
        """The same in another folder."""
        with contextlib.chdir(folder):
            return str(importlib.import_module(module).main(arguments))

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """A command of the project in a process of its own, as a person runs it."""
        environment = {**self.environment, **variables}
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="session")
def review_server(root: Path) -> Callable[..., ReviewServer]:
    """What makes a server in a folder; a free port is found for it."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # its classes are written in an old form of pydantic's
        importlib.import_module("argilla")

    def make(folder: Path, *arguments: str) -> ReviewServer:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        return ReviewServer(root, folder, f"port={port}", *arguments)

    return make


@pytest.fixture(scope="session")
def running_review_server(
    root: Path, tmp_path_factory: pytest.TempPathFactory, review_server: Callable[..., ReviewServer]
) -> Iterator[ReviewServer]:
    """Start a server for all tests that only talk to it.

    Anna and Ben have accounts, and each test has its own data sets.
    """
    folder = tmp_path_factory.mktemp("review")
    sections = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    sections["annotate"]["serve"]["state"] = "state"
    (folder / "params.yaml").write_text(yaml.safe_dump(sections))
    server = review_server(folder, "annotators=[anna,ben]").start()
    yield server
    server.stop()


@pytest.fixture
def journal_path(tmp_path: Path) -> Path:
    """Name a journal in a folder that is not there yet."""
    return tmp_path / "deep" / "journal.sqlite"


@pytest.fixture
def current_run(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the small run the current folder."""
    monkeypatch.chdir(small_run)
    return small_run


@pytest.fixture
def copied_run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the small run the current folder."""
    folder = Path(shutil.copytree(small_run, tmp_path / "run"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def linked_run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the small run current, all of links, so that a test may remove files."""
    for path in small_run.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(small_run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quiet_bars() -> Iterator[None]:
    """Show no bars of the library `datasets` among the dots of the tests."""
    import datasets

    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def card_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the files that cards are about into the current folder."""
    from tests.card_support import plain_run

    monkeypatch.chdir(tmp_path)
    plain_run()
    return tmp_path


@pytest.fixture
def free_url() -> str:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def training_folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with tiny sets and settings the current folder."""
    from tests.train_support import write_project

    monkeypatch.chdir(tmp_path)
    write_project(root)
    return tmp_path


@pytest.fixture
def pretrained_folder(
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    shared_folder: Callable[[str, MakeFolder], Path],
) -> Path:
    """Make a project with tiny sets current whose student is pre-trained in data/train/pretrain."""
    from tests.train_support import write_project
    from train.run import main

    def make(folder: Path) -> None:
        folder.mkdir()
        with pytest.MonkeyPatch.context() as context:
            context.chdir(folder)
            write_project(root)
            main(["stage=pretrain"])

    made = shared_folder("pretrained", make)
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
