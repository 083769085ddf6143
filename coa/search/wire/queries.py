"""Speak the dialects with paths of their own: ReCall's, R1-Searcher's and OpenResearcher's."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec

from coa.search import Hit
from coa.search.wire import (
    ClientEndpoint,
    Dialect,
    Document,
    ParsedSearch,
    SearchEndpoint,
    SearchRequest,
    contents_of,
    document_of,
    hits_from,
    malformed,
    passage_from,
    url_of,
)

NotBlank = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"\S"})]
"""A query that is not blank. Only the OpenAPI description uses the pattern: the server refuses
blank queries with ReCall's status rather than with that of a wrong type."""


class ReCallRequest(SearchRequest, kw_only=True):
    """`{"query": text, "top_n": 10, "return_score": false}`."""

    query: NotBlank


class ReCall(ClientEndpoint[ReCallRequest]):
    """ReCall's server: documents, or `[documents, scores]`."""

    dialect = Dialect.RECALL
    path = "/search"
    request = ReCallRequest
    replies = (list[Document], tuple[list[Document], list[float]])
    default_top_k = 10
    gives_scores = False
    blank_is_error = True

    def claims(self, body: dict[str, Any]) -> bool:
        """Claim bodies that have a key spelt only here."""
        return bool({"top_n", "return_score"} & body.keys())

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Write the documents, or documents and scores side by side."""
        documents, scores = _columns(results)
        if not asked.has_scores:
            return documents[0]
        return [documents[0], scores[0]]

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Ask for scores too, without which ties could not be ordered by id."""
        return {"query": query, "top_n": top_k, "return_score": True}

    def hits(self, reply: Any) -> list[Hit]:
        """Read the hits; a server that gives no scores sends the documents alone."""
        expected = "[documents, scores], equally many"
        if not isinstance(reply, list):
            raise malformed(expected, reply)
        has_scores = len(reply) == 2 and all(isinstance(part, list) for part in reply)
        if not has_scores:
            return hits_from(reply, [0.0] * len(reply))
        documents, scores = reply
        if len(documents) != len(scores):
            raise malformed(expected, reply)
        return hits_from(documents, scores)


class ReCallBatchRequest(SearchRequest, kw_only=True):
    """`{"query": texts, "top_n": 10, "return_score": false}`."""

    query: list[str]


class ReCallBatch(SearchEndpoint[ReCallBatchRequest]):
    """ReCall's server, many queries at once."""

    dialect = Dialect.RECALL
    path = "/batch_search"
    request = ReCallBatchRequest
    replies = (list[list[Document]], tuple[list[list[Document]], list[list[float]]])
    default_top_k = 10
    gives_scores = False

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Write lists of documents, or lists of documents and lists of scores."""
        documents, scores = _columns(results)
        return [documents, scores] if asked.has_scores else documents


def _columns(results: Sequence[Sequence[Hit]]) -> tuple[list[list[Document]], list[list[float]]]:
    documents = []
    scores = []
    for hits in results:
        documents.append([document_of(hit.passage) for hit in hits])
        scores.append([hit.score for hit in hits])
    return documents, scores


class R1SearcherRequest(SearchRequest, kw_only=True):
    """`{"queries": texts, "k": 5}`."""

    queries: list[str]


class R1SearcherReply(msgspec.Struct):
    """Texts for each query."""

    answers: list[list[str]]


class R1Searcher(ClientEndpoint[R1SearcherRequest]):
    """R1-Searcher's server: documents are texts, without ids or scores."""

    dialect = Dialect.R1_SEARCHER
    path = "/queries"
    request = R1SearcherRequest
    replies = (R1SearcherReply,)
    default_top_k = 5
    gives_scores = False

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Write the texts, each beginning with the quoted title.

        Without the quotes, a client would take leading digits for a number and drop them.
        """
        answers = []
        for hits in results:
            answers.append([contents_of(hit.passage) for hit in hits])
        return R1SearcherReply(answers)

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Send one query in a list."""
        return {"queries": [query], "k": top_k}

    def hits(self, reply: Any) -> list[Hit]:
        """Read the hits of the only list, in the server's order."""
        answers = reply.get("answers") if isinstance(reply, dict) else None
        if not isinstance(answers, list) or len(answers) != 1 or not isinstance(answers[0], list):
            raise malformed('{"answers": [[...]]} with one list for the one query', reply)
        return [Hit(passage_from(text), 0.0) for text in answers[0]]


class OpenResearcherRequest(SearchRequest, kw_only=True):
    """`{"query": text, "topn": 10}`."""

    query: NotBlank


class PageSummary(msgspec.Struct):
    """A passage as a result of web search."""

    url: str
    title: str
    summary: str


class OpenResearcherReply(msgspec.Struct):
    """The results of one query."""

    results: list[PageSummary]


class OpenResearcher(ClientEndpoint[OpenResearcherRequest]):
    """OpenResearcher's server."""

    dialect = Dialect.OPENRESEARCHER
    path = "/search"
    request = OpenResearcherRequest
    replies = (OpenResearcherReply,)
    default_top_k = 10
    gives_scores = False
    blank_is_error = True  # as for ReCall, whose requests on this path may look the same

    def claims(self, body: dict[str, Any]) -> bool:
        """Claim bodies with the spelling that only this dialect has."""
        return "topn" in body

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Write the results as pages with an address."""
        summaries = []
        for hit in results[0]:
            page = hit.passage
            summaries.append(PageSummary(url_of(page), page.title, page.text))
        return OpenResearcherReply(summaries)

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Send the query as it is."""
        return {"query": query, "topn": top_k}

    def hits(self, reply: Any) -> list[Hit]:
        """Read the hits, in the server's order."""
        results = reply.get("results") if isinstance(reply, dict) else None
        if not isinstance(results, list):
            raise malformed('{"results": [...]}', reply)
        return [Hit(passage_from(result), 0.0) for result in results]
