"""Open the tools that the sections `search` and `tools` of params.yaml describe.

Each tool is imported when it is opened.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from inspect import isfunction
from typing import Any

from coa.errors import ConfigError
from coa.own_parts import digest_of, load_part
from coa.records import protocol
from coa.records.trajectory import Outcome
from coa.search.factory import open_search_tool
from coa.search.settings import SearchParams
from coa.tools import Tool, ToolReply
from coa.tools.settings import ToolsParams

_NEEDED = ("name", "fingerprint", "call")
"""What a tool of the user's must have (`coa.tools.Tool`), if it is no function."""


class FunctionTool:
    """A function from one text to another as a tool, under the function's name."""

    def __init__(self, function: Callable[[str], object]) -> None:
        self.name = function.__name__
        self.fingerprint = f"{self.name}-{digest_of(function)}"
        self._function = function

    async def call(self, argument: str) -> ToolReply:
        """Return the function's text; none is an empty reply."""
        text = str(await asyncio.to_thread(self._function, argument))
        return ToolReply(Outcome.OK if text.strip() else Outcome.EMPTY, text)


def toolbox_of(parts: Iterable[Any]) -> dict[str, Tool]:
    """Return tools by name; a function becomes one.

    Raises:
        ConfigError: two tools have the same name, or one has a name that tags cannot carry.
    """
    tools = [FunctionTool(part) if isfunction(part) else part for part in parts]
    _check_names(tools, ())
    return {tool.name: tool for tool in tools}


def _own_tool(path: str) -> Tool:
    part = load_part(path, "tool")
    tool: Tool = FunctionTool(part) if isfunction(part) else load_part(path, "tool", _NEEDED)
    return tool


def own_tools(params: ToolsParams) -> list[str]:
    """Name the tools that `open_tools` opens, except those that only MCP servers know.

    Raises:
        ConfigError: a tool of the user's cannot be loaded.
    """
    names = []
    if params.calculator:
        names.append("calculate")
    if params.open.is_offered:
        names.append("open")
    names += [_own_tool(path).name for path in params.own]
    return names


async def open_library(
    search: SearchParams, tools: ToolsParams, stack: AsyncExitStack
) -> dict[str, Tool]:
    """Open all tools that a run offers, by name, `search` first; `stack` closes them.

    Raises:
        InputError: The search index is missing.
        ServiceError: An MCP server cannot be reached.
        ConfigError: Two tools have the same name.
    """
    search_tool = open_search_tool(search)
    stack.push_async_callback(search_tool.aclose)
    library: dict[str, Tool] = {search_tool.name: search_tool}
    for tool in await open_tools(tools, stack):
        library[tool.name] = tool
    return library


async def open_tools(params: ToolsParams, stack: AsyncExitStack) -> list[Tool]:
    """Open the tools that `params` describes; `stack` closes them.

    Raises:
        ConfigError: two tools have the same name, one has a name that tags cannot carry, or one of
            the user's cannot be loaded.
    """
    tools: list[Tool] = []
    if params.calculator:
        from coa.tools.calculator import Calculator

        tools.append(Calculator())
    if params.open.is_offered:
        from coa.tools.open_page import OpenTool

        opener = OpenTool(params.open)
        stack.push_async_callback(opener.aclose)
        tools.append(opener)
    for server in params.mcp:
        from coa.tools.model_context import open_mcp_tools

        tools += await stack.enter_async_context(open_mcp_tools(server))
    for path in params.own:
        tool = _own_tool(path)
        close = getattr(tool, "aclose", None)
        if close is not None:
            stack.push_async_callback(close)
        tools.append(tool)
    _check_names(tools, ("search",))
    return tools


def _check_names(tools: Iterable[Tool], others: Iterable[str]) -> None:
    names = [tool.name for tool in tools]
    for name in names:
        if not protocol.is_tool_name(name):
            raise ConfigError(
                "a tool has a name that tags cannot carry",
                where="tools",
                expected=f"small letters, digits and single underscores, a letter first, at most "
                f"{protocol.MAX_TOOL_CHARS} characters",
                got=repr(name[:200]),
                fix="rename it, or list the other tools of its server under `tools`",
            )
    counts = Counter([*others, *names])
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(
            f"two tools have the name {', '.join(sorted(twice))}",
            where="tools",
            fix="leave one out",
        )
