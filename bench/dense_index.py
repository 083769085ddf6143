"""Compare indexes of vectors: usearch, as `coa.search.embed` builds it, faiss, and exact search.

    python -m bench.dense_index QUESTIONS CORPUS... [passages=20000]

CORPUS are parquet files with id, title and text, from which equally many passages are taken;
QUESTIONS is one with a column question, whose first 500 are the queries. Vectors are hashed words
(256 numbers), so the figures say how well neighbours are found, not how well a model searches. Each
index is built and searched on one thread, in a process of its own whose private memory (RssAnon) is
sampled. Needs faiss: pip install -e '.[bench]'.
"""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.index import POLL_SECONDS, private_kilobytes
from coa.search.dense.embedders import HashedEmbedder
from coa.search.dense.engine import (
    CONNECTIVITY,
    EXPANSION_ADD,
    EXPANSION_SEARCH,
    Graph,
    build_graph,
)

NUM_QUERIES = 500
DIMENSIONS = 256
TOP_K = 10
NUM_PROBES = 32
"""Lists of faiss's inverted file that a query looks through."""
Search = Callable[[Any], list[int]]
"""Returns the numbers of the nearest rows."""


def usearch_graph(rows: Any, path: Path) -> None:
    """Build the graph as `coa.search.embed` does."""
    build_graph(rows, path, 1, lambda _: None)


def open_usearch(path: Path, _: Any) -> Search:
    """Map the graph."""
    graph = Graph(path)
    return lambda query: [number for number, _ in graph.nearest(query, TOP_K)]


def faiss_graph(rows: Any, path: Path) -> None:
    """Build faiss's graph over half floats with the same numbers of neighbours and candidates."""
    import faiss

    index = faiss.IndexHNSWSQ(
        DIMENSIONS, faiss.ScalarQuantizer.QT_fp16, CONNECTIVITY, faiss.METRIC_INNER_PRODUCT
    )
    index.hnsw.efConstruction = EXPANSION_ADD
    _fill_faiss(index, rows, path)


def faiss_lists(rows: Any, path: Path) -> None:
    """Build faiss's inverted file over half floats."""
    import faiss

    num_lists = int(4 * len(rows) ** 0.5)
    index = faiss.index_factory(DIMENSIONS, f"IVF{num_lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    _fill_faiss(index, rows, path)


def _fill_faiss(index: Any, rows: Any, path: Path) -> None:
    import faiss

    faiss.omp_set_num_threads(1)
    index.train(np.asarray(rows[:50_000], dtype=np.float32))
    for start in range(0, len(rows), 10_000):
        index.add(np.asarray(rows[start : start + 10_000], dtype=np.float32))
    faiss.write_index(index, str(path))


def open_faiss(path: Path, _: Any) -> Search:
    """Read the index, mapped where faiss can."""
    import faiss

    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if hasattr(index, "hnsw"):
        index.hnsw.efSearch = EXPANSION_SEARCH
    else:
        index.nprobe = NUM_PROBES
    return lambda query: index.search(query, TOP_K)[1][0].tolist()


def no_index(_: Any, path: Path) -> None:
    """Leave an empty file: exact search reads the vectors themselves."""
    path.touch()


def open_exact(_: Path, rows: Any) -> Search:
    """Compare the query with all rows, in single precision."""
    whole = np.asarray(rows, dtype=np.float32)
    return lambda query: np.argsort(-(whole @ query[0]), kind="stable")[:TOP_K].tolist()


KINDS: dict[str, tuple[Callable[[Any, Path], None], Callable[[Path, Any], Search]]] = {
    "exact": (no_index, open_exact),
    "usearch HNSW": (usearch_graph, open_usearch),
    "faiss HNSW": (faiss_graph, open_faiss),
    "faiss IVF": (faiss_lists, open_faiss),
}


def build(name: str, folder: Path, num_rows: int, result: Connection) -> None:
    """Build one index and send the seconds; runs in a process of its own."""
    started = time.perf_counter()
    KINDS[name][0](_rows(folder, num_rows), folder / "index")
    result.send(time.perf_counter() - started)


def search(name: str, folder: Path, num_rows: int, result: Connection) -> None:
    """Search for all queries and send what was found and the seconds for each."""
    ask = KINDS[name][1](folder / "index", _rows(folder, num_rows))
    queries = np.load(folder / "queries.npy")
    ask(queries[:1])
    started = time.perf_counter()
    found = [ask(query[None]) for query in queries]
    result.send((found, (time.perf_counter() - started) / len(queries)))


def _rows(folder: Path, num_rows: int) -> Any:
    path = folder / "vectors.f16"
    return np.memmap(path, dtype=np.float16, mode="r", shape=(num_rows, DIMENSIONS))


def measure(work: Callable[..., None], *arguments: object) -> tuple[Any, float]:
    """Run `work` in a new process; return what it sends and its peak of private memory in MB."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Spawned, not forked: a fork would start with this process' memory.
    child = multiprocessing.get_context("spawn").Process(target=work, args=(*arguments, sender))
    child.start()
    peak = 0
    while not receiver.poll(POLL_SECONDS) and child.is_alive():
        peak = max(peak, private_kilobytes(child.pid or 0))
    result = receiver.recv()
    child.join()
    return result, peak / 1024


def prepare(folder: Path, questions: Path, corpora: list[Path], num_passages: int) -> int:
    """Write the vectors of passages and queries; return how many passages there are."""
    embedder = HashedEmbedder(DIMENSIONS)
    count = 0
    with (folder / "vectors.f16").open("wb") as file:
        for corpus in corpora:
            rows = pl.read_parquet(corpus, columns=["title", "text"])
            for part in rows.head(num_passages // len(corpora)).iter_slices(5_000):
                texts = [f"{title}\n{text}" for title, text in part.iter_rows()]
                file.write(embedder.embed(texts).astype(np.float16).tobytes())
                count += len(texts)
    asked = pl.read_parquet(questions, columns=["question"]).head(NUM_QUERIES)
    np.save(folder / "queries.npy", embedder.embed(asked["question"].to_list()))
    return count


def main(arguments: list[str]) -> None:
    """Print the table."""
    num_passages = 20_000
    paths = []
    for argument in arguments:
        if argument.startswith("passages="):
            num_passages = int(argument.removeprefix("passages="))
        else:
            paths.append(Path(argument))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = prepare(folder, paths[0], paths[1:], num_passages)
        print(f"{count:,} vectors of {DIMENSIONS} numbers, {NUM_QUERIES} queries, one thread")
        print("| index | build, s | build, MB | file, MB | search, MB | ms | recall@10 |")
        print("|---|---|---|---|---|---|---|")
        truth: list[list[int]] = []
        for kind in KINDS:
            seconds, build_memory = measure(build, kind, folder, count)
            (found, each), memory = measure(search, kind, folder, count)
            truth = truth or found
            pairs = zip(found, truth, strict=True)
            recall = sum(len(set(got) & set(best)) for got, best in pairs) / len(truth) / TOP_K
            size = (folder / "index").stat().st_size / 1e6
            print(
                f"| {kind} | {seconds:.1f} | {build_memory:,.0f} | {size:,.1f} | {memory:,.0f} "
                f"| {1000 * each:.2f} | {recall:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
