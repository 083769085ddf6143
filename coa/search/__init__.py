"""Search: passages in, ranked passages out. `SearchEngine` is what users replace."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage of a corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage found."""

    passage: Passage
    score: float


class SearchError(Exception):
    """This one search failed after its retries; others may work."""


class SearchEngine(Protocol):
    """Anything that finds passages for a query."""

    @property
    def fingerprint(self) -> str:
        """Identifies corpus, engine and settings; results are comparable only where it is equal."""

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """The `top_k` best passages, best first; an empty sequence when nothing matches. Ties break by id.

        Raises:
            SearchError: this one search failed.
            ServiceError: the engine cannot be reached at all.
        """
