"""The tools beside search: web pages, MCP servers; and a trajectory that uses three tools."""

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from coa import protocol
from coa.asking import make_task
from coa.drivers import roll_out
from coa.errors import ConfigError, ServiceError
from coa.factory import SearchParams, open_library
from coa.policy.scripted import ScriptedPolicy
from coa.prompts import Prompt
from coa.rollout import Limits, RolloutContext
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.tools import ToolReply, library_fingerprint, tool_fingerprints
from coa.tools.factory import ToolsParams, open_tools
from coa.tools.fetching import AddressError, FetchLimits, is_own, is_public, web_address
from coa.tools.model_context import McpSettings, Parameters, open_mcp_tools, tag_name
from coa.tools.open_page import OpenSettings, OpenTool
from coa.tools.page_reader import PageReader, UnreadableError
from coa.trajectory import Mode, Outcome, Sampling, StepKind, StopReason, Trajectory

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


def open_page(
    url: str, *, is_private_allowed: bool = True, max_words: int = 100, **limits: float
) -> ToolReply:
    hosts = ("localhost",) if is_private_allowed else ()
    fetch = FetchLimits(private_hosts=hosts, **limits)  # type: ignore[arg-type]

    async def call() -> ToolReply:
        tool = OpenTool(OpenSettings(max_words=max_words, fetch=fetch))
        try:
            return await tool.call(url)
        finally:
            await tool.aclose()

    return asyncio.run(call())


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


@pytest.mark.parametrize(
    "url",
    [
        "",
        "danube",
        "file:///etc/passwd",
        "ftp://a.example",
        "http://u:p@a.example/",
        "http://",
        "http://a.example/ b",
        "http://[",
        "http://a:b",
        "http://a.example/" + "x" * 2000,
    ],
)
def test_what_is_no_web_address_is_invalid(url: str) -> None:
    assert open_page(url).outcome is Outcome.INVALID


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("192.0.0.192", False),
        ("168.63.129.16", False),
        ("fec0::1", False),
        ("::7f00:1", False),
        ("64:ff9b:1::7f00:1", False),
        ("fd00:ec2::254", False),
        ("240.0.0.1", False),
        ("3fff::1", False),
        ("64:ff9b::808:808", True),
        ("224.0.0.1", False),
        ("2001:4860:4860::8888", True),
    ],
)
def test_private_addresses_are_known_in_every_form(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@given(st.text(max_size=40))
def test_any_text_is_an_address_with_a_host_or_an_error(text: str) -> None:
    for url in (text, f"http://{text}"):
        with suppress(AddressError):
            assert web_address(url).host


# --- MCP

SERVER = '''
from mcp.server.mcpserver import MCPServer
server = MCPServer("weather")

@server.tool()
def getWeather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise ValueError("no such city")
    return f"It rains in {city}."

@server.tool()
def add(a: int, b: int = 1) -> int:
    """A sum."""
    return a + b

@server.tool()
def pair(left: str, right: str) -> str:
    """Two texts."""
    return f"{left}/{right}"

server.run()
'''


@pytest.fixture
def weather(tmp_path: Path) -> str:
    (tmp_path / "weather.py").write_text(SERVER)
    return f"{sys.executable} {tmp_path / 'weather.py'}"


def test_the_tools_of_an_mcp_server_are_tools(weather: str) -> None:
    async def call_all() -> list[ToolReply]:
        async with open_mcp_tools(McpSettings(command=weather)) as tools:
            by_name = {tool.name: tool for tool in tools}
            assert set(by_name) == {"get_weather", "add", "pair"}
            assert len({tool.fingerprint for tool in tools}) == 3
            return [
                await by_name[name].call(argument)
                for name, argument in (
                    ("get_weather", " Vienna "),
                    ("get_weather", "Atlantis"),
                    ("add", "41"),
                    ("add", '{"a": 1, "b": 2}'),
                    ("add", "much"),
                    ("pair", '{"left": "x", "right": "y"}'),
                    ("pair", "x"),
                    ("pair", '{"left": 1}'),
                )
            ]

    replies = asyncio.run(call_all())
    expected = ["It rains in Vienna.", None, "42", "3", None, "x/y", None, None]
    assert [reply.text if reply.outcome is Outcome.OK else None for reply in replies] == expected
    assert [replies[i].outcome for i in (1, 4, 6, 7)] == [Outcome.INVALID] * 4
    assert "getWeather" in replies[1].text
    assert "left (string), right (string)" in replies[6].text


def test_a_server_that_is_not_there_and_a_tool_it_does_not_have_are_named(weather: str) -> None:
    async def connect(settings: McpSettings) -> None:
        async with open_mcp_tools(settings):
            pass

    with pytest.raises(ServiceError, match=r"cannot be reached[\s\S]*no-such-program"):
        asyncio.run(connect(McpSettings(command="no-such-program --x")))
    with pytest.raises(ConfigError, match=r"unknown MCP tool 'snow'[\s\S]*add, getWeather, pair"):
        asyncio.run(connect(McpSettings(command=weather, tools=("snow",))))


def test_either_a_command_or_an_address_is_needed() -> None:
    for command, url in (("", ""), ("a", "b")):
        with pytest.raises(ConfigError, match="either a command or a url"):
            McpSettings(command, url)
    with pytest.raises(ConfigError, match="max_chars of an MCP server must be positive, not 0"):
        McpSettings("python x.py", max_chars=0)
    with pytest.raises(ConfigError, match="timeout_seconds of an MCP server"):
        McpSettings("python x.py", timeout_seconds=0)


@given(st.text())
def test_any_name_becomes_one_that_tags_can_carry(name: str) -> None:
    tagged = tag_name(name)
    text = f"{protocol.open_tag(tagged)} x {protocol.close_tag(tagged)}"
    assert protocol.parse_policy(text)[-1].tool == tagged


@given(st.text() | st.sampled_from(["{}", '{"a": 1}', '{"z": 1}', "[1]", "1", "null"]))
def test_any_argument_is_read_or_refused(text: str) -> None:
    two = {"properties": {"a": {}, "b": True}, "required": ["a", "b"]}
    for schema in ({}, {"properties": {"a": {"type": "integer"}}}, two):
        arguments = Parameters.of(schema).read(text)
        assert arguments is None or set(arguments) <= {"a", "b"}


# --- together


def test_one_trajectory_uses_the_three_tools_that_the_settings_offer(
    tmp_path: Path, weather: str
) -> None:
    build_index(
        [Passage("p1", "Vienna", "A city on the Danube.")], tmp_path / "index", IndexSettings(), "x"
    )
    turns = [
        "Where is it? <begin_search> Danube city </end_search>",
        "How old? <begin_calculate> 2026 - 1137 </end_calculate>",
        "And the sky? <begin_get_weather> Vienna </end_get_weather>",
        "Enough.</think>\n\n\\boxed{889}",
    ]

    async def roll() -> Trajectory:
        search = SearchParams(index=str(tmp_path / "index"))
        offered = ToolsParams(
            calculator=True, mcp=(McpSettings(command=weather, tools=("getWeather",)),)
        )
        async with AsyncExitStack() as stack:
            tools = await open_library(search, offered, stack)
            policy = ScriptedPolicy(turns)
            task = make_task(
                "q", "Q?", Mode.COA, 0, Prompt("{question}\n<think>\n", "hash"), tuple(tools)
            )
            return await roll_out(
                task,
                RolloutContext(policy, Sampling(), Limits(), library_fingerprint(tools)),
                policy,
                tools,
            )

    row = asyncio.run(roll())
    assert row.stop_reason is StopReason.ANSWERED
    assert [(step.tool, step.text) for step in row.steps if step.kind is StepKind.OBSERVATION] == [
        ("search", "\n<search_result> result 1: Vienna: A city on the Danube. </search_result>\n"),
        ("calculate", "\n<calculate_result> 889 </calculate_result>\n"),
        ("get_weather", "\n<get_weather_result> It rains in Vienna. </get_weather_result>\n"),
    ]
    named = tool_fingerprints(row.search_fingerprint, ["search", "calculate", "get_weather"])
    assert {name: text.split(":")[0].split("/")[0] for name, text in named.items()} == {
        "calculate": "simpleeval",
        "get_weather": "mcp",
        "search": "tantivy",
    }


@given(
    st.dictionaries(
        st.sampled_from(["calculate", "open", "a"]),
        st.text() | st.sampled_from(["a+search=b", "%2B"]),
    )
)
def test_the_fingerprint_of_each_tool_is_read_from_that_of_the_library(
    others: dict[str, str],
) -> None:
    tools = {"search": "tantivy:ab/top2", **others}
    library = library_fingerprint(
        {name: SimpleNamespace(fingerprint=text) for name, text in tools.items()}
    )  # type: ignore[dict-item]
    assert tool_fingerprints(library, list(tools)) == tools


def test_the_section_of_the_settings_opens_the_tools(weather: str) -> None:
    async def names(params: ToolsParams) -> list[str]:
        async with AsyncExitStack() as stack:
            return [tool.name for tool in await open_tools(params, stack)]

    servers = (McpSettings(command=weather, tools=("add",)),)
    assert asyncio.run(names(ToolsParams(True, OpenSettings(is_offered=True), servers))) == [
        "calculate",
        "open",
        "add",
    ]
    with pytest.raises(ConfigError, match="two tools have the name add"):
        asyncio.run(names(ToolsParams(mcp=servers * 2)))
