"""Test MCP servers that die, hang or answer nonsense.

Each failure is a reply or an error that says what to do.
"""

import asyncio
import json
import shlex
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coa.errors import ConfigError, ServiceError
from coa.records.trajectory import Outcome
from coa.rollout.toolbox import open_tools
from coa.tools import ToolReply
from coa.tools.model_context import open_mcp_tools
from coa.tools.settings import McpSettings, ToolsParams

SERVER = r'''
import json, sys, time

listing, calling, closing = json.loads(sys.argv[1])
out = sys.stdout.buffer
TOOL = {"name": "t", "inputSchema": {"type": "object", "properties": {"a": {"type": "string"}}}}
FINE = {"content": [{"type": "text", "text": "fine"}]}
INFO = {"name": "hostile", "version": "1"}

def send(line):
    out.write(line.encode("latin-1") + b"\n")
    out.flush()

def act(plan, request, otherwise):
    """Do what the plan says: wait, die, send raw text first, or answer with a result of its own."""
    if plan.get("hangs"):
        time.sleep(60)
    if plan.get("dies"):
        sys.exit(1)
    if "raw" in plan:
        send(plan["raw"])
    reply = {"jsonrpc": "2.0", "id": request["id"], **(plan.get("reply") or {"result": otherwise})}
    if not plan.get("is_silent"):
        send(json.dumps(reply))

for line in sys.stdin:
    request = json.loads(line)
    method, version = request["method"], "2025-06-18"
    if "id" not in request:
        continue
    if method == "server/discover":
        act({"reply": {"error": {"code": -32601, "message": "no such method"}}}, request, None)
    elif method == "initialize":
        capabilities = {"tools": {}}
        result = {"protocolVersion": version, "capabilities": capabilities, "serverInfo": INFO}
        act({}, request, result)
    elif method == "tools/list":
        page = int((request.get("params") or {}).get("cursor") or 0)
        names = listing.get("names", [["t"]])
        found = {"tools": [{**TOOL, "name": name} for name in names[min(page, len(names) - 1)]]}
        if page + 1 < len(names) or listing.get("is_endless"):
            found["nextCursor"] = str(page + 1)
        act(listing, request, found)
    elif method == "tools/call":
        act(calling, request, FINE)
out.write(closing.encode("latin-1"))
out.flush()
'''
Plan = dict[str, object]


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "hostile.py"
    path.write_text(SERVER)
    return path


def settings_of(
    server: Path, listing: Plan, calling: Plan, closing: str = "", *, seconds: float = 20
) -> McpSettings:
    plans = json.dumps([listing, calling, closing])
    command = shlex.join([sys.executable, str(server), plans])
    return McpSettings(command=command, timeout_seconds=seconds)


def call(server: Path, calling: Plan, closing: str = "", *, seconds: float = 20) -> ToolReply:
    async def connect() -> ToolReply:
        async with open_mcp_tools(
            settings_of(server, {}, calling, closing, seconds=seconds)
        ) as tools:
            return await tools[0].call("x")

    return asyncio.run(connect())


def names(server: Path, listing: Plan, *, seconds: float = 20) -> list[str]:
    async def connect() -> list[str]:
        async with open_mcp_tools(settings_of(server, listing, {}, seconds=seconds)) as tools:
            return [tool.name for tool in tools]

    return asyncio.run(connect())


BAD_REPLIES: dict[str, Plan] = {
    "hangs": {"hangs": True},
    "dies": {"dies": True},
    "never answers": {"is_silent": True},
    "content is a number": {"reply": {"result": {"content": 5}}},
    "unknown content": {"reply": {"result": {"content": [{"type": "nothing"}]}}},
    "text is null": {"reply": {"result": {"content": [{"type": "text", "text": None}]}}},
    "no result": {"reply": {"result": None}},
    "result and error": {"reply": {"result": {}, "error": 7}},
    "another's id": {"reply": {"id": 999, "result": {}}},
    "an error": {"reply": {"error": {"code": -1, "message": "broken"}}},
    "asks back": {"reply": {"result": {"resultType": "inputRequired", "requestState": "x"}}},
    "a lone surrogate": {"is_silent": True, "raw": '{"text": "\\ud800"}'},
}


@pytest.mark.parametrize("name", BAD_REPLIES)
def test_a_call_that_goes_wrong_is_a_reply_in_time(server: Path, name: str) -> None:
    started = time.monotonic()
    reply = call(server, BAD_REPLIES[name], seconds=2)
    assert reply.outcome is Outcome.ERROR
    assert reply.text.startswith("mcp:hostile-1/t:")
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("raw", ["\xff\xfe\xc3", "hello", "", "{}", "[1]", "null", '{"id": {}}'])
def test_noise_before_a_reply_does_no_harm(
    server: Path, raw: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(server, {"raw": raw}, closing=raw) == ToolReply(Outcome.OK, "fine")
    assert "Traceback" not in capfd.readouterr().err


BAD_LISTS: dict[str, Plan] = {
    "hangs": {"hangs": True},
    "dies": {"dies": True},
    "no schema": {"reply": {"result": {"tools": [{"name": "t"}]}}},
    "no list": {"reply": {"result": "tools"}},
    "an error": {"reply": {"error": {"code": -1, "message": "no list"}}},
    "an odd error": {"reply": {"error": {"code": "x"}}, "raw": "\xff\xfe{"},
    "a schema of numbers": {
        "reply": {"result": {"tools": [{"name": "t", "inputSchema": {"properties": 7}}]}}
    },
    "no end": {"is_endless": True},
}


@pytest.mark.parametrize("name", BAD_LISTS)
def test_a_list_of_tools_that_cannot_be_read_is_an_error_in_time(server: Path, name: str) -> None:
    started = time.monotonic()
    with pytest.raises(
        ServiceError, match=r"the list of its tools|does not list its tools"
    ) as told:
        names(server, BAD_LISTS[name], seconds=2)
    assert "hostile.py" in str(told.value)
    assert time.monotonic() - started < 20


def test_tools_on_later_pages_of_the_list_are_offered_too(server: Path) -> None:
    assert names(server, {"names": [["a", "b"], [], ["c"]]}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"\xff" * 50,
        b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{x",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: \xff\xfe\n\n",
    ],
)
def test_an_address_behind_which_is_no_mcp_server_is_an_error(reply: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()

    async def connect() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            settings = McpSettings(url=f"http://127.0.0.1:{port}/mcp", timeout_seconds=1)
            async with open_mcp_tools(settings):
                pass

    with pytest.raises(ServiceError, match="cannot be reached"):
        asyncio.run(connect())


def test_what_goes_wrong_within_the_block_is_raised_as_it_is(server: Path) -> None:
    async def connect() -> None:
        async with open_mcp_tools(settings_of(server, {}, {})):
            raise ConfigError("another thing")

    with pytest.raises(ConfigError, match="another thing"):
        asyncio.run(connect())


def test_a_tool_whose_name_tags_cannot_carry_is_refused_by_name(server: Path) -> None:
    async def connect() -> None:
        async with AsyncExitStack() as stack:
            await open_tools(
                ToolsParams(mcp=(settings_of(server, {"names": [["x" * 500]]}, {}),)), stack
            )

    with pytest.raises(ConfigError, match=r"tags cannot carry[\s\S]*at most 128 characters"):
        asyncio.run(connect())


def test_bad_bytes_at_the_end_do_no_harm(server: Path) -> None:
    assert call(server, {}, closing="\xff\xfe\xc3") == ToolReply(Outcome.OK, "fine")
