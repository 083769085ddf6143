"""Search the vectors of an index's passages: the engine `dense`.

The nearest vectors are found by a mapped graph of neighbours (HNSW, of the library usearch).
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from usearch.index import Index

from coa.errors import InputError, writing_error
from coa.search import Finder, Hit, Passage
from coa.search.building import read_manifest
from coa.search.dense.embedders import Embedder, Vectors
from coa.search.dense.settings import DenseSettings
from coa.search.dense.vectors import DIGEST, Origin, VectorFolder, require_size
from coa.search.embedded import EmbeddedSearch
from coa.store.whole_files import replacing

GRAPH = "graph.usearch"
_TIE_MARGIN = 32
"""Neighbours that are fetched beyond the limit: equally near ones are ordered by id."""
CONNECTIVITY = 16
"""Neighbours of a vector."""
EXPANSION_ADD = 128
"""Candidates that are looked at for a new vector's neighbours."""
EXPANSION_SEARCH = 128
"""Candidates that are looked at for a query, or as many as are asked for."""
_ROWS_AT_ONCE = 10_000


def build_graph(
    rows: NDArray[np.float16], path: Path, threads: int, advance: Callable[[int], None]
) -> str:
    """Write the graph of `rows` and return its digest; the file appears whole or not at all.

    The rows stay in their mapped file while the graph is built: it holds neighbours alone.

    Raises:
        OutputError: the file cannot be written.
    """
    index = Index(
        ndim=rows.shape[1],
        metric="ip",
        dtype="f16",
        connectivity=CONNECTIVITY,
        expansion_add=EXPANSION_ADD,
    )
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE]
        numbers = np.arange(start, start + len(part), dtype=np.uint64)
        index.add(numbers, part, copy=False, threads=threads)
        advance(len(part))
    try:
        with replacing(path) as partial:
            index.save(partial)
    except (OSError, RuntimeError) as error:
        fault = error if isinstance(error, OSError) else OSError(str(error))
        raise writing_error(path, fault) from error
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Graph:
    """A mapped graph; several threads and processes may ask it at once."""

    def __init__(self, path: Path) -> None:
        try:
            index = Index.restore(path, view=True, expansion_search=EXPANSION_SEARCH)
        except (OSError, RuntimeError, ValueError) as error:
            raise _damaged(path, str(error)) from error
        if index is None:
            raise _damaged(path, "no graph of usearch")
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def nearest(self, vector: Vectors, count: int) -> list[tuple[int, float]]:
        """Return the numbers of the nearest rows with their cosines, nearest first."""
        found = self._index.search(vector[0], count, threads=1)
        return [
            (int(number), 1.0 - float(distance))
            for number, distance in zip(found.keys, found.distances, strict=True)
        ]


def _damaged(path: Path, got: str) -> InputError:
    return InputError(
        f"the graph {path} is damaged",
        got=got[:200],
        fix=f"remove it, and build it from the vectors: rm {path}; coa search embed",
    )


class IndexedPassages:
    """The passages of an index folder by number, in the order of the index."""

    def __init__(self, index: EmbeddedSearch, path: Path) -> None:
        self._index = index
        meta = json.loads((path / "meta.json").read_bytes())
        self.segments: tuple[int, ...] = tuple(part["max_doc"] for part in meta["segments"])
        self._ends = list(accumulate(self.segments))

    def __getitem__(self, number: int) -> Passage:
        segment = bisect_right(self._ends, number)
        first = self._ends[segment] - self.segments[segment]
        return self._index.passage_at(segment, number - first)


def origin_of(passages: IndexedPassages, index: Path, settings: DenseSettings) -> Origin:
    """Return what the vectors of an index are made from."""
    return Origin(read_manifest(index).corpus_hash, passages.segments, settings.identity)


class DenseSearch(Finder):
    """A search engine that finds the passages whose vectors are nearest to the query's.

    `path` is the folder of `index`. Missing and damaged vectors, and those of another index or
    embedder, raise an InputError.
    """

    def __init__(
        self, index: EmbeddedSearch, path: Path, settings: DenseSettings, embedder: Embedder
    ) -> None:
        folder = Path(settings.folder)
        self._index = index
        self._passages = IndexedPassages(index, path)
        origin = origin_of(self._passages, path, settings)
        vectors = VectorFolder.open(folder, origin)
        digest_file = folder / DIGEST
        is_whole = vectors is not None and vectors.num_rows == origin.num_passages
        if vectors is None or not is_whole or not digest_file.is_file():
            raise InputError(
                f"the vectors in {folder} are not there, or not all of them",
                fix=f"coa search embed index={path} search.dense.folder={folder}",
            )
        self._dimensions = vectors.dimensions
        self._graph = Graph(folder / GRAPH)
        self._settings = settings
        self._embedder = embedder
        self.num_passages = index.num_passages
        parts = [digest_file.read_text(encoding="utf-8"), origin.corpus_hash, EXPANSION_SEARCH]
        content = json.dumps([*parts, settings.identity], sort_keys=True)
        self.fingerprint = f"dense:{hashlib.sha256(content.encode()).hexdigest()[:12]}"

    def find(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """Find the `top_k` nearest passages, nearest first, ties by id; the score is the cosine.

        There are none for a blank query, or one that says nothing to the embedder.

        Raises:
            ServiceError: the embedder gives vectors of another size.
        """
        limit = min(top_k, self.num_passages)
        if limit < 1 or not query.strip():
            return ()
        vector = self._embedder.embed([self._settings.query_text(query)])
        require_size(vector, self._dimensions, self._settings.folder)
        if not vector.any():
            return ()
        num_fetched = min(limit + _TIE_MARGIN, self.num_passages)
        hits = []
        for number, score in self._graph.nearest(vector, num_fetched):
            hits.append(Hit(self._passages[number], score))
        hits.sort(key=lambda hit: (-hit.score, hit.passage.id))
        return tuple(hits[:limit])

    def passage(self, passage_id: str) -> Passage | None:
        """Return the passage with this id; None where there is none."""
        return self._index.passage(passage_id)
