"""Open the engines that search an index folder in this process."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from coa.search import EngineKind
from coa.search.dense.settings import DenseSettings
from coa.search.embedded import EmbeddedSearch
from coa.search.fusion import FusionSettings, HybridSearch, SecondRanking, TitleSearch

if TYPE_CHECKING:
    from coa.search.dense.engine import DenseSearch

IN_PROCESS = (EngineKind.EMBEDDED, EngineKind.DENSE, EngineKind.HYBRID)
"""The engines that need no server."""


AnyFinder: TypeAlias = "EmbeddedSearch | HybridSearch | DenseSearch"
"""Each is a `SearchEngine` and a `Finder`."""


def open_finder(
    kind: EngineKind, index: Path, dense: DenseSettings, fusion: FusionSettings
) -> AnyFinder:
    """Open an engine over the index folder `index`.

    Only `dense`, and `hybrid` where it fuses them, read the vectors.

    Raises:
        InputError: the index or the vectors are missing or damaged, or do not belong together.
        ConfigError: the embedding server's key is missing.
        MissingExtraError: sentence-transformers is not installed.
    """
    words = EmbeddedSearch.open(index)
    if kind is EngineKind.DENSE:
        return _open_dense(words, index, dense)
    if kind is not EngineKind.HYBRID:
        return words
    if fusion.second is SecondRanking.TITLES:
        return HybridSearch(words, TitleSearch(words), fusion)
    return HybridSearch(words, _open_dense(words, index, dense), fusion)


def _open_dense(words: EmbeddedSearch, index: Path, settings: DenseSettings) -> "DenseSearch":
    # Loaded where it is needed: usearch and numpy take time that BM25 need not wait for.
    from coa.search.dense.embedders import open_embedder
    from coa.search.dense.engine import DenseSearch

    return DenseSearch(words, index, settings, open_embedder(settings))
