"""Queries to ranked passages: the embedded BM25 engine (tantivy) over a folder that is memory-mapped."""

import asyncio
import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tantivy
from tantivy import DocAddress, Index, Query

from coa.search import Hit, Passage
from coa.search.analysis import (
    MAX_QUERY_TERMS,
    QUERY_STOP_WORDS,
    TITLE_BOOST,
    IndexSettings,
    analyser,
    fingerprint,
)
from coa.search.building import HEAP_BYTES, fill, new_index, read_manifest, unusable

_TIE_MARGIN = 32  # hits fetched beyond the cut where ties may cross segments


class EmbeddedSearch:
    """A search engine over an index folder or over passages in memory. Safe to use from several threads."""

    def __init__(self, index: Index, settings: IndexSettings, corpus_hash: str) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()
        self._words, self._terms = analyser(IndexSettings(is_stemmed=False)), analyser(settings)
        self.num_passages: int = self._searcher.num_docs
        self.fingerprint = fingerprint(corpus_hash, settings)

    @classmethod
    def open(cls, path: Path) -> "EmbeddedSearch":
        """Map the index folder `path`; nothing is ever written into it, so it may be shared and read-only.

        Raises:
            InputError: there is no index, or it is damaged or of another format.
        """
        manifest = read_manifest(path)
        # tantivy leaves a lock file where it opens an index: so it opens links, which the mapped files outlive.
        with tempfile.TemporaryDirectory(prefix="coa-index-", ignore_cleanup_errors=True) as links:
            for file in path.iterdir():
                Path(links, file.name).symlink_to(file.resolve())
            try:
                return cls(Index.open(links), manifest.settings, manifest.corpus_hash)
            except ValueError as error:
                raise unusable(
                    path, "is damaged or of another version", str(error)[:200]
                ) from error

    @classmethod
    def in_memory(
        cls, passages: Iterable[Passage], settings: IndexSettings | None = None
    ) -> "EmbeddedSearch":
        """Index `passages` in memory: for tests and small corpora."""
        settings = settings or IndexSettings()
        index, kept = new_index(settings, None), list(passages)
        fill(index, kept, HEAP_BYTES, None)
        content = json.dumps(sorted((passage.id, passage.title, passage.text) for passage in kept))
        return cls(index, settings, hashlib.sha256(content.encode()).hexdigest())

    async def search(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """`find` in a thread, so that other rollouts go on meanwhile."""
        return await asyncio.to_thread(self.find, query, top_k)

    def find(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """The `top_k` best passages for any text, best first, ties by id; none when no word of the query occurs."""
        limit = min(top_k, self.num_passages)
        terms = self.query_terms(query)
        if limit < 1 or not terms:
            return ()
        fetched = limit + (_TIE_MARGIN if self._searcher.num_segments > 1 else 0)
        found = self._searcher.search(self._query(terms), fetched, count=False).hits
        hits = [Hit(self._passage(address), score) for score, address in found]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))[:limit])

    def passage(self, passage_id: str) -> Passage | None:
        """The passage with this id; None where there is none."""
        found = self._searcher.search(
            Query.term_query(self._schema, "id", _whole(passage_id), "basic"), 1, count=False
        )
        return self._passage(found.hits[0][1]) if found.hits else None

    def query_terms(self, query: str) -> list[str]:
        """The terms that are searched for `query`, which is cut into words as passages are and never parsed."""
        query = _whole(query)
        pairs = list(zip(self._words.analyze(query), self._terms.analyze(query), strict=True))
        # Compared before stemming: the stem of `does` is `doe`, which may be a name.
        kept = [term for word, term in pairs if word not in QUERY_STOP_WORDS] or [
            term for _, term in pairs
        ]
        return list(dict.fromkeys(kept))[:MAX_QUERY_TERMS]

    def _passage(self, address: DocAddress) -> Passage:
        document = self._searcher.doc(address)
        return Passage(document.get_all("id")[0], *document.get_all("body"))

    def _query(self, terms: Iterable[str]) -> Query:
        clauses: list[tuple[tantivy.Occur, Query]] = []
        for term in terms:
            in_title = Query.term_query(self._schema, "title", term, "freq")
            clauses.append(
                (tantivy.Occur.Should, Query.term_query(self._schema, "body", term, "freq"))
            )
            clauses.append((tantivy.Occur.Should, Query.boost_query(in_title, TITLE_BOOST)))
        return Query.boolean_query(clauses)


def _whole(text: str) -> str:
    """The text without lone surrogates, which tantivy refuses."""
    return text.encode("utf-8", "replace").decode("utf-8")
