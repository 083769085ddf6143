"""The search tool: a query to what the policy reads, `result 1: title: text`, a line each (as AutoCoA shows them)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from coa.errors import ConfigError
from coa.search import Hit, SearchEngine, SearchError
from coa.tools import ToolReply
from coa.trajectory import Outcome

_SENTENCE_END = re.compile(r"[.!?][\"')\]”’]*(?=\s+[\"'(\[“‘]?[A-Z0-9]|$)")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """How results are shown to the policy."""

    top_k: int = 3
    """Passages shown."""
    shows_titles: bool = True
    max_words: int = 100
    """Words of a passage's text; longer ones end with a sentence where possible. 0 shows whole passages."""
    max_query_chars: int = 1000
    """Longer queries are invalid."""

    def __post_init__(self) -> None:
        for name, least in (("top_k", 1), ("max_words", 0), ("max_query_chars", 1)):
            if getattr(self, name) < least:
                raise ConfigError(
                    f"search.observation.{name} is too small", expected=f"at least {least}", got=getattr(self, name)
                )


class SearchTool:
    """The tool `search` over any search engine."""

    name = "search"

    def __init__(self, engine: SearchEngine, settings: ObservationSettings | None = None) -> None:
        self._engine = engine
        self._settings = settings or ObservationSettings()

    @property
    def fingerprint(self) -> str:
        """The engine's, and how its hits are shown: `{engine}/top3-titles-100words-1000chars`."""
        settings = self._settings
        titles = "titles" if settings.shows_titles else "texts"
        shown = f"top{settings.top_k}-{titles}-{settings.max_words}words-{settings.max_query_chars}chars"
        return f"{self._engine.fingerprint}/{shown}"

    async def aclose(self) -> None:
        """Close the engine's connections, if it has any."""
        close = getattr(self._engine, "aclose", None)
        if close:
            await close()

    async def call(self, argument: str) -> ToolReply:
        """Search for `argument`.

        Raises:
            ServiceError: the engine cannot be reached at all.
        """
        query, longest = argument.strip(), self._settings.max_query_chars
        if not query:
            return ToolReply(Outcome.INVALID, "The query is empty.")
        if len(query) > longest:
            return ToolReply(Outcome.INVALID, f"The query is too long: at most {longest} characters.")
        try:
            hits = await self._engine.search(query, self._settings.top_k)
        except SearchError as error:
            return ToolReply(Outcome.ERROR, str(error))
        if not hits:
            return ToolReply(Outcome.EMPTY, "No results.")
        return ToolReply(Outcome.OK, show(hits, self._settings), tuple(hit.passage.id for hit in hits))


def show(hits: Sequence[Hit], settings: ObservationSettings) -> str:
    """The hits as the policy reads them, one a line."""
    lines = []
    for rank, hit in enumerate(hits, start=1):
        title = f"{_one_line(hit.passage.title)}: " if settings.shows_titles and hit.passage.title.strip() else ""
        lines.append(f"result {rank}: {title}{shorten(_one_line(hit.passage.text), settings.max_words)}")
    return "\n".join(lines)


def shorten(text: str, max_words: int) -> str:
    """At most `max_words` words of a one-line text, up to the end of a sentence if that keeps half of them."""
    words = text.split(" ")
    if not max_words or len(words) <= max_words:
        return text
    start = " ".join(words[:max_words])
    ends = [found.end() for found in _SENTENCE_END.finditer(start, len(start) // 2)]
    return start[: ends[-1]] if ends else f"{start} ..."


def _one_line(text: str) -> str:
    return " ".join(text.split())
