"""Open pages for the tests of the tools."""

import asyncio

from coa.tools import ToolReply
from coa.tools.open_page import OpenTool
from coa.tools.settings import FetchLimits, OpenSettings


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
