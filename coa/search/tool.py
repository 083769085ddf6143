"""Search and show the hits as the policy reads them, one `result 1: title: text` a line.

This is the form that AutoCoA shows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from coa.errors import ConfigError
from coa.records.trajectory import Outcome
from coa.search import Hit, SearchEngine, SearchError
from coa.tools import ToolReply
from coa.tools.shorten import shorten, shorten_to_chars


class Numbering(StrEnum):
    """Form of the numbers of results."""

    RESULT = "result"
    """`result 1: `, as AutoCoA does."""
    BRACKET = "bracket"
    """`[1] `."""
    DOC = "doc"
    """`Doc 1: `, much as Search-R1 does."""
    NONE = "none"
    """No numbers."""


_HEADS = {
    Numbering.RESULT: "result {}: ",
    Numbering.BRACKET: "[{}] ",
    Numbering.DOC: "Doc {}: ",
    Numbering.NONE: "",
}


@dataclass(frozen=True, slots=True)
class ObservationSettings:
    """Settings for showing results to the policy.

    Where a limit cuts a passage's text, the text ends with a sentence if possible.
    """

    top_k: int = 3
    """Passages shown."""
    shows_titles: bool = True
    """Whether a passage's title stands before its text."""
    max_words: int = 100
    """Words of a passage's text; longer ones end with a sentence where possible. 0 shows whole
    passages."""
    max_query_chars: int = 1000
    """Longer queries are invalid."""
    max_chars: int = 0
    """Characters of a passage's text; 0 sets no limit."""
    numbering: Numbering = Numbering.RESULT
    """How results are numbered."""

    def __post_init__(self) -> None:
        least = {"top_k": 1, "max_words": 0, "max_query_chars": 1, "max_chars": 0}
        for name, least_value in least.items():
            value = getattr(self, name)
            if value < least_value:
                what = f"search.observation.{name} is too small"
                raise ConfigError(what, expected=f"at least {least_value}", got=value)


_FIRST_FIELDS = 4
"""The fingerprint always names so many settings; the others only where they are not the default."""


class SearchTool:
    """The tool `search` over any search engine."""

    name = "search"

    def __init__(self, engine: SearchEngine, settings: ObservationSettings | None = None) -> None:
        self._engine = engine
        self._settings = settings or ObservationSettings()

    @property
    def fingerprint(self) -> str:
        """Return the engine's fingerprint and how hits are shown.

        An example is `{engine}/top3-titles-100words-1000chars`.
        """
        settings = self._settings
        titles = "titles" if settings.shows_titles else "texts"
        parts = [
            f"{self._engine.fingerprint}/top{settings.top_k}",
            titles,
            f"{settings.max_words}words",
            f"{settings.max_query_chars}chars",
        ]
        for item in fields(settings)[_FIRST_FIELDS:]:
            value = getattr(settings, item.name)
            if value != item.default:
                parts.append(f"{item.name}={value}")
        return "-".join(parts)

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
        query = argument.strip()
        max_chars = self._settings.max_query_chars
        if not query:
            return ToolReply(Outcome.INVALID, "The query is empty.")
        if len(query) > max_chars:
            return ToolReply(
                Outcome.INVALID, f"The query is too long: at most {max_chars} characters."
            )
        try:
            hits = await self._engine.search(query, self._settings.top_k)
        except SearchError as error:
            return ToolReply(Outcome.ERROR, str(error))
        if not hits:
            return ToolReply(Outcome.EMPTY, "No results.")
        lines = show(hits, self._settings)
        return ToolReply(Outcome.OK, "\n".join(lines), tuple(hit.passage.id for hit in hits))


def show(hits: Sequence[Hit], settings: ObservationSettings) -> tuple[str, ...]:
    """Write the hits as the policy reads them, one a line."""
    lines = []
    for rank, hit in enumerate(hits, start=1):
        line = _HEADS[settings.numbering].format(rank)
        title = _one_line(hit.passage.title)
        if settings.shows_titles and title:
            line += f"{title}: "
        text = shorten(_one_line(hit.passage.text), settings.max_words)
        lines.append(line + shorten_to_chars(text, settings.max_chars))
    return tuple(lines)


def result_form(numbering: Numbering) -> re.Pattern[str]:
    """Build the pattern that a whole line of a result has under this numbering."""
    before, place, after = _HEADS[numbering].partition("{}")
    number = "[0-9]+" if place else ""
    return re.compile(rf"{re.escape(before)}{number}{re.escape(after)}\S.*")


def _one_line(text: str) -> str:
    return " ".join(text.split())
