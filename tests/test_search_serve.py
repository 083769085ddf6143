"""The command that serves an index: start, signals, workers, an index that is replaced."""

import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coa.errors import CoaError
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import Manifest, build_index
from coa.search.serve import main
from coa.search.wire import TOKEN_VARIABLE

COMMON = " ".join(f"word{number}" for number in range(60))
"""In every passage, so that a query for all of them takes its time."""
TOWNS = [
    Passage(f"{n:04d}", f"Town {n}", f"Town number {n} lies near the river. {COMMON}")
    for n in range(2000)
]


def build(out: Path, passages: list[Passage] = TOWNS) -> Manifest:
    return build_index(passages, out, IndexSettings(), str(len(passages)))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build an index for all tests; one that replaces it builds its own."""
    folder = tmp_path_factory.mktemp("served") / "index"
    build(folder)
    return folder


class Process:
    """`coa search serve` in a process of its own."""

    def __init__(self, root: Path, *arguments: str, **variables: str) -> None:
        command = [sys.executable, "-m", "coa.search.serve", "port=0", *arguments]
        environment = {**os.environ, **variables}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=root, env=environment, text=True, **pipes)  # type: ignore[call-overload]
        assert self.process.stderr is not None
        self.first_line = self.process.stderr.readline()
        found = re.search(r"at (http://\S+)", self.first_line)
        self.url = found[1] if found else ""

    @property
    def address(self) -> tuple[str, int]:
        found = urlsplit(self.url)
        assert found.hostname and found.port
        return found.hostname, found.port

    def wait_until_ready(self) -> "Process":
        for _ in range(1200):
            try:
                self.get("/health")
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, self.first_line
                time.sleep(0.05)
            else:
                return self
        raise AssertionError("the server does not start")

    def wait_until_mapped(self, index: Path, num_workers: int) -> None:
        """One worker answers for all before the others have opened the index."""
        for _ in range(1200):
            children = (
                Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
                .read_text()
                .split()
            )
            if (
                sum(str(index) in Path(f"/proc/{child}/maps").read_text() for child in children)
                == num_workers
            ):
                return
            time.sleep(0.05)
        raise AssertionError("not all workers open the index")

    def get(self, path: str) -> dict[str, object]:
        with urllib.request.urlopen(self.url + path, timeout=60) as reply:
            return json.loads(reply.read())  # type: ignore[no-any-return]

    def search(self, *queries: str) -> list[list[dict[str, str]]]:
        body = json.dumps({"queries": queries, "topk": 2}).encode()
        with urllib.request.urlopen(f"{self.url}/retrieve", body, timeout=60) as reply:
            return json.loads(reply.read())["result"]  # type: ignore[no-any-return]

    def stop(self, sent: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(sent)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        if process.process.poll() is None:
            process.process.kill()
            process.process.communicate()


def start(
    root: Path, processes: list[Process], index: Path, *arguments: str, **variables: str
) -> Process:
    processes.append(Process(root, f"index={index}", *arguments, **variables))
    return processes[-1].wait_until_ready()


def test_a_server_says_what_it_serves_and_ends_with_a_summary(
    root: Path, processes: list[Process], index: Path
) -> None:
    server = start(root, processes, index)
    assert "2,000 passages (tantivy:" in server.first_line
    assert server.search("town 7", "zymurgy")[0][0]["id"] == "0007"
    code, out, err = server.stop()
    assert (code, out.startswith("served 2,000 passages")) == (0, True)
    assert "Traceback" not in err


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_finishes_what_is_in_flight(
    root: Path, processes: list[Process], index: Path, workers: int
) -> None:
    server = start(root, processes, index, f"workers={workers}")
    clients = [socket.create_connection(server.address, timeout=60) for _ in range(6)]
    body = json.dumps({"queries": [COMMON] * 50, "topk": 1}).encode()
    for client in clients:
        client.sendall(b"POST /retrieve HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\n")
        client.sendall(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert client.recv(1000).startswith(
            b"HTTP/1.1 100 "
        )  # a worker has begun with it and waits for the body
    server.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # so that the server, if it is quick, has seen the signal before the bodies
    for client in clients:
        client.sendall(body)
        with client, contextlib.closing(http.client.HTTPResponse(client, method="POST")) as reply:
            reply.begin()
            assert len(json.loads(reply.read())["result"]) == 50
    server.process.communicate(timeout=60)
    assert server.process.returncode == 0


def test_an_index_replaced_under_a_running_server_changes_nothing_until_it_is_told(
    root: Path, processes: list[Process], tmp_path: Path
) -> None:
    index = tmp_path / "index"
    build(index)
    server = start(root, processes, index, "workers=2")
    server.wait_until_mapped(index, num_workers=2)
    before = server.search("town 7")
    build(index, [Passage("new", "Town 7", "Built anew.")])
    assert [server.search("town 7") for _ in range(20)] == [before] * 20
    server.process.send_signal(signal.SIGHUP)
    for _ in range(1200):
        found = server.search("town 7")  # never refused while workers take turns
        if found[0][0]["id"] == "new":
            break
        time.sleep(0.05)
    assert found[0][0]["contents"] == '"Town 7"\nBuilt anew.'


def test_mistakes_end_with_a_clear_error(
    root: Path,
    processes: list[Process],
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(root)
    taken = start(root, processes, index).url.rpartition(":")[2]
    for arguments, message in (
        ([f"index={tmp_path}/none"], "coa search index"),
        ([f"index={index}", f"port={taken}"], "cannot listen"),
        ([f"index={index}", "host=nowhere.invalid"], "cannot listen"),
        ([f"index={index}", "workers=0"], "serve.workers"),
        ([f"index={index}", "limits.max_batch=0"], "serve.limits.max_batch"),
        ([f"index={index}", "default_dialect=klingon"], "one of asearcher"),
    ):
        settings = [item if "limits" not in item else f"serve.{item}" for item in arguments]
        with pytest.raises(CoaError, match=re.escape(message)):
            main(settings)


def test_the_token_comes_from_the_environment(
    root: Path, processes: list[Process], index: Path
) -> None:
    server = start(root, processes, index, **{TOKEN_VARIABLE: "s3cret"})
    with pytest.raises(urllib.error.HTTPError, match="401"):
        server.search("town")
    _, out, err = server.stop()
    assert "s3cret" not in out + err + server.first_line


def test_workers_end_when_their_supervisor_is_killed(
    root: Path, processes: list[Process], index: Path
) -> None:
    server = start(root, processes, index, "workers=2")
    server.process.kill()
    server.process.communicate(timeout=60)  # the pipes end when the last worker does
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        server.get("/health")


# --- attacks: what a client may cost


NUM_DESCRIPTORS = 256
ASK = b"POST /retrieve HTTP/1.1\r\nHost: x\r\n"
SMALL = b'{"queries": ["town 7"]}'
WHOLE = ASK + b"Content-Length: %d\r\n\r\n" % len(SMALL) + SMALL


def limit_descriptors(server: Process, number: int) -> None:
    pid = server.process.pid
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (number, hard))


def answers_in_time(server: Process, times: int = 10) -> None:
    for _ in range(times):
        began = time.monotonic()
        assert server.search("town 7")[0][0]["id"] == "0007"
        assert time.monotonic() - began < 2


@contextlib.contextmanager
def open_connections(server: Process, number: int, sent: bytes) -> Iterator[None]:
    """So many connections on which no more than `sent` is ever sent."""
    clients = []
    try:
        for _ in range(number):
            clients.append(socket.create_connection(server.address, timeout=60))
            with contextlib.suppress(ConnectionError):
                clients[-1].sendall(sent)
        yield
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        ASK,
        ASK + b"Content-Length: 1000\r\n\r\n{",
        ASK + b"Content-Length: 3800000\r\n\r\n{",
        WHOLE,
    ],
    ids=["silent", "slow head", "slow body", "slow large body", "idle"],
)
def test_more_idle_connections_than_descriptors_do_not_stop_the_server(
    root: Path, processes: list[Process], index: Path, sent: bytes
) -> None:
    with few_descriptors():
        server = start(root, processes, index, "serve.limits.idle_seconds=600")
    answers_in_time(server)
    with open_connections(server, 300, sent):
        answers_in_time(server)
        with open_connections(server, 300, sent):
            answers_in_time(server)
    code, _, err = server.stop()
    assert (code, "Traceback" in err) == (0, False), err


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    """Processes started meanwhile may open few files."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (NUM_DESCRIPTORS, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_server_that_runs_out_of_descriptors_goes_on_when_there_are_some_again(
    root: Path, processes: list[Process], index: Path
) -> None:
    server = start(root, processes, index)
    in_use = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    limit_descriptors(server, in_use + 5)
    with open_connections(server, 50, WHOLE):
        time.sleep(1)
    limit_descriptors(server, 1000)
    time.sleep(1)
    answers_in_time(server)


def resident_megabytes(server: Process) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(kilobytes) / 1024


def test_many_large_bodies_at_once_cost_little_memory(
    root: Path, processes: list[Process], index: Path
) -> None:
    server = start(root, processes, index)
    large = json.dumps({"queries": ["town 7"], "padding": "x" * 3_800_000}).encode()
    request = ASK + b"Content-Length: %d\r\n\r\n" % len(large) + large
    before = most = resident_megabytes(server)
    statuses = []

    def send(_: int) -> bytes:
        with socket.create_connection(server.address, timeout=60) as client:
            client.sendall(request[:-1])
            together.wait()
            client.sendall(request[-1:])
            return client.recv(1000)[:12]

    together = threading.Barrier(151)
    with ThreadPoolExecutor(150) as clients:
        sending = clients.map(send, range(150))
        while together.n_waiting < 150:
            most = max(most, resident_megabytes(server))
            answers_in_time(server, 1)
        together.wait()
        statuses = list(sending)
    print(f"private memory: {before:.0f} MB before, {most:.0f} MB at most; {Counter(statuses)}")
    assert set(statuses) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
    assert most - before < 150
    answers_in_time(server)
