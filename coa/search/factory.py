"""Open the search engine that the section `search` of params.yaml describes, and its tool.

Each engine is imported when it is opened: a run loads the one that it asks.
"""

from dataclasses import replace
from pathlib import Path

from coa.own_parts import load_part, names_own_part
from coa.search import Finder, SearchEngine
from coa.search.dense.settings import DenseSettings
from coa.search.settings import EngineKind, RecordingMode, SearchParams
from coa.search.tool import SearchTool

IN_PROCESS = (EngineKind.EMBEDDED, EngineKind.DENSE, EngineKind.HYBRID)
"""The engines that need no server."""
_NEEDED = ("search", "fingerprint")
"""What an engine of the user's must have (`coa.search.SearchEngine`)."""


def open_search_tool(params: SearchParams) -> SearchTool:
    """Open the search tool over the engine that `params` describes."""
    return SearchTool(open_engine(params), params.observation)


def open_engine(params: SearchParams) -> SearchEngine:
    """Open the engine that `params` describes, with its recording where that is on.

    Raises:
        InputError: The index is missing or of another version.
        ConfigError: An engine of the user's cannot be loaded.
    """
    engine = _open_unrecorded_engine(params)
    if params.recording.mode is RecordingMode.OFF:
        return engine
    from coa.search.recorded import RecordedSearch

    return RecordedSearch(engine, params.recording)


def _open_unrecorded_engine(params: SearchParams) -> SearchEngine:
    if names_own_part(params.engine):
        own: SearchEngine = load_part(params.engine, "search engine", _NEEDED)
        return own
    if params.engine is EngineKind.SERVER:
        from coa.search.remote import RemoteSearch

        server = params.server
        if params.recording.mode is RecordingMode.REPLAY and not server.name:
            from coa.search.recorded import recorded_name

            return RemoteSearch(replace(server, name=recorded_name(params.recording.path, server)))
        return RemoteSearch.connect(server)
    if params.engine is EngineKind.WEB:
        from coa.search.web import WebSearch

        return WebSearch(params.web)
    return open_finder(params.engine, Path(params.index), params.dense)


def open_finder(kind: EngineKind, index: Path, dense: DenseSettings) -> Finder:
    """Open an engine over the index folder `index`; only `dense` and `hybrid` read the vectors.

    Raises:
        InputError: the index or the vectors are missing or damaged, or do not belong together.
        MissingExtraError: sentence-transformers is not installed.
    """
    from coa.search.embedded import EmbeddedSearch

    words = EmbeddedSearch.open(index)
    if kind not in (EngineKind.DENSE, EngineKind.HYBRID):
        return words
    from coa.search.dense.embedders import open_embedder
    from coa.search.dense.engine import DenseSearch
    from coa.search.hybrid import HybridSearch

    vectors = DenseSearch(words, index, dense, open_embedder(dense))
    return vectors if kind is EngineKind.DENSE else HybridSearch(words, vectors)
