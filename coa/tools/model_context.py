"""Offer the tools of Model Context Protocol (MCP) servers as our own, through the official SDK.

A policy writes one argument between its tags: the value of the tool's only parameter, or a JSON
object that names them.
"""

import asyncio
import hashlib
import json
import logging
import re
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coa.errors import MissingExtraError, ServiceError, unknown_name
from coa.records.trajectory import Outcome
from coa.tools import ToolReply, ToolSchema
from coa.tools.settings import McpSettings

if TYPE_CHECKING:
    from mcp import Client
    from mcp import Tool as Described

_MAX_PAGES = 100
"""Largest number of pages in a server's list of tools."""
_PLAIN = {"string": str, "integer": int, "number": float}


class McpTool:
    """One tool of an MCP server."""

    def __init__(
        self, client: "Client", described: "Described", server: str, settings: McpSettings
    ) -> None:
        self._client = client
        self._described = described
        self._settings = settings
        self._parameters = Parameters.of(described.input_schema)
        self.name = tag_name(described.name)
        self.schema = ToolSchema(described.description or "", described.input_schema)
        description = [described.name, described.description, described.input_schema]
        text = json.dumps(description, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        self.fingerprint = f"mcp:{server}/{described.name}:{digest}/{settings.max_chars}chars"

    async def call(self, argument: str) -> ToolReply:
        """Call the tool. A bad argument gives INVALID, a failure of the tool ERROR."""
        import anyio

        arguments = self._parameters.read(argument)
        if arguments is None:
            return ToolReply(
                Outcome.INVALID, f"The argument cannot be used: {self._parameters.wanted}."
            )
        try:
            # The client's own limit begins only when the request has been sent.
            with anyio.fail_after(self._settings.timeout_seconds):
                result = await self._client.call_tool(self._described.name, arguments)
        except _failures() as error:
            return ToolReply(Outcome.ERROR, f"{self.fingerprint}: {_innermost(error)!r}"[:500])
        blocks = [getattr(block, "text", f"({block.type})") for block in result.content]
        text = "\n".join(blocks).strip()
        text = text[: self._settings.max_chars]
        if result.is_error:
            return ToolReply(Outcome.INVALID, text or "The tool refuses the argument.")
        if not text:
            return ToolReply(Outcome.EMPTY, "No result.")
        return ToolReply(Outcome.OK, text)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of a tool."""

    kinds: Mapping[str, str]
    """JSON Schema's type of each parameter."""
    required: tuple[str, ...]

    @classmethod
    def of(cls, schema: Mapping[str, Any]) -> "Parameters":
        """Read the parameters in a tool's input schema."""
        properties = schema.get("properties") or {}
        kinds = {}
        for name, shape in properties.items():
            is_described = isinstance(shape, dict)
            kinds[name] = str(shape.get("type", "any")) if is_described else "any"
        return cls(kinds, tuple(schema.get("required") or ()))

    @property
    def wanted(self) -> str:
        """Say what a policy should write."""
        if self._only in self.kinds:
            return f"{self._only} ({self.kinds[self._only]})"
        described = [f"{name} ({kind})" for name, kind in self.kinds.items()]
        return f"a JSON object with {', '.join(described) or 'nothing'}"

    @property
    def _only(self) -> str:
        """Name the one parameter that must be given; empty where there is none or more than one."""
        names = self.required or tuple(self.kinds)
        return names[0] if len(names) == 1 else ""

    def read(self, argument: str) -> dict[str, Any] | None:
        """Read the arguments of a call; None where they cannot be read."""
        text = argument.strip()
        if not self.kinds:
            return {} if text in ("", "{}") else None
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if isinstance(given, dict):
            return given if set(self.required) <= given.keys() <= self.kinds.keys() else None
        kind = _PLAIN.get(self.kinds.get(self._only, ""))
        if kind is None:
            return None
        try:
            return {self._only: kind(text)}
        except ValueError:
            return None


def tag_name(name: str) -> str:
    """Turn a tool's name into one that tags can carry.

    The result has small letters, digits and single underscores; a letter is first.
    """
    with_breaks = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    plain = re.sub(r"[^a-z0-9]+", "_", with_breaks.lower()).strip("_")
    if plain[:1].isalpha():
        return plain
    return f"tool_{plain}".rstrip("_")


@asynccontextmanager
async def open_mcp_tools(settings: McpSettings) -> AsyncIterator[list[McpTool]]:
    """Connect to the server until the block ends, and give the tools that are offered.

    Raises:
        MissingExtraError: the SDK is not installed.
        ServiceError: the server cannot be started or reached, or the connection broke.
        ConfigError: it has no tool of a name that is asked for.
    """
    try:
        from mcp import Client, StdioServerParameters
    except ImportError:
        raise MissingExtraError("mcp", "tools") from None
    # Replies and errors say what goes wrong; without this, the SDK would also print tracebacks.
    logging.getLogger("mcp").addHandler(logging.NullHandler())
    where = settings.url or settings.command
    program, *arguments = shlex.split(settings.command) or [""]
    server = settings.url or StdioServerParameters(
        command=program, args=arguments, encoding_error_handler="replace"
    )
    client = Client(server, read_timeout_seconds=settings.timeout_seconds)
    async with _connected(client, where):
        described = await _listed(client, settings, where)
        for name in settings.tools:
            if name not in described:
                raise unknown_name("MCP tool", name, described, where=where)
        info = client.server_info
        server_name = f"{info.name}-{info.version}" if info else where
        names = settings.tools or described
        yield [McpTool(client, described[name], server_name, settings) for name in names]


@asynccontextmanager
async def _connected(client: "Client", where: str) -> AsyncIterator[None]:
    try:
        await client.__aenter__()
    except _failures() as error:
        raise _service_error("the MCP server cannot be reached", where, error) from error
    try:
        yield
    finally:
        # A connection that breaks cancels the task that opened it.
        is_broken = isinstance(sys.exception(), asyncio.CancelledError)
        try:
            await client.__aexit__(None, None, None)
        except _failures() as error:
            # A connection that only fails while it closes has given all its replies.
            if is_broken:
                what = "the connection to the MCP server broke"
                raise _service_error(what, where, error) from error


async def _listed(client: "Client", settings: McpSettings, where: str) -> dict[str, "Described"]:
    """Read the server's tools, by name, from all pages of its list."""
    import anyio

    found: dict[str, Described] = {}
    cursor: str | None = None
    try:
        with anyio.fail_after(settings.timeout_seconds):
            for _ in range(_MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                for tool in page.tools:
                    found[tool.name] = tool
                cursor = page.next_cursor
                if cursor is None:
                    return found
    except _failures() as error:
        raise _service_error("the MCP server does not list its tools", where, error) from error
    raise ServiceError(
        "the MCP server does not end the list of its tools",
        where=where,
        expected=f"at most {_MAX_PAGES} pages",
    )


def _failures() -> tuple[type[Exception], ...]:
    """List what the SDK raises when a server dies, hangs or answers nonsense."""
    from anyio import BrokenResourceError, ClosedResourceError
    from mcp import MCPError

    return (
        MCPError,
        OSError,
        ValueError,
        RuntimeError,
        BrokenResourceError,
        ClosedResourceError,
        ExceptionGroup,
    )


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _service_error(what: str, where: str, error: Exception) -> ServiceError:
    fix = "start it by hand to see what it says"
    return ServiceError(what, where=where, got=repr(_innermost(error))[:300], fix=fix)
