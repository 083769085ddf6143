"""The tool `open`: the address of a web page to its text."""

from dataclasses import dataclass, field

from coa.errors import ConfigError, MissingExtraError
from coa.tools import ToolReply
from coa.tools.fetching import AddressError, FetchLimits, Page, PageError, PageFetcher
from coa.tools.search import shorten
from coa.trajectory import Outcome

_SILENT = (
    "script, style, noscript, template, svg, iframe, form, nav, header, footer, aside, [hidden]"
)
"""What a reader of a page is not shown, or does not read."""
_MAX_URL_CHARS = 2000


@dataclass(frozen=True, slots=True)
class OpenSettings:
    """How pages are opened and shown."""

    is_offered: bool = False
    """Whether the tool is there."""
    max_words: int = 600
    """Words of the page that are shown, up to the end of a sentence."""
    fetch: FetchLimits = field(default_factory=FetchLimits)
    """What one page may cost."""

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
        try:
            from selectolax.lexbor import LexborHTMLParser
        except ImportError:
            raise MissingExtraError("selectolax", "tools") from None
        self._parser = LexborHTMLParser

    @property
    def fingerprint(self) -> str:
        """`web/{words}words-{bytes}bytes`: what a page says changes from day to day."""
        return f"web/{self._settings.max_words}words-{self._settings.fetch.max_bytes}bytes"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._fetcher.aclose()

    async def call(self, argument: str) -> ToolReply:
        """The text of the page at the address `argument`."""
        url = argument.strip()
        if not url or len(url) > _MAX_URL_CHARS or any(char.isspace() for char in url):
            return ToolReply(
                Outcome.INVALID, "One address is needed, such as https://example.org/page."
            )
        try:
            page = await self._fetcher.fetch(url)
        except AddressError as error:
            return ToolReply(Outcome.INVALID, f"The page cannot be opened: {error}.")
        except PageError as error:
            return ToolReply(Outcome.ERROR, f"{url}: {error}")
        title, text = self._text(page)
        if not text:
            return ToolReply(Outcome.EMPTY, "The page has no text.")
        shown = shorten(text, self._settings.max_words)
        return ToolReply(Outcome.OK, f"{title}\n{shown}" if title else shown, (page.url,))

    def _text(self, page: Page) -> tuple[str, str]:
        """Title and text of a page; what is neither HTML nor plain text has none."""
        if page.content_type == "text/plain":
            return "", _one_line(page.body.decode("utf-8", "replace"))
        if page.content_type not in ("text/html", "application/xhtml+xml"):
            return "", ""
        tree = self._parser(page.body)
        title = tree.css_first("title")
        for node in tree.css(_SILENT):
            node.decompose()
        body = tree.body
        return _one_line(title.text()) if title else "", _one_line(
            body.text(separator=" ")
        ) if body else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
