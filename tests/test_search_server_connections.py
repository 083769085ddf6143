"""Refuse what is too much or too slow: load, slow clients and replies that nobody reads."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from coa.search import Hit, Passage
from coa.search.app import Serving
from coa.search.connections import RequestLimits
from tests.search_server_support import (
    DANUBE,
    ENGINE,
    POST,
    connect,
    is_refusal,
    read_to_the_end,
)


class SlowFinder:
    """Takes its time, and counts how many it is asked at once."""

    fingerprint, num_passages = "slow", 1

    def __init__(self, seconds: float) -> None:
        self.seconds, self.most, self._now, self._guard = seconds, 0, 0, threading.Lock()

    def find(self, query: str, top_k: int) -> list[Hit]:
        with self._guard:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(self.seconds)
        with self._guard:
            self._now -= 1
        return [Hit(DANUBE, 1.0)]

    def passage(self, passage_id: str) -> Passage | None:
        return None


def test_what_is_too_much_is_refused_with_a_time_to_come_back(served_search: Any) -> None:
    finder = SlowFinder(0.2)
    with served_search(finder, Serving(threads=2, limits=RequestLimits(max_waiting=4))) as running:
        with ThreadPoolExecutor(12) as clients:
            replies = list(
                clients.map(lambda _: running.send("/retrieve", {"queries": ["q"]}), range(12))
            )
        statuses = [status for status, *_ in replies]
        assert set(statuses) == {200, 429}
        assert statuses.count(200) >= 4
        assert all(
            int(headers["retry-after"]) >= 1 for status, _, headers in replies if status == 429
        )
        assert finder.most == 2
        assert running.send("/retrieve", {"queries": ["q"]})[0] == 200


def test_a_batch_larger_than_the_room_is_answered_when_nothing_else_waits(
    served_search: Any,
) -> None:
    with served_search(SlowFinder(0.01), Serving(limits=RequestLimits(max_waiting=4))) as running:
        assert len(running.send("/retrieve", {"queries": ["q"] * 10})[1]["result"]) == 10


def test_a_search_that_takes_too_long_is_given_up(served_search: Any) -> None:
    with served_search(
        SlowFinder(0.5), Serving(limits=RequestLimits(timeout_seconds=0.1))
    ) as running:
        status, reply, headers = running.send("/retrieve", {"queries": ["q"] * 20})
        assert (status, headers["retry-after"]) == (503, "1")
        assert "no answer within 0.1 s" in reply["detail"]
        assert running.send("/health")[0] == 200


def test_without_the_token_only_health_answers(served_search: Any) -> None:
    with served_search(ENGINE, Serving(token="s3cret")) as running:
        body = {"queries": ["waltz"]}
        assert running.send("/retrieve", body)[0] == 401
        assert running.send("/retrieve", body, Authorization="Bearer s3cre")[0] == 401
        assert running.send("/retrieve", body, Authorization="Bearer s3cret")[0] == 200
        assert running.send("/health")[0] == 200
        assert running.send("/nowhere")[0] == 401
    assert "s3cret" not in repr(Serving(token="s3cret"))


IMPATIENT = RequestLimits(head_seconds=0.5, transfer_seconds=0.5, idle_seconds=1)
SLOW_CLIENTS = [
    (b"", b""),
    (POST[:20], b"HTTP/1.1 408"),
    (POST, b"HTTP/1.1 408"),
    (POST + b"Content-Length: 60\r\n\r\n", b"HTTP/1.1 408"),
    (POST + b'Content-Length: 60\r\n\r\n{"queries": [', b"HTTP/1.1 408"),
    (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", b"HTTP/1.1 408"),
    (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200"),
    (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + POST, b"HTTP/1.1 200"),
]


@pytest.mark.parametrize(("sent", "reply"), SLOW_CLIENTS)
def test_a_client_that_does_not_go_on_is_told_so_and_its_connection_is_closed(
    served_search: Any, sent: bytes, reply: bytes
) -> None:
    with served_search(ENGINE, Serving(limits=IMPATIENT)) as running:
        client = connect(running)
        client.sendall(sent)
        began = time.monotonic()
        received = read_to_the_end(client)
        assert time.monotonic() - began < 5
        assert received[:12] == reply
        assert reply != b"HTTP/1.1 408" or is_refusal(received, ENGINE.fingerprint)


def test_bytes_that_come_one_by_one_do_not_prolong_the_time(served_search: Any) -> None:
    with served_search(ENGINE, Serving(limits=IMPATIENT)) as running:
        body = b'{"queries": ["waltz"]}' + b" " * 200
        for request in (POST + b"X: y\r\n" * 50, POST + b"Content-Length: 222\r\n\r\n" + body):
            client = connect(running)
            began = time.monotonic()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                for byte in request:
                    client.sendall(bytes([byte]))
                    time.sleep(0.03)
            client.close()
            assert time.monotonic() - began < 5
            assert running.send("/retrieve", {"queries": ["waltz"]})[0] == 200


def test_line_breaks_between_requests_do_not_keep_a_connection(served_search: Any) -> None:
    with served_search(ENGINE, Serving(limits=IMPATIENT)) as running:
        client = connect(running)
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        began = time.monotonic()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            while time.monotonic() - began < 5:
                client.sendall(b"\r\n")
                time.sleep(0.1)
        client.close()


class LargeFinder:
    """Finds a passage of a megabyte."""

    fingerprint, num_passages = "large", 1

    def find(self, query: str, top_k: int) -> list[Hit]:
        return [Hit(Passage("p1", "Large", "x" * 1_000_000), 1.0)]

    def passage(self, passage_id: str) -> Passage | None:
        return None


def test_a_reply_that_nobody_reads_is_given_up(served_search: Any) -> None:
    body = json.dumps({"queries": ["q"] * 30}).encode()
    request = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with served_search(LargeFinder(), Serving(limits=IMPATIENT)) as running:
        client = connect(running)
        client.sendall(request + request)  # the second waits until the first is read
        time.sleep(2)
        received = bytearray()
        with client, suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                received += part
        assert len(received) < 30_000_000

        client = connect(running)
        client.sendall(request)
        assert len(read_to_the_end(client)) > 30_000_000


def test_replies_that_nobody_reads_cost_bounded_memory(served_search: Any) -> None:
    limits = RequestLimits(max_unread_bytes=60_000_000)
    body = json.dumps({"queries": ["q"] * 20}).encode()
    with served_search(LargeFinder(), Serving(limits=limits)) as running, ExitStack() as opened:
        clients = [opened.enter_context(connect(running)) for _ in range(8)]
        for client in clients:
            client.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        replies = [client.recv(12) for client in clients]
        assert set(replies) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        assert 2 <= replies.count(b"HTTP/1.1 200") <= 4
        assert running.send("/health")[0] == 200


class BrokenFinder:
    """Fails in a way that nobody foresaw."""

    fingerprint, num_passages = "broken", 1

    def find(self, query: str, top_k: int) -> list[Hit]:
        raise ZeroDivisionError("the index is damaged")

    def passage(self, passage_id: str) -> Passage | None:
        raise ZeroDivisionError("the index is damaged")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/retrieve", {"queries": ["q"] * 20}),
        ("/recall/search", {"query": "q"}),
        ("/get_content", {"url": "q"}),
    ],
)
def test_an_engine_that_fails_is_an_error_in_the_form_of_all_others(
    served_search: Any, path: str, body: Any
) -> None:
    with served_search(BrokenFinder(), Serving()) as running:
        for _ in range(2):
            status, reply, headers = running.send(path, body)
            assert (status, headers["x-search-fingerprint"]) == (500, "broken")
            assert "the search failed: ZeroDivisionError" in reply["detail"]
            assert "damaged" not in reply["detail"]
        assert running.send("/health")[1]["num_waiting"] == 0


def test_large_bodies_take_turns_and_small_ones_need_not_wait(served_search: Any) -> None:
    limits = RequestLimits(max_body_bytes=200_000, max_bodies_bytes=300_000)
    head = POST + b"Content-Length: 200000\r\n\r\n"
    large = json.dumps({"queries": ["waltz"]}).encode().ljust(200_000)
    with served_search(ENGINE, Serving(limits=limits)) as running:
        client = connect(running)
        client.sendall(head + large[:1000])
        while (found := running.send("/retrieve", large))[0] != 503:
            assert found[0] == 200  # the first client's head has not been read yet
        _, reply, headers = found
        assert "too many large requests" in reply["detail"]
        assert (headers["retry-after"], headers["x-search-fingerprint"]) == (
            "1",
            ENGINE.fingerprint,
        )
        assert running.send("/retrieve", {"queries": ["waltz"]})[0] == 200
        client.sendall(large[1000:])
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        assert running.send("/retrieve", large)[0] == 200
        client.close()
