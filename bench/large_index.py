"""Measure time, disk and memory to build and serve an index of millions of generated passages.

    python -m bench.large_index 5000000 [folder]      # passages; 1,000,000 by default

Passages are distinct: 100 words by Zipf's law from a vocabulary of 300,000 made-up words, and a
number. Natural text repeats more, so the figures are on the careful side for disk. Queries are six
words of one passage, none of them among the 150 most frequent: those count as stop words, which
the engine drops from real questions. The build runs in a process of its own, whose peak of private
memory (RssAnon) is sampled; serving is one worker with one thread.
"""

import asyncio
import multiprocessing
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.search_server import (
    closed_loop,
    cpu_seconds,
    first_answer,
    open_loop,
    private_megabytes,
    serve,
)
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.embedded import EmbeddedSearch

WORDS, VOCABULARY, BLOCK = 100, 300_000, 10_000
NUM_STOP_WORDS = 150
SECONDS, RATES = 20.0, (20.0, 50.0)
NUM_RECALLED, TOP_K = 200, 10


def vocabulary() -> list[str]:
    """Make words of five to nine letters."""
    random = np.random.default_rng(0)
    letters = random.integers(0, 26, (VOCABULARY, 9)).astype("uint8") + ord("a")
    lengths = random.integers(5, 10, VOCABULARY)
    return [bytes(row[:length]).decode() for row, length in zip(letters, lengths, strict=True)]


def passages(count: int, seed: int = 0) -> Iterator[Passage]:
    """Make distinct passages, the same for the same seed."""
    words = vocabulary()
    random = np.random.default_rng(seed)
    ranks = 1.0 / np.arange(1, VOCABULARY + 1)
    steps = np.cumsum(ranks) / ranks.sum()
    for start in range(0, count, BLOCK):
        drawn = np.searchsorted(steps, random.random((min(BLOCK, count - start), WORDS)))
        for offset, row in enumerate(drawn):
            texts = [words[i] for i in row]
            yield Passage(
                f"{start + offset:09d}",
                " ".join(texts[:3]),
                f"{start + offset} {' '.join(texts[3:])}",
            )


def build(count: int, folder: Path) -> None:
    """Build the index; runs in a process of its own."""
    build_index(passages(count), folder, IndexSettings(), f"generated-{count}")


def measure_build(count: int, folder: Path) -> None:
    """Print what the build took."""
    started, peak = time.perf_counter(), 0.0
    child = multiprocessing.get_context("spawn").Process(target=build, args=(count, folder))
    child.start()
    while child.is_alive():
        try:
            peak = max(peak, private_megabytes(child.pid or 0))
        except (OSError, StopIteration):
            break
        time.sleep(0.5)
    child.join()
    seconds = time.perf_counter() - started
    disk = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    segments = len(list(folder.glob("*.store")))
    memory = f"{disk:,.0f} MB on disk, {peak:,.0f} MB peak"
    print(f"built {count:,}: {seconds:.0f} s, {memory}, {segments} segments")


def make_query(passage: Passage, frequent: set[str]) -> str:
    """Make a query of six words of a passage."""
    rare = [word for word in passage.text.split()[1:] if word not in frequent]
    return " ".join(rare[:60:10])


def measure_recall(count: int, folder: Path) -> None:
    """Print how often the passage that a query was made of is found, over the whole corpus."""
    engine = EmbeddedSearch.open(folder)
    frequent = set(vocabulary()[:NUM_STOP_WORDS])
    num_found = 0
    for number in range(0, count, count // NUM_RECALLED):
        passage = engine.passage(f"{number:09d}")
        assert passage, f"passage {number} is not in the index"
        hits = engine.find(make_query(passage, frequent), TOP_K)
        num_found += passage.id in [hit.passage.id for hit in hits]
    print(f"found {num_found} of {NUM_RECALLED} passages by six of their words, top {TOP_K}")


def measure_serving(folder: Path) -> None:
    """Print what serving takes."""
    frequent = set(vocabulary()[:NUM_STOP_WORDS])
    queries = [make_query(passage, frequent) for passage in passages(2000)]
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = time.perf_counter()
    arguments = ("tantivy", "", folder.parent, listener)
    child = multiprocessing.get_context("spawn").Process(target=serve, args=arguments)
    child.start()
    try:
        asyncio.run(first_answer(url, queries[0]))
        print(f"first answer after {time.perf_counter() - started:.2f} s", flush=True)
        for rate in RATES:
            before = cpu_seconds(child.pid or 0)
            latencies, errors = asyncio.run(open_loop(url, queries, rate, SECONDS))
            cpu = (cpu_seconds(child.pid or 0) - before) * 1000 / max(len(latencies), 1)
            median, high = np.percentile(np.array(latencies) * 1000, [50, 99])
            times = f"median {median:.1f} ms, p99 {high:.1f} ms, {cpu:.1f} ms CPU"
            print(f"{rate:.0f} requests/s: {times}, {errors} errors", flush=True)
        most = asyncio.run(closed_loop(url, queries, SECONDS))
        print(
            f"at most {most:.0f} requests/s, {private_megabytes(child.pid or 0):.0f} MB private",
            flush=True,
        )
    finally:
        child.terminate()
        child.join()


def main(arguments: list[str]) -> None:
    """Build where there is no index yet, and serve."""
    count = int(arguments[0]) if arguments else 1_000_000
    folder = Path(arguments[1] if len(arguments) > 1 else f"/tmp/large_index_{count}") / "index"
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        measure_build(count, folder)
    measure_serving(folder)
    measure_recall(count, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
