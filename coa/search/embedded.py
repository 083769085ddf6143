"""Search a memory-mapped index folder with the embedded BM25 engine (tantivy)."""

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tantivy
from tantivy import DocAddress, Index, Query

from coa.search import Finder, Hit, Passage
from coa.search.analysis import (
    MAX_QUERY_TERMS,
    QUERY_STOP_WORDS,
    TITLE_BOOST,
    IndexSettings,
    analyser,
    fingerprint,
)
from coa.search.building import HEAP_BYTES, fill, new_index, read_manifest, unusable

_TIE_MARGIN = 32
"""Hits fetched beyond the limit where equally good ones may lie in different segments."""


class EmbeddedSearch(Finder):
    """A search engine over an index folder or over passages in memory."""

    def __init__(self, index: Index, settings: IndexSettings, corpus_hash: str) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()
        self._words = analyser(IndexSettings(is_stemmed=False))
        self._terms = analyser(settings)
        self.num_passages = self._searcher.num_docs
        self.fingerprint = fingerprint(corpus_hash, settings)

    @classmethod
    def open(cls, path: Path) -> "EmbeddedSearch":
        """Map the index folder `path` into memory.

        Nothing is ever written into it, so it may be shared and read-only.

        Raises:
            InputError: there is no index, or it is damaged or of another format.
        """
        manifest = read_manifest(path)
        # tantivy leaves a lock file where it opens an index, so it opens links in another folder.
        # The mapped files stay usable when the links are gone.
        with tempfile.TemporaryDirectory(prefix="coa-index-", ignore_cleanup_errors=True) as links:
            for file in path.iterdir():
                Path(links, file.name).symlink_to(file.resolve())
            try:
                return cls(Index.open(links), manifest.settings, manifest.corpus_hash)
            except ValueError as error:
                got = str(error)[:200]
                raise unusable(path, "is damaged or of another version", got) from error

    @classmethod
    def in_memory(
        cls, passages: Iterable[Passage], settings: IndexSettings | None = None
    ) -> "EmbeddedSearch":
        """Index `passages` in memory: for tests and small corpora."""
        settings = settings or IndexSettings()
        index = new_index(settings, None)
        kept = list(passages)
        fill(index, kept, HEAP_BYTES, None)
        rows = sorted((passage.id, passage.title, passage.text) for passage in kept)
        content = json.dumps(rows)
        return cls(index, settings, hashlib.sha256(content.encode()).hexdigest())

    def find(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """Find the `top_k` best passages for any text, best first, ties by id.

        There are none when no word of the query occurs in the corpus.
        """
        terms = self.query_terms(query)
        limit = min(top_k, self.num_passages)
        if not terms or limit < 1:
            return ()
        num_fetched = limit
        if self._searcher.num_segments > 1:
            num_fetched += _TIE_MARGIN
        found = self._searcher.search(self._query(terms), num_fetched, count=False).hits
        hits = [Hit(self._passage(address), score) for score, address in found]
        hits.sort(key=lambda hit: (-hit.score, hit.passage.id))
        return tuple(hits[:limit])

    def passage(self, passage_id: str) -> Passage | None:
        """Return the passage with this id; None where there is none."""
        query = Query.term_query(self._schema, "id", _without_surrogates(passage_id), "basic")
        found = self._searcher.search(query, 1, count=False)
        if not found.hits:
            return None
        _, address = found.hits[0]
        return self._passage(address)

    def passage_at(self, segment: int, position: int) -> Passage:
        """Return the passage at a place of the index; the order in a folder never changes."""
        return self._passage(DocAddress(segment, position))

    def query_terms(self, query: str) -> list[str]:
        """List the terms to search for `query`.

        The query is cut into words as passages are; it is never parsed.
        """
        query = _without_surrogates(query)
        words = self._words.analyze(query)
        all_terms = self._terms.analyze(query)
        kept = []
        for word, term in zip(words, all_terms, strict=True):
            # Words are compared before stemming: the stem of `does` is `doe`, which may be a name.
            if word not in QUERY_STOP_WORDS:
                kept.append(term)
        distinct = dict.fromkeys(kept or all_terms)
        return list(distinct)[:MAX_QUERY_TERMS]

    def _passage(self, address: DocAddress) -> Passage:
        document = self._searcher.doc(address)
        return Passage(document.get_all("id")[0], *document.get_all("body"))

    def _query(self, terms: Iterable[str]) -> Query:
        clauses: list[tuple[tantivy.Occur, Query]] = []
        for term in terms:
            in_body = Query.term_query(self._schema, "body", term, "freq")
            in_title = Query.term_query(self._schema, "title", term, "freq")
            clauses.append((tantivy.Occur.Should, in_body))
            clauses.append((tantivy.Occur.Should, Query.boost_query(in_title, TITLE_BOOST)))
        return Query.boolean_query(clauses)


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which tantivy refuses, by question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
