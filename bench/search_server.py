"""Compare the search server with bm25s+numba in the same server, and with Pyserini as in Search-R1.

    python -m bench.search_server corpus=data/raw/corpus questions=data/raw/questions.parquet
        [engines=tantivy,bm25s] [seconds=20] [rate=200] [folder=/tmp/bench]

Each engine answers HotpotQA-like questions behind `coa.search.app`, one worker, one thread, a
process of its own; stop and question words are dropped alike for all
(`EmbeddedSearch.query_terms`). It prints, for each: seconds from the start of the process to the
first answer, private memory (RssAnon), latencies of an open loop at `rate` requests a second,
requests a second of a closed loop with 8 connections, and recall of gold titles at 10. pyserini
answers as Search-R1's server does: FastAPI-like JSON around LuceneSearcher, one query at a time.
Targets: first answer under 2 s, p99 under 50 ms at 200 requests/s, no errors, half of bm25s'
requests/s at a fifth of its memory, recall within 0.5.
"""

import asyncio
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import polars as pl

from coa.records.grading import normalise
from coa.search import Hit, Passage
from coa.search.analysis import IndexSettings, analyser
from coa.search.building import build_index
from coa.search.corpus import corpus_files, corpus_hash, read_passages
from coa.search.embedded import EmbeddedSearch

TOP_K = 10
NUM_CONNECTIONS = 8


class Bm25s:
    """Engine of bm25s with numba over the same terms, all in memory."""

    fingerprint = "bm25s"

    def __init__(self, corpus: str, folder: Path) -> None:
        import bm25s

        self._passages = list(read_passages(corpus_files(corpus)))
        self._terms = EmbeddedSearch.in_memory([])
        if (folder / "bm25s").exists():
            self._engine = bm25s.BM25.load(folder / "bm25s", load_corpus=False)
        else:
            cut = analyser(IndexSettings())
            terms = [cut.analyze(f"{passage.title} {passage.text}") for passage in self._passages]
            self._engine = bm25s.BM25(k1=1.2, b=0.75)
            self._engine.index(terms, show_progress=False)
            self._engine.save(folder / "bm25s")
        self._engine.backend = "numba"
        self._engine.activate_numba_scorer()
        self.num_passages = len(self._passages)

    def find(self, query: str, top_k: int) -> list[Hit]:
        """Find the best passages."""
        terms = [term for term in self._terms.query_terms(query) if term in self._engine.vocab_dict]
        if not terms:
            return []
        ids, scores = self._engine.retrieve(
            [terms], k=top_k, show_progress=False, backend_selection="numba"
        )
        ranked = zip(ids[0], scores[0], strict=True)
        return [Hit(self._passages[i], float(score)) for i, score in ranked]

    def passage(self, passage_id: str) -> Passage | None:
        """Find nothing: this is not measured."""
        return None


class Pyserini:
    """Engine of Pyserini's LuceneSearcher, called as in Search-R1's server.

    The stored JSON is parsed for each hit.
    """

    fingerprint = "pyserini"

    def __init__(self, folder: Path) -> None:
        from pyserini.search.lucene import LuceneSearcher

        self._engine = LuceneSearcher(str(folder / "lucene"))
        self._terms = EmbeddedSearch.in_memory([], IndexSettings(is_stemmed=False))
        self.num_passages = self._engine.num_docs

    def find(self, query: str, top_k: int) -> list[Hit]:
        """Find the best passages."""
        hits = self._engine.search(" ".join(self._terms.query_terms(query)), top_k)
        return [self._hit(hit) for hit in hits]

    def _hit(self, hit: Any) -> Hit:
        title, _, text = json.loads(self._engine.doc(hit.docid).raw())["contents"].partition("\n")
        return Hit(Passage(hit.docid, title.strip('"'), text), hit.score)

    def passage(self, passage_id: str) -> Passage | None:
        """Find nothing: this is not measured."""
        return None


def open_engine(name: str, corpus: str, folder: Path) -> Any:
    """Open the engine of that name."""
    if name == "tantivy":
        return EmbeddedSearch.open(folder / "index")
    if name == "bm25s":
        return Bm25s(corpus, folder)
    return Pyserini(folder)


def serve(name: str, corpus: str, folder: Path, listener: socket.socket) -> None:
    """Serve an engine; runs in a process of its own."""
    import uvicorn

    from coa.search.app import Serving, create_app
    from coa.search.connections import server_config

    serving = Serving()
    app = create_app(open_engine(name, corpus, folder), serving)
    config = server_config(app, serving.limits, log_level="error")
    uvicorn.Server(config).run(sockets=[listener])


async def ask(session: aiohttp.ClientSession, url: str, query: str) -> list[str]:
    """Search and return the titles of the hits."""
    body = {"queries": [query], "topk": TOP_K, "return_scores": True}
    async with session.post(f"{url}/retrieve", json=body) as reply:
        reply.raise_for_status()
        hits = (await reply.json())["result"][0]
    return [hit["document"]["contents"].partition("\n")[0].strip('"') for hit in hits]


async def first_answer(url: str, query: str) -> None:
    """Wait until the server answers."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                await ask(session, url, query)
                return
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)


async def open_loop(
    url: str, queries: Sequence[str], rate: float, seconds: float
) -> tuple[list[float], int]:
    """Return latencies in seconds, from when each request was due, and the number of errors."""
    latencies: list[float] = []
    errors = 0

    async def one(due: float, query: str) -> None:
        nonlocal errors
        try:
            await ask(session, url, query)
            latencies.append(time.perf_counter() - due)
        except aiohttp.ClientError:
            errors += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        start = time.perf_counter() + 0.1
        tasks = []
        for i in range(int(rate * seconds)):
            due = start + i / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(due, queries[i % len(queries)])))
        await asyncio.gather(*tasks)
    return latencies, errors


async def closed_loop(url: str, queries: Sequence[str], seconds: float) -> float:
    """Return requests a second."""
    done = 0
    end = time.perf_counter() + seconds

    async def client(offset: int) -> None:
        nonlocal done
        position = offset
        while time.perf_counter() < end:
            await ask(session, url, queries[position % len(queries)])
            done += 1
            position += NUM_CONNECTIONS

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(i) for i in range(NUM_CONNECTIONS)))
    return done / seconds


async def recall(url: str, questions: pl.DataFrame) -> float:
    """Compute the share of gold titles among the hits, averaged over questions."""
    shares = []
    async with aiohttp.ClientSession() as session:
        for question, gold in questions.select("question", "gold_titles").iter_rows():
            found = {normalise(title) for title in await ask(session, url, question)}
            wanted = {normalise(title) for title in gold}
            shares.append(len(wanted & found) / len(wanted))
    return sum(shares) / len(shares)


def private_megabytes(pid: int) -> float:
    """Read the RssAnon of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1024


def cpu_seconds(pid: int) -> float:
    """Read user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, options: dict[str, str], questions: pl.DataFrame) -> None:
    """Serve one engine, measure it and print its line."""
    folder = Path(options["folder"])
    seconds = float(options["seconds"])
    rate = float(options["rate"])
    queries = questions["question"].to_list()
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = time.perf_counter()
    child = multiprocessing.get_context("spawn").Process(
        target=serve, args=(name, options["corpus"], folder, listener)
    )
    child.start()
    try:
        asyncio.run(first_answer(url, queries[0]))
        first = time.perf_counter() - started
        pid = child.pid or 0
        found = asyncio.run(recall(url, questions))
        before = cpu_seconds(pid)
        latencies, errors = asyncio.run(open_loop(url, queries, rate, seconds))
        cpu = (cpu_seconds(pid) - before) * 1000 / max(len(latencies), 1)
        throughput = asyncio.run(closed_loop(url, queries, seconds))
        median, high = np.percentile(np.array(latencies) * 1000, [50, 99])
        memory = private_megabytes(pid)
        print(
            f"{name:10}{first:9.2f}{memory:10.0f}{median:9.1f}{high:9.1f}{errors:8}{cpu:9.2f}"
            f"{throughput:10.0f}{found:10.4f}",
            flush=True,
        )
    finally:
        child.terminate()
        child.join()


def main(arguments: list[str]) -> None:
    """Print the table."""
    options = {
        "engines": "tantivy,bm25s",
        "seconds": "20",
        "rate": "200",
        "folder": "/tmp/bench_search",
    }
    options |= dict(argument.split("=", 1) for argument in arguments)
    folder = Path(options["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    questions = pl.read_parquet(options["questions"]).filter(
        (pl.col("dataset") == "hotpotqa") & (pl.col("gold_titles").list.len() > 0)
    )
    if not (folder / "index").exists():
        files = corpus_files(options["corpus"])
        build_index(read_passages(files), folder / "index", IndexSettings(), corpus_hash(files))
    print(f"{len(questions):,} questions, {options['rate']} requests/s for {options['seconds']} s")
    print(
        "engine     first s   priv MB   p50 ms   p99 ms  errors   CPU ms   req/s  recall@10",
        flush=True,
    )
    for name in options["engines"].split(","):
        measure(name, options, questions)


if __name__ == "__main__":
    main(sys.argv[1:])
