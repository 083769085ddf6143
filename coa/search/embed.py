"""Compute the vectors of an index's passages, for the engines `dense` and `hybrid`.

    coa search embed [index=data/index] [search.dense.folder=data/vectors]
        [search.dense.embedder=sentence_transformers search.dense.model=...]

Reads the section `search`. Vectors that were computed are kept: run the same command again after a
kill, and only what is missing is computed. Memory does not grow with the number of passages until
the graph of neighbours is built, which takes some 260 bytes for each.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from coa.progress import Progress
from coa.search.dense.embedders import Embedder, Vectors, open_embedder
from coa.search.dense.engine import DIGEST, GRAPH, IndexedPassages, build_graph, origin_of
from coa.search.dense.settings import DenseSettings
from coa.search.dense.vectors import VectorFolder, writing_alone
from coa.search.embedded import EmbeddedSearch
from coa.search.settings import SearchParams
from coa.settings.params import Params
from coa.store.whole_files import write_file


def embed_passages(index: Path, settings: DenseSettings, embedder: Embedder) -> VectorFolder:
    """Compute what is missing of the vectors of `index` and of their graph of neighbours.

    Raises:
        InputError: there is no index, or the folder holds vectors of another corpus or embedder.
        ServiceError: the embedder gives vectors of another size.
        OutputError: the folder cannot be written, or another process writes there.
    """
    passages = IndexedPassages(EmbeddedSearch.open(index), index)
    origin = origin_of(passages, index, settings)
    path = Path(settings.folder)

    def embed(numbers: Iterable[int]) -> Vectors:
        return embedder.embed([settings.passage_text(passages[number]) for number in numbers])

    with writing_alone(path):
        folder = VectorFolder.open(path, origin)
        if folder is None:  # the first passages tell how many numbers a vector has
            first = range(min(settings.batch_size, origin.num_passages))
            vectors = embed(first)
            folder = VectorFolder.create(path, origin, vectors.shape[1])
            folder.write(first, vectors)
        missing = folder.missing()
        if len(missing):
            (path / DIGEST).unlink(missing_ok=True)
        with Progress("embed", origin.num_passages, "passages") as progress:
            progress.add(origin.num_passages - len(missing))
            for start in range(0, len(missing), settings.batch_size):
                numbers = missing[start : start + settings.batch_size].tolist()
                folder.write(numbers, embed(numbers))
                progress.add(len(numbers))
        if not (path / DIGEST).is_file():
            with Progress("graph", origin.num_passages, "vectors") as progress:
                digest = build_graph(
                    folder.rows, path / GRAPH, settings.index_threads, progress.add
                )
            write_file(path / DIGEST, f"{digest}\n")
    return folder


def main(arguments: Sequence[str]) -> str:
    """Compute the vectors that `search.dense` describes and return the summary line."""
    params = Params.load("search", arguments).section(SearchParams)
    settings = params.dense
    folder = embed_passages(Path(params.index), settings, open_embedder(settings))
    what = f"{folder.origin.num_passages:,} vectors of {folder.dimensions:,} numbers"
    return f"{settings.folder}: {what} for {params.index}, by {settings.embedder}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
