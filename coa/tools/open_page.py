"""Read the text of a web page by its address, for the tool `open`.

Pages are hostile: a few processes turn them into text, and one that takes too long is killed. The
processes stay between pages, so an ordinary page costs a millisecond more than in this process.
"""

import asyncio
import importlib.util
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from coa.errors import MissingExtraError
from coa.records.trajectory import Outcome
from coa.tools import ToolReply
from coa.tools.fetching import AddressError, Page, PageError, PageFetcher
from coa.tools.page_text import REPLY, REQUEST
from coa.tools.settings import OpenSettings
from coa.tools.shorten import shorten, shorten_to_chars

_MAX_URL_CHARS = 2000
_MAX_CHARS_A_WORD = 20
"""Limit on characters for each word, for pages without blanks; English has six."""
_HTML = ("text/html", "application/xhtml+xml")
_SECONDS = 5.0
"""Time to read one page; an ordinary one of two megabytes takes 0.2 s."""
_MAX_PROCESSES = 4
_COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("page_text.py")))


class OpenTool:
    """The tool `open` over public web pages."""

    name = "open"

    def __init__(self, settings: OpenSettings | None = None) -> None:
        self._settings = settings or OpenSettings()
        self._fetcher = PageFetcher(self._settings.fetch)
        self._reader = PageReader()
        if importlib.util.find_spec("selectolax") is None:
            raise MissingExtraError("selectolax", "tools")

    @property
    def fingerprint(self) -> str:
        """Return `web/{words}words-{bytes}bytes`; the pages themselves change from day to day."""
        return f"web/{self._settings.max_words}words-{self._settings.fetch.max_bytes}bytes"

    async def aclose(self) -> None:
        """Close the connections and end the processes that read pages."""
        await self._fetcher.aclose()
        await self._reader.aclose()

    async def call(self, argument: str) -> ToolReply:
        """Return the text of the page at the address `argument`."""
        url = argument.strip()
        has_blanks = any(char.isspace() for char in url)
        if not url or len(url) > _MAX_URL_CHARS or has_blanks:
            return ToolReply(
                Outcome.INVALID, "One address is needed, such as https://example.org/page."
            )
        try:
            page = await self._fetcher.fetch(url)
            title, text = await self._text(page)
        except AddressError as error:
            return ToolReply(Outcome.INVALID, f"The page cannot be opened: {error}.")
        except (PageError, UnreadableError) as error:
            return ToolReply(Outcome.ERROR, f"{url}: {error}")
        if not text:
            return ToolReply(Outcome.EMPTY, "The page has no text.")
        return ToolReply(Outcome.OK, f"{title}\n{text}" if title else text, (page.url,))

    async def _text(self, page: Page) -> tuple[str, str]:
        """Read title and text, cut as they are shown; both are empty if the page is not text."""
        is_html = page.content_type in _HTML
        if not is_html and page.content_type != "text/plain":
            return "", ""
        max_words = self._settings.max_words
        max_chars = max_words * _MAX_CHARS_A_WORD
        # One word and one character too many show `shorten` that there is more.
        title, text = await self._reader.read(
            page.body, is_html=is_html, max_words=max_words + 1, max_chars=max_chars + 1
        )
        return title, shorten_to_chars(shorten(text, max_words), max_chars)


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
        if self._slots is None:
            self._slots = asyncio.Semaphore(min(_MAX_PROCESSES, os.cpu_count() or 1))
        async with self._slots:
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
        # It gets a session of its own, so that Control-C at the terminal reaches only the run.
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
