"""Keep the search and the other tools open over all steps of a training."""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from coa.rollout.toolbox import open_library
from coa.search.settings import RecordingMode, SearchParams
from coa.settings.params import Params
from coa.tools import Toolbox
from coa.tools.settings import ToolsParams


class HeldTools:
    """The tools of params.yaml, opened once for many runs of one event loop.

    A task holds them from the first step to the last, because an MCP connection has to be closed
    by the task that opened it, and each run of an `asyncio.Runner` is another task.

    Searches are recorded as `search.recording` says, by each process and each `part` of it into a
    file of its own, such as `searches-1.sqlite`: only one can have a recording open.
    """

    def __init__(self, loop: asyncio.Runner, sections: Params, part: str = "") -> None:
        self._loop = loop
        self._search = _with_own_recording(sections.section(SearchParams, "search"), part)
        self._tools = sections.section(ToolsParams, "tools")
        self._is_open = asyncio.Event()
        self._is_over = asyncio.Event()
        self._opened: Toolbox = {}

    def __enter__(self) -> Toolbox:
        """Open the tools.

        Raises:
            InputError: the search index is missing.
            ServiceError: an MCP server cannot be reached.
        """
        self._loop.run(self._open())
        return self._opened

    def __exit__(self, *_: object) -> None:
        """Close the tools."""
        self._loop.run(self._close())

    async def _open(self) -> None:
        """Start the task that holds the tools, and wait until they are open or have failed."""
        self._holder = asyncio.create_task(self._hold())
        is_open = asyncio.create_task(self._is_open.wait())
        await asyncio.wait({self._holder, is_open}, return_when=asyncio.FIRST_COMPLETED)
        if self._holder.done():
            self._holder.result()

    async def _hold(self) -> None:
        async with AsyncExitStack() as stack:
            self._opened = await open_library(self._search, self._tools, stack)
            self._is_open.set()
            await self._is_over.wait()

    async def _close(self) -> None:
        self._is_over.set()
        await self._holder


def _with_own_recording(search: SearchParams, part: str) -> SearchParams:
    """Name a recording after the process, but for the first, and the part of it."""
    recording = search.recording
    rank = os.environ.get("RANK", "0")
    owners = [owner for owner in (part, rank) if owner not in ("", "0")]
    if recording.mode is not RecordingMode.RECORD or not owners:
        return search
    path = Path(recording.path)
    own = path.with_stem("-".join((path.stem, *owners)))
    return replace(search, recording=replace(recording, path=str(own)))
