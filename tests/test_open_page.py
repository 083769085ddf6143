"""Read web pages: their text, what cannot be read, and no private address."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from coa.records.trajectory import Outcome
from coa.tools import ToolReply
from coa.tools.fetching import is_own
from coa.tools.open_page import OpenTool, PageReader, UnreadableError
from coa.tools.settings import FetchLimits, OpenSettings
from tests.page_support import (
    open_page,
)

HTML = """<!doctype html><html><head><title>The  Danube</title><script>alert(1)</script></head>
<body><nav>Home</nav>
<p>The Danube is a <b>river</b>.</p><p hidden>Ignore me.</p>\
<p>It is &lt;long&gt;.</p></body></html>"""


@pytest.fixture(scope="module")
def site(served_app: Any) -> Iterator[str]:
    """A web site on this machine, which counts as private."""

    async def page(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if name == "to-page":
            raise web.HTTPFound("/page")
        if name == "to-metadata":
            raise web.HTTPFound("http://169.254.169.254/latest/meta-data")
        if name == "to":
            raise web.HTTPFound(request.query["url"])
        if name == "cookie":
            reply = web.Response(text="Set.")
            reply.set_cookie("name", "value")
            return reply
        if name == "cookies":
            return web.Response(text=f"Cookies: {dict(request.cookies)}.")
        if name == "loop":
            raise web.HTTPFound("/loop")
        if name == "slow":
            await asyncio.sleep(5)
        if name == "gone":
            raise web.HTTPNotFound
        bodies = {
            "page": HTML,
            "long": "<p>" + "Many words here. " * 100_000,
            "empty": "<html></html>",
            "hidden": "<html hidden><title>T</title><p>Unseen.</html>",
            "no-blanks": "x" * 1_000_000,
        }
        if name == "plain":
            return web.Response(text="Plain\n text.")
        if name == "binary":
            return web.Response(body=b"\0" * 100, content_type="application/pdf")
        if name == "bomb":
            return web.Response(
                body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}, content_type="text/html"
            )
        return web.Response(text=bodies[name], content_type="text/html")

    app = web.Application()
    app.router.add_get("/{name}", page)
    with served_app(app, "localhost") as url:
        yield url


def test_a_page_is_its_title_and_text_and_no_script(site: str) -> None:
    for name in ("page", "to-page"):
        reply = open_page(f"{site}/{name}")
        assert reply == ToolReply(
            Outcome.OK, "The Danube\nThe Danube is a river . It is <long>.", (f"{site}/page",)
        )


def test_plain_text_is_shown_and_other_files_have_none(site: str) -> None:
    assert open_page(f"{site}/plain").text == "Plain text."
    assert open_page(f"{site}/binary").outcome is Outcome.EMPTY
    assert open_page(f"{site}/empty").outcome is Outcome.EMPTY


def test_a_long_page_is_read_and_shown_no_further_than_allowed(site: str) -> None:
    reply = open_page(f"{site}/long", max_words=10, max_bytes=1000)
    assert reply.text == "Many words here. Many words here. Many words here."


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone", "status 404"),
        ("loop", "more than 5 redirects"),
        ("bomb", "compressed"),
        ("slow", "no page within 0.5"),
    ],
)
def test_a_page_that_cannot_be_read_is_an_error_and_no_observation(
    site: str, name: str, reason: str
) -> None:
    reply = open_page(f"{site}/{name}", timeout_seconds=0.5, max_per_second=0)
    assert (reply.outcome, reason in reply.text) == (Outcome.ERROR, True), reply


HERE = (
    "127.0.0.1",
    "１２７.０.０.１",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "127.0.0.1.",
    "１２７．０．０．１．",
    "127.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "[fe80::1%25eth0]",
    "localhost",
    "LOCALHOST.",
    "ⓛocalhost",
    "169.254.169.254",
    "10.0.0.1",
    "127%2e0%2e0%2e1",
)
"""Ways to name this machine or its network; each ends here where it is not refused."""


@pytest.mark.parametrize("host", HERE)
def test_no_spelling_of_a_private_address_is_connected_to(site: str, host: str) -> None:
    url = f"http://{host}:{site.rpartition(':')[2]}/page"
    redirected = f"{site}/to?url={quote(url)}"
    for reply in (open_page(url, is_private_allowed=False), open_redirect(redirected, host)):
        assert reply.outcome in (Outcome.INVALID, Outcome.ERROR), reply
        assert "Danube" not in reply.text


def open_redirect(url: str, host: str) -> ToolReply:
    """Open an address that redirects; only the host that redirects may be private."""
    is_same = host.lower().rstrip(".") in ("localhost", "ⓛocalhost")
    return ToolReply(Outcome.INVALID, "") if is_same else open_page(url)


def test_a_refused_address_is_told_to_the_policy(site: str) -> None:
    port = site.rpartition(":")[2]
    for url in (
        f"http://１２７.０.０.１:{port}/page",
        f"{site}/page",
        "http://169.254.169.254/latest",
    ):
        reply = open_page(url, is_private_allowed=False)
        expected = "The page cannot be opened: private addresses are not opened."
        assert reply == ToolReply(Outcome.INVALID, expected)
    assert "private addresses" in open_page(f"{site}/to-metadata").text


def test_not_one_byte_reaches_a_private_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        for host in HERE:
            open_page(f"http://{host}:{port}/", is_private_allowed=False)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_the_machines_own_addresses_are_known() -> None:
    assert is_own(socket.AF_INET, ("127.0.0.1", 80))
    assert is_own(socket.AF_INET6, ("::1", 80, 0, 0)) or not socket.has_ipv6
    assert not is_own(socket.AF_INET, ("192.0.2.1", 80))


def test_lookups_of_names_wait_for_no_other_threads(site: str) -> None:
    """The other way round, names that hang would hold up the searches on those threads."""

    async def call() -> ToolReply:
        is_over = threading.Event()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        busy = asyncio.create_task(asyncio.to_thread(is_over.wait))
        tool = OpenTool(OpenSettings(fetch=FetchLimits(private_hosts=("localhost",))))
        try:
            return await tool.call(f"{site}/plain")
        finally:
            is_over.set()
            await busy
            await tool.aclose()

    assert asyncio.run(call()).outcome is Outcome.OK


def test_no_cookie_is_kept_from_one_page_to_the_next(site: str) -> None:
    async def call() -> str:
        tool = OpenTool(OpenSettings(fetch=FetchLimits(private_hosts=("localhost",))))
        try:
            await tool.call(f"{site}/cookie")
            return (await tool.call(f"{site}/cookies")).text
        finally:
            await tool.aclose()

    assert asyncio.run(call()) == "Cookies: {}."


def test_a_page_that_is_hidden_as_a_whole_has_no_text(site: str) -> None:
    assert open_page(f"{site}/hidden").outcome is Outcome.EMPTY


def test_a_page_without_blanks_is_shown_no_further_than_others(site: str) -> None:
    assert len(open_page(f"{site}/no-blanks", max_words=10).text) < 250


async def longest_pause(work: Awaitable[object]) -> float:
    """The longest time for which the event loop did nothing else while `work` was done."""
    task = asyncio.ensure_future(work)
    longest, last = 0.0, time.monotonic()
    while not task.done():
        await asyncio.sleep(0.005)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    await task
    return longest


HOSTILE_PAGES = {
    "nested": b"<nav>" * 60_000,
    "unfolding": b"<p>" + b"".join(b"<b a=%d>" % i for i in range(3000)) + b"<p>x" * 3000,
    "attributes": b"<p " + b" ".join(b"a%d=1" % i for i in range(100_000)) + b">",
    "foreign": b"<svg>" * 100_000 + b"</x>" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE_PAGES)
def test_a_page_that_costs_too_much_is_given_up_and_holds_nobody_up(name: str) -> None:
    async def read() -> tuple[str, str]:
        reader = PageReader(timeout_seconds=2)
        started = time.monotonic()
        try:
            with pytest.raises(UnreadableError):
                await read_page(reader, HOSTILE_PAGES[name])
            assert time.monotonic() - started < 5
            return await read_page(reader, b"<title>T</title><p>Still here.")
        finally:
            await reader.aclose()

    async def read_page(reader: PageReader, body: bytes) -> tuple[str, str]:
        return await reader.read(body, is_html=True, max_words=10, max_chars=100)

    async def check() -> None:
        pages: list[tuple[str, str]] = []

        async def keep() -> None:
            pages.append(await read())

        assert await longest_pause(keep()) < 1
        assert pages == [("T", "Still here.")]

    asyncio.run(check())


def test_what_a_server_sends_is_a_page_or_an_error(reply_bytes: list[bytes]) -> None:
    for raw in reply_bytes:
        assert raw_reply(raw).outcome in (Outcome.OK, Outcome.EMPTY, Outcome.ERROR, Outcome.INVALID)


@pytest.fixture
def reply_bytes() -> list[bytes]:
    """Replies of a hostile web server, as they are on the wire."""
    ok = b"HTTP/1.1 200 OK\r\n"
    page = b"Content-Type: text/html\r\n"
    found = b"HTTP/1.1 302 Found\r\nLocation: "
    return [
        b"",
        b"\xff" * 99,
        ok,
        ok + b"\r\n",
        ok + b"Content-Length: -1\r\n\r\n",
        b"HTTP/1.1 999 \r\n\r\n",
        ok + b"Content-Length: 99\r\n\r\nx",
        ok + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        ok + b"Content-Type: /;;=\xff\r\n\r\nx",
        ok + page + b"\r\n\xff\xfe\0",
        ok + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ok + b"Set-Cookie: \xff=;;\r\n\r\n",
        found + b"\xff\xfe\r\n\r\n",
        found + b"http://[\r\n\r\n",
        found + b"http://a:b\r\n\r\n",
        found + b"//\r\n\r\n",
        found + b"http://xn--/\r\n\r\n",
        found + b"\r\n\r\n",
        found + b"http://" + b"a" * 300 + b"/\r\n\r\n",
        found + b"file:///etc/passwd\r\n\r\n",
    ]


def raw_reply(raw: bytes) -> ToolReply:
    """What the tool makes of a page whose server sends `raw` and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        writer.close()

    async def call() -> ToolReply:
        limits = FetchLimits(private_hosts=("localhost",), timeout_seconds=2, max_per_second=0)
        tool = OpenTool(OpenSettings(fetch=limits))
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            try:
                return await tool.call(f"http://localhost:{port}/")
            finally:
                await tool.aclose()

    return asyncio.run(call())
