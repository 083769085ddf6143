"""The Redis inside Argilla's server, spoken to as a client speaks to Redis.

`make test-full` runs it, in the server's environment, which is installed on first use.
"""

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotate.environment import server_python

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]
SERVE = """
import sys
from annotate.embedded.process import start_redis
print(start_redis(sys.argv[1]), flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def path(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The file of its socket."""
    folder = tmp_path_factory.mktemp("redis")
    command = [str(server_python()), "-c", SERVE, str(folder)]
    with subprocess.Popen(
        command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == f"unix://{folder}/redis?db=0\n"
        yield f"{folder}/redis"
        process.stdin.close()


@contextlib.contextmanager
def connected(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(path)
        yield client


def ask(client: socket.socket, *commands: str) -> list[str]:
    """One line of reply for each command; all are sent before the first is read."""
    client.sendall(
        "".join(f"*1\r\n${len(command)}\r\n{command}\r\n" for command in commands).encode()
    )
    with client.makefile(newline="\r\n") as replies:
        return [replies.readline().strip() for _ in commands]


def test_a_connection_outlives_an_error(path: str) -> None:
    # A new queue asks for INFO, which fakeredis does not know, and then sends its first job on the
    # same connection.
    with connected(path) as client:
        for _ in range(20):
            error, *others = ask(client, "INFO", "PING", "PING")
            assert error.startswith("-ERR unknown command 'info'")
            assert others == ["+PONG", "+PONG"]


def test_many_clients_may_come_at_once(path: str) -> None:
    replies: list[str] = []
    start = threading.Barrier(60)

    def come() -> None:
        start.wait()
        with connected(path) as client:
            replies.extend(ask(client, "PING"))

    threads = [threading.Thread(target=come) for _ in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == ["+PONG"] * 60
