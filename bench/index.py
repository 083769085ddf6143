"""Compare the cost of our index with tantivy alone: `build_index` and a bare loop on one corpus.

    python -m bench.index data/raw/corpus       # parquet files with id, title and text
    python -m bench.index data/raw/corpus 5     # rounds; 3 by default

The bare loop reads the columns, makes documents and commits: the same fields and analyser, one
thread, nothing checked, hashed or made reproducible. The two take turns, each time in a new
process, whose memory (RssAnon: private, without mapped files) is sampled. Target: at most 1.3 times
the bare loop.
"""

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pyarrow.parquet as pq
import tantivy

from coa.search.analysis import IndexSettings, analyser
from coa.search.building import HEAP_BYTES, build_index
from coa.search.corpus import corpus_files, corpus_hash, read_passages

NUM_ROUNDS = 3
POLL_SECONDS = 0.1


def ours(corpus: str, folder: Path) -> int:
    """Build the index as `python -m coa.search.index` does."""
    files = corpus_files(corpus)
    digest = corpus_hash(files)
    manifest = build_index(read_passages(files), folder / "index", IndexSettings(), digest)
    return manifest.num_passages


def bare(corpus: str, folder: Path) -> int:
    """Run tantivy's writer over the rows, and nothing else."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("id", stored=True, fast=True, tokenizer_name="raw", index_option="basic")
    fields.add_text_field("title", tokenizer_name="passage", index_option="freq")
    fields.add_text_field("body", stored=True, tokenizer_name="passage", index_option="freq")
    index = tantivy.Index(fields.build(), path=str(folder), sort_by_field="id")
    index.register_tokenizer("passage", analyser(IndexSettings()))
    writer = index.writer(HEAP_BYTES, num_threads=1)
    count = 0
    for file in corpus_files(corpus):
        for batch in pq.ParquetFile(file).iter_batches(columns=["id", "title", "text"]):
            ids, titles, texts = [column.to_pylist() for column in batch.columns]
            for passage_id, title, text in zip(ids, titles, texts, strict=True):
                document = tantivy.Document(id=[passage_id], title=[title], body=[title, text])
                writer.add_document(document)
                count += 1
    writer.commit()
    writer.wait_merging_threads()
    return count


def timed(build: Callable[[str, Path], int], corpus: str, result: Connection) -> None:
    """Build once and send the number of passages and the seconds; runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        count = build(corpus, Path(folder))
        result.send((count, time.perf_counter() - started))


def measure(build: Callable[[str, Path], int], corpus: str) -> tuple[int, float, float]:
    """Return passages, seconds, and the peak of private memory in MB."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    # Spawned, not forked: a fork would start with this process' memory.
    child = multiprocessing.get_context("spawn").Process(target=timed, args=(build, corpus, sender))
    child.start()
    peak = 0
    while child.is_alive():
        peak = max(peak, private_kilobytes(child.pid or os.getpid()))
        time.sleep(POLL_SECONDS)
    count, seconds = receiver.recv()
    return count, seconds, peak / 1024


def private_kilobytes(pid: int) -> int:
    """Read the RssAnon of a process; it is 0 once the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    return 0


def main(arguments: list[str]) -> None:
    """Print the table."""
    corpus = arguments[0]
    rounds = int(arguments[1]) if len(arguments) > 1 else NUM_ROUNDS
    builds = (bare, ours)
    found = [[measure(build, corpus) for build in builds] for _ in range(rounds)]
    print(f"{found[0][1][0]:,} passages of {corpus}, {rounds} rounds in turn, medians")
    print(f"{'':8}{'seconds':>10}{'ratio':>8}{'private MB':>12}")
    times = [statistics.median(row[i][1] for row in found) for i in range(len(builds))]
    for i, build in enumerate(builds):
        memory = statistics.median(row[i][2] for row in found)
        print(
            f"{build.__name__:8}{times[i]:10.1f}{times[i] / times[0]:8.2f}{memory:12,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
