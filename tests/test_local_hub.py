"""The local Hub against hostile names, bodies and headers: nothing outside its folder, no 5xx."""

import base64
import hashlib
import http.client
import json
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest
import uvicorn

from coa.errors import InputError
from data_cards.hub_server.store import Store
from data_cards.local_hub import LocalHubParams, create_app, start_line

TOKEN = "hf_for_this_test_alone"
SECRET = "what nobody may read"
ESCAPES = (
    "../../../../evil",
    "..",
    ".",
    "/etc/shadow",
    "/etc/passwd",
    "a/../../b",
    "%2e%2e/%2e%2e/evil",
    "..\\..\\evil",
    "evil\x00",
    "evil\n",
    "a//b",
    "",
    " ",
    "-",
    "x" * 5_000,
    "é" * 300,
    "\ud800",
    "\u202e",
    "me",
    "me/a/b",
    "con.git",
    "a--b",
    "~root",
    "$(id)",
    "file:///etc/passwd",
    "outside.txt",
    "../outside.txt",
    "contents/../../outside.txt",
)
VALUES: tuple[Any, ...] = (
    None,
    0,
    -1,
    1.5,
    2**80,
    True,
    [],
    {},
    [[]],
    {"a": {}},
    "x",
    [None],
    {"key": 1},
    *ESCAPES[:6],
)
BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b"{}" * 50,
    b"[" * 100_000,
    b'{"a":' * 20_000,
    b"\x00",
    b'{"key": "header"}',
    b'{"key": "header", "value": null}',
    b'{"key": "nothing", "value": {}}\n{}',
    b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"path":"a","content":"***"}}',
    b'{"key":"header","value":{"summary":"x"}}\n{"key":"header","value":{"summary":"x"}}',
    b'{"content": "---\\n? [a\\n---\\n"}',
    b'{"content": "---\\na: 2001-99-99\\n---\\n"}',
    b'{"content": "---\\n' + b"[" * 5_000 + b'\\n---\\n"}',
    b"paths=%ff%fe&paths=..",
    b"&" * 10_000,
)


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: bytes
    cookie: str = ""


class Server:
    """A local Hub in a thread, asked without a client that would mend what is sent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        app = create_app(LocalHubParams(str(folder), owner="me", token=TOKEN))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def send(
        self,
        method: str,
        path: str,
        body: Any = b"",
        token: str = TOKEN,
        host: str | None = None,
        cookie: str = "",
    ) -> Reply:
        """One request, its path as it is; anything but bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Host": f"127.0.0.1:{self.port}" if host is None else host}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if cookie:
            headers["Cookie"] = cookie
        try:
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            return Reply(reply.status, reply.read(), reply.getheader("Set-Cookie", ""))
        finally:
            connection.close()

    def create(self, name: str = "coa", **more: Any) -> Reply:
        return self.send("POST", "/api/repos/create", {"name": name, "type": "dataset", **more})

    def commit(self, *lines: Any) -> Reply:
        parts = [{"key": "header", "value": {"summary": "x"}}, *lines]
        body = "\n".join(json.dumps(part) for part in parts).encode()
        return self.send("POST", "/api/datasets/me/coa/commit/main", body)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    around = tmp_path_factory.mktemp("around")
    (around / "outside.txt").write_text(SECRET)
    made = Server(around / "hub")
    assert made.create().status == 200
    yield made
    made.close()


@pytest.fixture(autouse=True)
def stays_inside(server: Server) -> Iterator[None]:
    """After each test the folder holds what it may, and its surroundings are as they were."""
    yield
    around = server.folder.parent
    assert sorted(path.name for path in around.iterdir()) == ["hub", "outside.txt"]
    assert (around / "outside.txt").read_text() == SECRET
    assert sorted(path.name for path in server.folder.iterdir()) == ["contents", "repositories"]
    for path in (server.folder / "contents").iterdir():
        assert re.fullmatch(r"[0-9a-f]{64}", path.name), path
    for path in (server.folder / "repositories").rglob("*"):
        inside = path.relative_to(server.folder / "repositories").as_posix()
        assert re.fullmatch(r"(dataset|model)(/me(/[\w.-]+\.json)?)?", inside), path


@pytest.mark.parametrize("name", ESCAPES)
def test_a_repository_has_a_name_that_the_hub_would_take(server: Server, name: str) -> None:
    good = name in ("con", "me", "outside.txt")
    for body in ({"name": name}, {"name": "x", "organization": name}, {"name": "x", "type": name}):
        reply = server.send("POST", "/api/repos/create", body)
        assert reply.status in (400, 403) or good or (not name and reply.status in (200, 409))


@pytest.mark.parametrize("oid", [*ESCAPES, "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 64 + "\n"])
def test_contents_are_named_by_a_hash_and_nothing_else(server: Server, oid: str) -> None:
    line = {"key": "lfsFile", "value": {"path": "a.bin", "algo": "sha256", "oid": oid, "size": 20}}
    assert server.commit(line).status == 400
    batch = {"objects": [{"oid": oid, "size": 20}]}
    assert server.send("POST", "/datasets/me/coa.git/info/lfs/objects/batch", batch).status == 400
    reply = server.send("PUT", f"/lfs/{quote(oid.encode('utf-8', 'replace'), safe='')}", b"x")
    assert reply.status in (403, 404)


@pytest.mark.parametrize("path", [*ESCAPES[:6], *ESCAPES[7:12], "a/.git/config", "a/", "x" * 2_000])
def test_a_file_stays_inside_wherever_it_is_downloaded_to(server: Server, path: str) -> None:
    line = {"key": "file", "value": {"path": path, "content": "eA==", "encoding": "base64"}}
    assert server.commit(line).status == 400
    asked = {"files": [{"path": path, "sample": "", "size": 1}]}
    assert server.send("POST", "/api/datasets/me/coa/preupload/main", asked).status == 400


@pytest.mark.parametrize("tag", [*ESCAPES[:12], "main", "a/b", "x" * 101])
def test_a_tag_can_stand_in_an_address(server: Server, tag: str) -> None:
    assert server.send("POST", "/api/datasets/me/coa/tag/main", {"tag": tag}).status == 400


def test_what_writes_wants_the_token(server: Server) -> None:
    content = b"some large contents"
    oid = hashlib.sha256(content).hexdigest()
    requests: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/api/repos/create", {"name": "other"}),
        ("POST", "/api/datasets/me/coa/preupload/main", {"files": []}),
        ("POST", "/api/datasets/me/coa/commit/main", {"key": "header", "value": {"summary": "x"}}),
        ("POST", "/api/datasets/me/coa/tag/main", {"tag": "v1"}),
        ("POST", "/datasets/me/coa.git/info/lfs/objects/batch", {"objects": []}),
        ("PUT", f"/lfs/{oid}", content),
        ("PUT", f"/lfs/{oid}?size={len(content)}&signature={'0' * 64}", content),
        ("PUT", f"/lfs/{oid}?size=x&signature=%ff", content),
    )
    for token in ("", "wrong", "é"):
        for method, path, body in requests:
            assert server.send(method, path, body, token).status in (401, 403), path
    assert not (server.folder / "contents" / oid).exists()


def test_an_address_takes_what_was_announced_and_nothing_else(server: Server) -> None:
    content = b"these contents were announced"
    oid = hashlib.sha256(content).hexdigest()
    batch = {"objects": [{"oid": oid, "size": len(content)}]}
    reply = server.send("POST", "/datasets/me/coa.git/info/lfs/objects/batch", batch)
    address = urlsplit(json.loads(reply.body)["objects"][0]["actions"]["upload"]["href"])
    there = f"{address.path}?{address.query}"
    assert server.send("PUT", there, content + b"more", "").status == 413
    assert server.send("PUT", there, b"others", "").status == 400
    assert not (server.folder / "contents" / oid).exists()
    assert server.send("PUT", there.replace("size=", "size=9"), content, "").status == 403
    assert server.send("PUT", there, content, "").status == 200
    assert (server.folder / "contents" / oid).read_bytes() == content
    value = {"path": "a.bin", "algo": "sha256", "oid": oid, "size": len(content) + 1}
    assert server.commit({"key": "lfsFile", "value": value}).status == 400


def test_only_the_names_of_this_machine_are_answered(server: Server) -> None:
    for name in ("127.0.0.1", "localhost", "LOCALHOST", "[::1]"):
        host = f"{name}:{server.port}"
        assert server.send("GET", "/api/whoami-v2", host=host).status == 200, host
    others = (
        "evil.example",
        f"evil.example:{server.port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "",
        "x" * 999,
    )
    for host in others:
        assert server.send("GET", "/api/whoami-v2", host=host).status in (400, 421), host


def test_the_first_line_names_the_account_under_which_one_can_publish() -> None:
    assert start_line(LocalHubParams()).endswith("# repository=local/NAME")
    assert start_line(LocalHubParams(owner="me")).endswith("# repository=me/NAME")


def test_the_folder_is_private(server: Server) -> None:
    for folder in (server.folder, server.folder / "contents", server.folder / "repositories"):
        assert folder.stat().st_mode & 0o777 == 0o700
    for path in (server.folder / "repositories").rglob("*.json"):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_repository_that_was_tampered_with_is_named(tmp_path: Path) -> None:
    path = tmp_path / "repositories/dataset/me/coa.json"
    Store(tmp_path).create("dataset", "me/coa", private=False)
    found = json.loads(path.read_text())
    file = {"size": 1, "sha256": "/etc/shadow", "git_oid": "", "is_lfs": True}
    found["commits"][0]["files"] = {"a": file}
    for content in (json.dumps(found), "", "[]"):
        path.write_text(content)
        with pytest.raises(InputError, match=r"coa\.json is not a repository"):
            Store(tmp_path)


def requests_of(draw: random.Random, number: int) -> Iterator[tuple[str, str, Any]]:
    """Hostile requests, most of them nearly right."""
    revisions = ("main", "v1", "refs%2Fheads%2Fmain", "0" * 40, *map(hostile, ESCAPES))
    repositories = ("me/coa", "me/none", "you/coa", *(f"me/{hostile(it)}" for it in ESCAPES))
    ends = (
        "",
        "/revision/{}",
        "/refs",
        "/commits/{}",
        "/tree/{}",
        "/tree/{}/a",
        "/paths-info/{}",
        "/preupload/{}",
        "/commit/{}",
        "/tag/{}",
        ".git/info/lfs/objects/batch",
        "/resolve/{}/a",
        "/resolve/{}/../../x",
    )
    roots = ("/api/datasets/", "/api/models/", "/datasets/", "/", "/lfs/", "/api/repos/create/")
    fixed = ("/api/repos/create", "/api/validate-yaml", "/api/whoami-v2")
    fields = (
        "name",
        "type",
        "organization",
        "content",
        "files",
        "objects",
        "path",
        "oid",
        "size",
        "tag",
        "key",
        "value",
    )
    for _ in range(number):
        end = draw.choice(ends).format(draw.choice(revisions))
        path = draw.choice(
            (draw.choice(roots) + draw.choice(repositories) + end, draw.choice(fixed))
        )
        body = draw.choice(
            (draw.choice(BODIES), {draw.choice(fields): draw.choice(VALUES) for _ in range(4)})
        )
        yield draw.choice(("GET", "POST", "PUT", "HEAD", "DELETE")), path, body


def hostile(text: str) -> str:
    """As part of an address that a socket takes."""
    return quote(text.encode("utf-8", "replace"), safe="/.%$~()\\")[:2_000].replace("\\", "%5C")


def fuzz(server: Server, number: int) -> None:
    for method, path, body in requests_of(random.Random(number), number):
        reply = server.send(method, path, body)
        assert reply.status < 500, (method, path, body, reply)
        assert SECRET.encode() not in reply.body
        assert b"root:" not in reply.body


def test_hostile_requests_are_refused_without_a_fault(server: Server) -> None:
    fuzz(server, 1_000)


@pytest.mark.parametrize("body", BODIES)
def test_malformed_bodies_are_the_clients_fault(server: Server, body: bytes) -> None:
    for path in (
        "/api/repos/create",
        "/api/datasets/me/coa/preupload/main",
        "/api/datasets/me/coa/commit/main",
        "/api/datasets/me/coa/tag/main",
        "/datasets/me/coa.git/info/lfs/objects/batch",
    ):
        assert server.send("POST", path, body).status == 400, path
    assert server.send("POST", "/api/validate-yaml", body).status == 400
    assert server.send("POST", "/api/datasets/me/coa/paths-info/main", body).status == 200


@pytest.mark.long
def test_many_hostile_requests_are_refused_without_a_fault(server: Server) -> None:
    fuzz(server, 20_000)


def test_a_browser_is_shown_a_card_as_text_and_a_private_one_with_its_token_alone(
    server: Server,
) -> None:
    assert server.create("seen", private=True).status == 200
    card = "---\ntitle: x\n---\n\n# Sets\n\n<script>alert(1)</script> [a](javascript:alert(1))\n"
    content = base64.b64encode(card.encode()).decode()
    line = {"key": "file", "value": {"path": "README.md", "content": content, "encoding": "base64"}}
    header = {"key": "header", "value": {"summary": "x"}}
    body = "\n".join(json.dumps(part) for part in (header, line)).encode()
    assert server.send("POST", "/api/datasets/me/seen/commit/main", body).status == 200

    page = server.send("GET", f"/datasets/me/seen?token={TOKEN}", token="")
    assert page.status == 200
    assert b"<h1>Sets</h1>" in page.body
    assert b"README.md" in page.body
    assert b"title: x" not in page.body
    assert b"<script" not in page.body
    assert b'href="javascript' not in page.body
    file = "/datasets/me/seen/resolve/main/README.md"
    assert server.send("GET", file, token="").status == 401
    cookie = page.cookie.partition(";")[0]
    assert server.send("GET", file, token="", cookie=cookie).body == card.encode()
    assert server.send("GET", file, token="", cookie=f"{cookie}x").status == 401
    create = ("POST", "/api/repos/create", {"name": "other", "type": "dataset"})
    assert server.send(*create, token="", cookie=cookie).status == 401, "it writes nothing"
    for path in ("/datasets/me/seen", "/datasets/me/seen?token=wrong", "/datasets/me/nothing"):
        unseen = server.send("GET", path, token="")
        assert unseen.status == 404
        assert b"Sets" not in unseen.body
