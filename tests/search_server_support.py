"""Serve a few documents and speak raw HTTP, for the tests of the search server."""

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from coa.search import Passage
from coa.search.embedded import EmbeddedSearch

DANUBE = Passage("p1", "Danube", "A river through ten countries.")
WALTZ = Passage("p2", 'The "Blue" Danube', "A waltz\nby Strauss.")
RHINE = Passage("http://rivers.example/rhine?a=1", "Rhine", "Another river.")
ENGINE = EmbeddedSearch.in_memory([DANUBE, WALTZ, RHINE])
POST = b"POST /retrieve HTTP/1.1\r\nHost: x\r\n"


def connect(server: Any) -> socket.socket:
    where = urlsplit(server.url)
    return socket.create_connection((where.hostname, where.port), timeout=60)


def read_to_the_end(client: socket.socket) -> bytes:
    received = bytearray()
    with client:
        while part := client.recv(1 << 20):
            received += part
    return bytes(received)


def is_refusal(reply: bytes, fingerprint: str) -> bool:
    head, _, body = reply.partition(b"\r\n\r\n")
    return f"X-Search-Fingerprint: {fingerprint}".encode() in head and "detail" in json.loads(body)
