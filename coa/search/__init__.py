"""Define passages, hits and `SearchEngine`, the interface that users implement to replace ours."""

import asyncio
from abc import ABC, abstractmethod
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
    """Report that one search failed after its retries; others may work."""


class SearchEngine(Protocol):
    """Anything that finds passages for a query."""

    @property
    def fingerprint(self) -> str:
        """Identify corpus, engine and settings; results are comparable only where it is equal."""

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """Find the `top_k` best passages, best first; ties are ordered by id.

        The sequence is empty when nothing matches.

        Raises:
            SearchError: this one search failed.
            ServiceError: the engine cannot be reached at all.
        """


class Finder(ABC):
    """A search engine in this process, which several threads may ask at once."""

    fingerprint: str
    num_passages: int

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """Run `find` in a thread, so that other rollouts continue meanwhile."""
        return await asyncio.to_thread(self.find, query, top_k)

    @abstractmethod
    def find(self, query: str, top_k: int) -> Sequence[Hit]:
        """Find the `top_k` best passages, best first, ties by id."""

    @abstractmethod
    def passage(self, passage_id: str) -> Passage | None:
        """Return the passage with this id; None where there is none."""
