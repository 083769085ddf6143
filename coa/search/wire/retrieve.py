"""Speak the dialects of `/retrieve`: FlashRAG's (AutoCoA), Search-R1's, SkyRL's and ASearcher's."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from coa.search import Hit
from coa.search.wire import (
    ClientEndpoint,
    Dialect,
    Document,
    ParsedSearch,
    ScoredDocument,
    SearchRequest,
    contents_of,
    document_of,
    hits_from,
    malformed,
    passage_from,
    ranked,
    score_from,
    url_of,
)


class FlashRagRequest(SearchRequest, kw_only=True):
    """`{"query": text or texts, "tok_k": 3, "return_score": true}`."""

    query: str | list[str]


class FlashRagReply(msgspec.Struct, omit_defaults=True):
    """The documents for one query, the scores in a list of their own."""

    documents: list[Document]
    scores: list[float] | None = None


class FlashRag(ClientEndpoint[FlashRagRequest]):
    """AutoCoA's server: one query gives one reply, a list of queries a list of replies."""

    dialect = Dialect.FLASHRAG
    path = "/retrieve"
    request = FlashRagRequest
    replies = (FlashRagReply, list[FlashRagReply])
    default_top_k = 3
    gives_scores = True

    def claims(self, body: dict[str, Any]) -> bool:
        """Claim bodies whose `query` is a list or that have a key spelt only here."""
        has_spelling = "query" in body and bool({"tok_k", "return_score"} & body.keys())
        return has_spelling or isinstance(body.get("query"), list)

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Write documents and scores side by side."""
        replies = [_flashrag(hits, asked.has_scores) for hits in results]
        return replies if asked.is_batch else replies[0]

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Send both spellings: AutoCoA's server reads one, FlashRAG's the other."""
        return {"query": query, "tok_k": top_k, "top_k": top_k, "return_score": True}

    def hits(self, reply: Any) -> list[Hit]:
        """Read the hits of one reply."""
        fields = reply if isinstance(reply, dict) else {}
        documents = fields.get("documents")
        scores = fields.get("scores")
        if not isinstance(documents, list) or not isinstance(scores, list | None):
            raise malformed('{"documents": [...], "scores": [...]}', reply)
        if scores is None:
            scores = [0.0] * len(documents)
        if len(scores) != len(documents):
            raise malformed("as many scores as documents", reply)
        return hits_from(documents, scores)


def _flashrag(hits: Sequence[Hit], has_scores: bool) -> FlashRagReply:
    scores = [hit.score for hit in hits] if has_scores else None
    return FlashRagReply([document_of(hit.passage) for hit in hits], scores)


class SearchR1Request(SearchRequest, kw_only=True):
    """`{"queries": texts, "topk": 3, "return_scores": false}`."""

    queries: list[str]


class ScoredReply(msgspec.Struct):
    """A list for each query: documents with their scores."""

    result: list[list[ScoredDocument]]


class BareReply(msgspec.Struct):
    """A list for each query: documents."""

    result: list[list[Document]]


AnyRequest = TypeVar("AnyRequest", bound=SearchRequest)


class _ResultLists(ClientEndpoint[AnyRequest]):
    """Base of Search-R1's dialect and its relatives."""

    path = "/retrieve"
    replies: ClassVar[tuple[Any, ...]] = (ScoredReply, BareReply)
    default_top_k = 3
    gives_scores = False

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Write `{"result": [[...]]}`."""
        lists = []
        for hits in results:
            lists.append([self._item(hit, asked.has_scores) for hit in hits])
        return {"result": lists}

    def _item(self, hit: Hit, has_scores: bool) -> object:
        document = self._document(hit)
        if not has_scores:
            return document
        return {"document": document, "score": hit.score}

    def _document(self, hit: Hit) -> object:
        return document_of(hit.passage)

    def hits(self, reply: Any) -> list[Hit]:
        """Read the hits of the only list, with or without scores."""
        results = reply.get("result") if isinstance(reply, dict) else None
        if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], list):
            raise malformed('{"result": [[...]]} with one list for the one query', reply)
        return ranked([_hit(item) for item in results[0]])


def _hit(item: Any) -> Hit:
    is_scored = isinstance(item, dict) and "document" in item
    if not is_scored:
        return Hit(passage_from(item), 0.0)
    return Hit(passage_from(item["document"]), score_from(item.get("score", 0.0)))


class SearchR1(_ResultLists[SearchR1Request]):
    """Search-R1's server."""

    dialect = Dialect.SEARCH_R1
    request = SearchR1Request

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Send one query in a list."""
        return {"queries": [query], "topk": top_k, "return_scores": True}


class SkyRlRequest(SearchRequest, kw_only=True):
    """`{"query": text, "topk": 3, "return_scores": true}`."""

    query: str


class SkyRl(_ResultLists[SkyRlRequest]):
    """SkyRL's server: one query, in a list of one list."""

    dialect = Dialect.SKYRL
    request = SkyRlRequest

    def claims(self, body: dict[str, Any]) -> bool:
        """Claim bodies with one `query` and Search-R1's spellings."""
        has_spelling = bool({"topk", "return_scores"} & body.keys())
        return has_spelling and isinstance(body.get("query"), str)

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Send the query as it is."""
        return {"query": query, "topk": top_k, "return_scores": True}


class UrlDocument(msgspec.Struct):
    """A passage with an address at which `/access` gives it."""

    id: str
    contents: str
    url: str


class ScoredUrlDocument(msgspec.Struct):
    """The same with its score."""

    document: UrlDocument
    score: float


class ScoredUrlReply(msgspec.Struct):
    """Search-R1's scored reply with addresses."""

    result: list[list[ScoredUrlDocument]]


class UrlReply(msgspec.Struct):
    """Search-R1's bare reply with addresses."""

    result: list[list[UrlDocument]]


class ASearcher(SearchR1):
    """ASearcher's server."""

    dialect = Dialect.ASEARCHER
    replies = (ScoredUrlReply, UrlReply)
    default_top_k = 10

    def _document(self, hit: Hit) -> object:
        return UrlDocument(hit.passage.id, contents_of(hit.passage), url_of(hit.passage))
