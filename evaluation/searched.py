"""Say in readable fields what the rollouts of a result searched."""

from dataclasses import dataclass
from pathlib import Path

from coa.search.building import read_manifest
from coa.search.settings import EngineKind, SearchParams

_HASH_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Searched:
    """The search of a result."""

    engine: EngineKind
    place: str
    """The folder of the index, or the address of the server or of the web search."""
    corpus: str
    """SHA-256 of the indexed passages, first 16 hex digits; of a server the name that
    `search.server.name` gives it; empty for the web."""
    num_passages: int | None
    """Passages in the index; None for a server and for the web, which do not say it."""
    top_k: int
    """Passages that a search shows."""


def describe_search(params: SearchParams) -> Searched:
    """Describe the search that the settings open.

    Raises:
        InputError: the index is missing or of another version.
    """
    engine = params.engine
    top_k = params.observation.top_k
    if engine is EngineKind.SERVER:
        return Searched(engine, params.server.url, params.server.name, None, top_k)
    if engine is EngineKind.WEB:
        return Searched(engine, params.web.address, "", None, top_k)
    manifest = read_manifest(Path(params.index))
    corpus = manifest.corpus_hash[:_HASH_DIGITS]
    return Searched(engine, params.index, corpus, manifest.num_passages, top_k)
