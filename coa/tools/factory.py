"""Open the tools beside search that the section `tools` of params.yaml describes."""

from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from coa import protocol
from coa.errors import ConfigError
from coa.tools import Tool
from coa.tools.calculator import Calculator
from coa.tools.model_context import McpSettings, open_mcp_tools
from coa.tools.open_page import OpenSettings, OpenTool


@dataclass(frozen=True, slots=True)
class ToolsParams:
    """The tools of the library beside `search`. All are offered, and a prompt shows their tags."""

    calculator: bool = False
    """`calculate`: arithmetic."""
    open: OpenSettings = field(default_factory=OpenSettings)
    """`open`: the text of a web page."""
    mcp: tuple[McpSettings, ...] = ()
    """Servers that speak the Model Context Protocol, each a mapping: `command` (starts a server
    that speaks over stdin and stdout) or `url` (of one that is running), `tools` (names of those
    offered; all), `timeout_seconds` for a call and for the list of tools (30), `max_chars` of a
    reply (4000)."""


def own_tools(params: ToolsParams) -> list[str]:
    """Name the tools that `open_tools` opens, except those that only MCP servers know."""
    names = []
    if params.calculator:
        names.append(Calculator.name)
    if params.open.is_offered:
        names.append(OpenTool.name)
    return names


async def open_tools(params: ToolsParams, stack: AsyncExitStack) -> list[Tool]:
    """Open the tools that `params` describes; `stack` closes them.

    Raises:
        MissingExtraError: a tool's library is not installed.
        ServiceError: an MCP server cannot be reached.
        ConfigError: two tools have the same name, or one has a name that tags cannot carry.
    """
    tools: list[Tool] = []
    if params.calculator:
        tools.append(Calculator())
    if params.open.is_offered:
        opener = OpenTool(params.open)
        stack.push_async_callback(opener.aclose)
        tools.append(opener)
    for server in params.mcp:
        tools += await stack.enter_async_context(open_mcp_tools(server))
    for tool in tools:
        _check_name(tool)
    counts = Counter(["search", *(tool.name for tool in tools)])
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(
            f"two tools have the name {', '.join(sorted(twice))}",
            where="tools",
            fix="leave one out",
        )
    return tools


def _check_name(tool: Tool) -> None:
    if not protocol.is_tool_name(tool.name):
        raise ConfigError(
            "a tool has a name that tags cannot carry",
            where="tools",
            expected=f"small letters, digits and single underscores, a letter first, at most "
            f"{protocol.MAX_TOOL_CHARS} characters",
            got=repr(tool.name[:200]),
            fix="rename it, or list the other tools of its server under `tools`",
        )
