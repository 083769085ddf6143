"""Test the search server over real sockets.

Every dialect's requests and replies are tested, and limits, refusals and hostile bytes.
"""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coa.search.app import Serving
from coa.search.connections import RequestLimits
from coa.search.settings import Dialect
from coa.search.wire import SPELLINGS
from tests.search_server_support import (
    ENGINE,
    POST,
    RHINE,
    WALTZ,
    connect,
    is_refusal,
    read_to_the_end,
)

LIMITS = RequestLimits(
    max_query_chars=2000, max_batch=20, max_top_k=50, max_body_bytes=100_000, max_waiting=40
)
WALTZ_DOCUMENT = {"id": "p2", "contents": '"The "Blue" Danube"\nA waltz\nby Strauss.'}
RHINE_DOCUMENT = {"id": RHINE.id, "contents": '"Rhine"\nAnother river.'}
(WALTZ_HIT,) = ENGINE.find("waltz", 1)
(RHINE_HIT,) = ENGINE.find("rhine", 1)
WALTZ_SCORE, RHINE_SCORE = WALTZ_HIT.score, RHINE_HIT.score
SCORED = {"document": WALTZ_DOCUMENT, "score": WALTZ_SCORE}
SCORED_RHINE = {"document": RHINE_DOCUMENT, "score": RHINE_SCORE}
FLASHRAG = {"documents": [WALTZ_DOCUMENT], "scores": [WALTZ_SCORE]}
FLASHRAG_RHINE = {"documents": [RHINE_DOCUMENT], "scores": [RHINE_SCORE]}


@pytest.fixture(scope="module")
def server(served_search: Any) -> Iterator[Any]:
    with served_search(ENGINE, Serving(threads=2, limits=LIMITS)) as running:
        yield running


# The requests and replies of PROTOCOLS, by dialect: path, body, reply.
EXCHANGES: list[tuple[Dialect, str, dict[str, Any], Any]] = [
    (Dialect.FLASHRAG, "/retrieve", {"query": "waltz", "tok_k": 3, "return_score": True}, FLASHRAG),
    (
        Dialect.FLASHRAG,
        "/retrieve",
        {"query": "waltz", "return_score": False},
        {"documents": [WALTZ_DOCUMENT]},
    ),
    (
        Dialect.FLASHRAG,
        "/retrieve",
        {"query": ["waltz", "rhine"], "top_k": 1, "return_score": True},
        [FLASHRAG, FLASHRAG_RHINE],
    ),
    (
        Dialect.RECALL,
        "/search",
        {"query": "waltz", "top_n": 10, "return_score": False},
        [WALTZ_DOCUMENT],
    ),
    (
        Dialect.RECALL,
        "/search",
        {"query": "waltz", "top_n": 10, "return_score": True},
        [[WALTZ_DOCUMENT], [WALTZ_SCORE]],
    ),
    (
        Dialect.RECALL,
        "/batch_search",
        {"query": ["waltz", "rhine"], "top_n": 1, "return_score": True},
        [[[WALTZ_DOCUMENT], [RHINE_DOCUMENT]], [[WALTZ_SCORE], [RHINE_SCORE]]],
    ),
    (
        Dialect.RECALL,
        "/batch_search",
        {"query": ["waltz", "zymurgy"], "top_n": 1},
        [[WALTZ_DOCUMENT], []],
    ),
    (
        Dialect.SEARCH_R1,
        "/retrieve",
        {"queries": ["waltz", "rhine"], "topk": 3, "return_scores": True},
        {"result": [[SCORED], [SCORED_RHINE]]},
    ),
    (
        Dialect.SEARCH_R1,
        "/retrieve",
        {"queries": ["waltz"], "topk": 3},
        {"result": [[WALTZ_DOCUMENT]]},
    ),
    (
        Dialect.SKYRL,
        "/retrieve",
        {"query": "waltz", "topk": 3, "return_scores": True},
        {"result": [[SCORED]]},
    ),
    (
        Dialect.ASEARCHER,
        "/retrieve",
        {"queries": ["waltz"], "topk": 5, "return_scores": True},
        {"result": [[{"document": WALTZ_DOCUMENT | {"url": "passage:p2"}, "score": WALTZ_SCORE}]]},
    ),
    (
        Dialect.R1_SEARCHER,
        "/queries",
        {"queries": ["waltz", "rhine"], "k": 5},
        {"answers": [[WALTZ_DOCUMENT["contents"]], [RHINE_DOCUMENT["contents"]]]},
    ),
    (
        Dialect.OPENRESEARCHER,
        "/search",
        {"query": "waltz", "topn": 10},
        {"results": [{"url": "passage:p2", "title": WALTZ.title, "summary": WALTZ.text}]},
    ),
    (
        Dialect.OPENRESEARCHER,
        "/get_content",
        {"url": RHINE.id},
        {"url": RHINE.id, "title": "Rhine", "content": "Another river."},
    ),
    (
        Dialect.ASEARCHER,
        "/access",
        {"urls": ["passage:p2", "nowhere", RHINE.id]},
        {
            "result": [
                {"url": "passage:p2", "contents": WALTZ_DOCUMENT["contents"]},
                None,
                {"url": RHINE.id, "contents": RHINE_DOCUMENT["contents"]},
            ]
        },
    ),
]


@pytest.mark.parametrize(("dialect", "path", "body", "reply"), EXCHANGES)
def test_a_dialect_answers_on_its_own_path_and_on_the_bare_one(
    server: Any, dialect: Dialect, path: str, body: Any, reply: Any
) -> None:
    shared = path == "/retrieve" and dialect is Dialect.ASEARCHER
    for where in (f"/{dialect}{path}",) if shared else (f"/{dialect}{path}", path):
        status, got, headers = server.send(where, body)
        assert (status, got) == (200, reply), where
        assert headers["x-search-fingerprint"] == ENGINE.fingerprint


@pytest.mark.parametrize(
    ("default", "path", "body", "key"),
    [
        (Dialect.SKYRL, "/retrieve", {"query": "waltz"}, "result"),
        (Dialect.FLASHRAG, "/retrieve", {"query": "waltz", "top_k": 3}, "documents"),
        (Dialect.SEARCH_R1, "/retrieve", {"query": "waltz"}, "documents"),
        (Dialect.ASEARCHER, "/retrieve", {"queries": ["waltz"]}, "url"),
        (Dialect.SEARCH_R1, "/retrieve", {"queries": ["waltz"]}, "result"),
        (Dialect.OPENRESEARCHER, "/search", {"query": "waltz"}, "results"),
        (Dialect.RECALL, "/search", {"query": "waltz"}, "contents"),
    ],
)
def test_the_default_dialect_decides_where_nothing_tells_them_apart(
    served_search: Any, default: Dialect, path: str, body: Any, key: str
) -> None:
    with served_search(ENGINE, Serving(default_dialect=default)) as running:
        status, reply, _ = running.send(path, body)
    assert status == 200
    assert f'"{key}"' in json.dumps(reply)


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "path", ["/flashrag/retrieve", "/skyrl/retrieve", "/recall/search", "/openresearcher/search"]
)
def test_every_spelling_of_top_k_is_understood_everywhere(
    server: Any, path: str, spelling: str
) -> None:
    counts = [
        json.dumps(server.send(path, {"query": "river", spelling: k})[1]).count("river")
        for k in (1, 2)
    ]
    assert counts[0] < counts[1]
    if path == "/skyrl/retrieve" and spelling == "topk":
        # Of spellings that disagree, the first in the list counts.
        body = {"query": "river", "topk": 1, "top_k": 2}
        assert len(server.send(path, body)[1]["result"][0]) == 2


def test_a_blank_query_is_a_400_for_one_search_and_finds_nothing_in_the_other_dialects(
    server: Any,
) -> None:
    for path in ("/search", "/recall/search", "/openresearcher/search"):
        assert server.send(path, {"query": " \n"})[0] == 400
    assert server.send("/search_r1/retrieve", {"queries": ["", "waltz"]})[1] == {
        "result": [[], [WALTZ_DOCUMENT]]
    }
    assert server.send("/recall/batch_search", {"query": []})[1] == []


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"queries": ["x" * 2001]}, 422, "characters in a query: at most 2,000, got 2,001"),
        ({"queries": ["x"] * 21}, 422, "queries in one request: at most 20, got 21"),
        ({"queries": ["x"], "topk": 51}, 422, "top_k: at most 50, got 51"),
        ({"queries": ["x"], "topk": 0}, 422, "topk"),
        ({"queries": ["x"], "topk": "3"}, 422, "topk"),
        ({"queries": "x"}, 422, "queries"),
        ({"topk": 3}, 422, "missing required field"),
        (["x"], 422, "Expected `object`"),
        (b"{", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (b"[" * 50_000, 422, "Expected `object`"),
        (b'{"queries": ["\xff"]}', 400, "not JSON"),
        (b" " * 100_001, 413, "too large: at most 100,000 bytes"),
    ],
)
def test_what_cannot_be_answered_is_refused_with_the_reason(
    server: Any, body: object, status: int, detail: str
) -> None:
    for path in ("/search_r1/retrieve", "/retrieve"):
        got, reply, _ = server.send(path, body)
        assert (got, detail in reply["detail"]) == (status, True), reply


def test_an_unknown_page_and_an_unknown_path_are_404(server: Any) -> None:
    assert server.send("/get_content", {"url": "nowhere"})[0] == 404
    assert server.send("/nowhere", {})[:2] == (404, {"detail": "Not Found"})
    assert server.send("/retrieve")[0] == 405


def test_health_says_what_is_served(server: Any) -> None:
    for path in ("/health", "/recall/health"):
        status, reply, _ = server.send(path)
        assert status == 200
        assert (reply["status"], reply["fingerprint"], reply["num_passages"]) == (
            "healthy",
            ENGINE.fingerprint,
            3,
        )


@settings(max_examples=30)
@given(
    st.binary(max_size=200)
    | st.builds(
        lambda body: json.dumps(body).encode(),
        st.dictionaries(
            st.sampled_from(["query", "queries", "topk", "k", "url", "urls", "return_scores"]),
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats()
            | st.text()
            | st.lists(st.text() | st.integers()),
        ),
    )
)
def test_any_bytes_are_answered_or_refused(server: Any, body: bytes) -> None:
    for path in ("/retrieve", "/search", "/batch_search", "/queries", "/access", "/get_content"):
        assert server.send(path, body)[0] < 500


def test_a_client_that_hangs_up_disturbs_nobody(server: Any) -> None:
    where = urlsplit(server.url)
    head = b"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: 60\r\n\r\n"
    for sent in (
        b"",
        b"POST /retr",
        head,
        head + b'{"queries": ["wa',
        head + b'{"queries": ["waltz"]}' + b" " * 38,
    ):
        for _ in range(20):
            with socket.create_connection((where.hostname, where.port)) as client:
                client.sendall(sent)
                client.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
                )  # reset, not a clean end
    assert server.send("/retrieve", {"queries": ["waltz"]})[1] == {"result": [[WALTZ_DOCUMENT]]}
    deadline = (
        time.monotonic() + 90
    )  # what was sent whole is still searched for, though nobody waits
    while server.send("/health")[1]["num_waiting"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.send("/health")[1]["num_waiting"] == 0


def test_a_thousand_connections_are_served(server: Any) -> None:
    where = urlsplit(server.url)
    body = b'{"queries": ["waltz"]}'
    request = b"POST /retrieve HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    clients = [
        socket.create_connection((where.hostname, where.port), timeout=60) for _ in range(1000)
    ]
    try:
        for client in clients[::20]:  # the others only stand there
            client.sendall(request)
        replies = [client.recv(65536) for client in clients[::20]]
        assert all(reply.startswith((b"HTTP/1.1 200", b"HTTP/1.1 429")) for reply in replies)
        clients[-1].sendall(request)
        assert clients[-1].recv(65536).startswith(b"HTTP/1.1 200")
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("request_", [b"GET /" + b"x" * 10_000_000, POST + b"X: y\r\n" * 1_000_000])
def test_a_head_without_an_end_is_refused(server: Any, request_: bytes) -> None:
    client = connect(server)
    began = time.monotonic()
    with suppress(ConnectionError):  # it may be closed before the refusal is read
        client.sendall(request_)
        assert read_to_the_end(client).startswith(b"HTTP/1.1 431")
    client.close()
    assert time.monotonic() - began < LIMITS.head_seconds / 2
    assert server.send("/retrieve", {"queries": ["waltz"]})[0] == 200


def test_what_is_not_http_is_refused_like_everything_else(server: Any) -> None:
    client = connect(server)
    client.sendall(b"nonsense\r\n\r\n")
    received = read_to_the_end(client)
    assert received.startswith(b"HTTP/1.1 400")
    assert is_refusal(received, ENGINE.fingerprint)
