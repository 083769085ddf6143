"""Read the text of hostile pages in a few processes, and kill one that takes too long.

The processes stay between pages, so an ordinary page costs a millisecond more than in this process.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from coa.tools.page_text import REPLY, REQUEST

_SECONDS = 5.0
"""Time for one page; an ordinary one of two megabytes takes 0.2 s."""
_MAX_PROCESSES = 4
_COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("page_text.py")))


class UnreadableError(Exception):
    """Report a page whose text cannot be read within the limits of time and memory."""


class PageReader:
    """Reader of pages in other processes. Close it with `aclose` in the loop that read."""

    def __init__(self, *, timeout_seconds: float = _SECONDS) -> None:
        self._seconds = timeout_seconds
        self._idle: list[Process] = []
        self._slots: asyncio.Semaphore | None = None

    async def aclose(self) -> None:
        """End the processes; the reader can be used again."""
        idle = self._idle
        self._idle = []
        self._slots = None
        for process in idle:
            await _end(process)

    async def read(
        self, body: bytes, *, is_html: bool, max_words: int, max_chars: int
    ) -> tuple[str, str]:
        """Read title and text of a page, each on one line; cut the text exactly at both limits.

        Raises:
            UnreadableError: it takes too long or too much memory.
        """
        request = REQUEST.pack(is_html, max_words, max_chars, len(body)) + body
        async with self._slot():
            process = await self._take()
            try:
                async with asyncio.timeout(self._seconds):
                    title, text = json.loads(await _ask(process, request))
            except (TimeoutError, EOFError, ConnectionError, ValueError) as error:
                await _end(process)
                raise UnreadableError("its text cannot be read in time and memory") from error
            except asyncio.CancelledError:
                await _end(process)
                raise
            self._idle.append(process)
        return title, text

    async def _take(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await _start()

    def _slot(self) -> asyncio.Semaphore:
        if self._slots is None:
            self._slots = asyncio.Semaphore(min(_MAX_PROCESSES, os.cpu_count() or 1))
        return self._slots


async def _start() -> Process:
    # The process gets a session of its own, so that Control-C at the terminal reaches only the run.
    try:
        return await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise UnreadableError(f"no process can be started to read it: {error}") from error


async def _ask(process: Process, request: bytes) -> bytes:
    assert process.stdin and process.stdout
    process.stdin.write(request)
    await process.stdin.drain()
    (length,) = REPLY.unpack(await process.stdout.readexactly(REPLY.size))
    return await process.stdout.readexactly(length)


async def _end(process: Process) -> None:
    assert process.stdin
    process.stdin.close()
    if process.returncode is None:
        process.kill()
    await process.wait()
