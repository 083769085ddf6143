"""Read the text of a web page by its address, for the tool `open`."""

import importlib.util
from dataclasses import dataclass, field

from coa.errors import ConfigError, MissingExtraError
from coa.tools import ToolReply
from coa.tools.fetching import AddressError, FetchLimits, Page, PageError, PageFetcher
from coa.tools.page_reader import PageReader, UnreadableError
from coa.tools.search import shorten, shorten_to_chars
from coa.trajectory import Outcome

_MAX_URL_CHARS = 2000
_MAX_CHARS_A_WORD = 20
"""Limit on characters for each word, for pages without blanks; English has six."""
_HTML = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class OpenSettings:
    """Settings for opening and showing pages."""

    is_offered: bool = False
    """Whether the tool is there."""
    max_words: int = 600
    """Words of the page that are shown, up to the end of a sentence."""
    fetch: FetchLimits = field(default_factory=FetchLimits)
    """Limits on what one page may cost."""

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ConfigError(
                "tools.open.max_words is too small", expected="at least 1", got=self.max_words
            )
        for name in ("timeout_seconds", "max_bytes"):
            if not getattr(self.fetch, name) > 0:
                raise ConfigError(
                    f"tools.open.fetch.{name} must be positive", got=getattr(self.fetch, name)
                )


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
        # One word and one character more than is shown tell `shorten` that the page goes on.
        title, text = await self._reader.read(
            page.body, is_html=is_html, max_words=max_words + 1, max_chars=max_chars + 1
        )
        return title, shorten_to_chars(shorten(text, max_words), max_chars)
