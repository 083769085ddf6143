"""Search and show the hits as the policy reads them, one `result 1: title: text` a line.

This is the form that AutoCoA shows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from coa.errors import ConfigError, MissingExtraError
from coa.records.trajectory import Outcome
from coa.search import Hit, SearchEngine, SearchError
from coa.tools import Repeats, ToolReply
from coa.tools.shorten import shorten, shorten_to_chars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    max_tokens: int = 0
    """Tokens of a passage's text, counted by `tokenizer`; 0 sets no limit."""
    tokenizer: str = ""
    """Folder or Hub name of a tokenizer, for `max_tokens`. Needs the extra `train`."""
    numbering: Numbering = Numbering.RESULT
    """How results are numbered."""
    repeats: Repeats = Repeats.KEEP
    """What becomes of a passage that the trajectory has shown before."""

    def __post_init__(self) -> None:
        least = {"top_k": 1, "max_words": 0, "max_query_chars": 1, "max_chars": 0, "max_tokens": 0}
        for name, least_value in least.items():
            value = getattr(self, name)
            if value < least_value:
                what = f"search.observation.{name} is too small"
                raise ConfigError(what, expected=f"at least {least_value}", got=value)
        if self.max_tokens and not self.tokenizer:
            raise ConfigError(
                "search.observation.max_tokens needs a tokenizer", expected="the name of one"
            )


_FIRST_FIELDS = 4
"""The fingerprint always names so many settings; the others only where they are not the default."""


class TokenCounter:
    """Counter of tokens with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, name: str) -> "TokenCounter":
        """Load the tokenizer in a folder, or of that name on the Hub.

        Raises:
            MissingExtraError: transformers is not installed.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingExtraError("transformers", "train") from None
        return cls(AutoTokenizer.from_pretrained(name))

    def count(self, text: str) -> int:
        """Count the tokens of the text alone, without special tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def length_of(self, text: str, max_tokens: int) -> int:
        """Count the characters that the first `max_tokens` tokens of the text cover."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        if len(offsets) <= max_tokens:
            return len(text)
        _, end = offsets[max_tokens - 1]
        return int(end)


class SearchTool:
    """The tool `search` over any search engine."""

    name = "search"

    def __init__(self, engine: SearchEngine, settings: ObservationSettings | None = None) -> None:
        self._engine = engine
        self._settings = settings or ObservationSettings()
        self._counter: TokenCounter | None = None
        if self._settings.max_tokens:
            self._counter = TokenCounter.load(self._settings.tokenizer)

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
        lines = show(hits, self._settings, self._counter)
        reply = ToolReply(Outcome.OK, "\n".join(lines), tuple(hit.passage.id for hit in hits))
        repeats = self._settings.repeats
        if repeats is Repeats.MARK:
            return replace(
                reply, lines=lines, heads=heads_of(hits, self._settings), repeats=repeats
            )
        if repeats is Repeats.DROP:
            return replace(reply, lines=lines, repeats=repeats)
        return reply


def heads_of(hits: Sequence[Hit], settings: ObservationSettings) -> tuple[str, ...]:
    """Return number and title of each hit as they stand before its text: `result 1: title: `."""
    heads = []
    for rank, hit in enumerate(hits, start=1):
        head = _HEADS[settings.numbering].format(rank)
        title = _one_line(hit.passage.title)
        if settings.shows_titles and title:
            head += f"{title}: "
        heads.append(head)
    return tuple(heads)


def show(
    hits: Sequence[Hit], settings: ObservationSettings, counter: TokenCounter | None = None
) -> tuple[str, ...]:
    """Write the hits as the policy reads them, one a line."""
    lines = []
    for hit, head in zip(hits, heads_of(hits, settings), strict=True):
        text = shorten(_one_line(hit.passage.text), settings.max_words)
        text = shorten_to_chars(text, settings.max_chars)
        if counter and counter.count(text) > settings.max_tokens:
            text = shorten_to_chars(text, counter.length_of(text, settings.max_tokens))
        lines.append(f"{head}{text}")
    return tuple(lines)


def result_form(numbering: Numbering) -> re.Pattern[str]:
    """Build the pattern that a whole line of a result has under this numbering."""
    before, place, after = _HEADS[numbering].partition("{}")
    number = "[0-9]+" if place else ""
    return re.compile(rf"{re.escape(before)}{number}{re.escape(after)}\S.*")


def _one_line(text: str) -> str:
    return " ".join(text.split())
