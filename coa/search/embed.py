"""Compute the vectors of an index's passages, for the engines `dense` and `hybrid`.

    coa search embed [index=data/index] [search.dense.folder=data/vectors]
        [search.dense.embedder=sentence_transformers search.dense.model=...]

Reads the section `search`. Vectors that were computed are kept: run the same command again after a
kill, and only what is missing is computed. Memory does not grow with the number of passages until
the graph of neighbours is built, which takes some 260 bytes for each.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from coa.progress import Progress
from coa.search.dense.embedders import Embedder, open_embedder
from coa.search.dense.engine import GRAPH, IndexedPassages, build_graph, origin_of
from coa.search.dense.settings import DenseSettings
from coa.search.dense.vectors import DIGEST, VectorFolder, writing_alone
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
    with writing_alone(path):
        folder = VectorFolder.open(path, origin)
        num_done = folder.num_rows if folder else 0
        if num_done < origin.num_passages:
            (path / DIGEST).unlink(missing_ok=True)
        with Progress("embed", origin.num_passages, "passages") as progress:
            progress.add(num_done)
            for start in range(num_done, origin.num_passages, settings.batch_size):
                end = min(start + settings.batch_size, origin.num_passages)
                texts = [settings.passage_text(passages[number]) for number in range(start, end)]
                vectors = embedder.embed(texts)
                if folder is None:  # the first vectors show how many numbers each has
                    folder = VectorFolder.create(path, origin, vectors.shape[1])
                folder.append(vectors)
                progress.add(end - start)
        assert folder is not None, "an index holds at least one passage"
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
