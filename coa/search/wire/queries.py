"""The dialects with paths of their own: ReCall's, R1-Searcher's and OpenResearcher's."""

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
    malformed,
    passage_from,
    ranked,
    score_from,
    url_of,
)

NotBlank = Annotated[str, msgspec.Meta(extra_json_schema={"pattern": r"\S"})]
"""Said in the description; refused with ReCall's status rather than that of a wrong type."""


class ReCallRequest(SearchRequest, kw_only=True):
    """`{"query": text, "top_n": 10, "return_score": false}`."""

    query: NotBlank


class ReCall(ClientEndpoint[ReCallRequest]):
    """ReCall's server: documents, or `[documents, scores]`."""

    dialect, path = Dialect.RECALL, "/search"
    request, replies = ReCallRequest, (list[Document], tuple[list[Document], list[float]])
    default_top_k, gives_scores = 10, False
    blank_is_error = True

    def claims(self, body: dict[str, Any]) -> bool:
        """A key has a spelling of its own."""
        return bool({"top_n", "return_score"} & body.keys())

    def queries(self, request: ReCallRequest) -> str | list[str]:
        """The one query."""
        return request.query

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """The documents, or documents and scores side by side."""
        documents, scores = _columns(results)
        return [documents[0], scores[0]] if asked.has_scores else documents[0]

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """With scores, which break no ties otherwise."""
        return {"query": query, "top_n": top_k, "return_score": True}

    def hits(self, reply: Any) -> list[Hit]:
        """The hits; a server that gives no scores sends the documents alone."""
        is_list = isinstance(reply, list)
        has_scores = is_list and len(reply) == 2 and all(isinstance(part, list) for part in reply)
        if not is_list or (has_scores and len(reply[0]) != len(reply[1])):
            raise malformed("[documents, scores], equally many", reply)
        documents, scores = reply if has_scores else (reply, [0.0] * len(reply))
        pairs = zip(documents, scores, strict=True)
        return ranked([Hit(passage_from(document), score_from(score)) for document, score in pairs])


class ReCallBatchRequest(SearchRequest, kw_only=True):
    """`{"query": texts, "top_n": 10, "return_score": false}`."""

    query: list[str]


class ReCallBatch(SearchEndpoint[ReCallBatchRequest]):
    """ReCall's server, many queries at once."""

    dialect, path = Dialect.RECALL, "/batch_search"
    request = ReCallBatchRequest
    replies = (list[list[Document]], tuple[list[list[Document]], list[list[float]]])
    default_top_k, gives_scores = 10, False

    def claims(self, body: dict[str, Any]) -> bool:
        """Nobody else has this path."""
        return True

    def queries(self, request: ReCallBatchRequest) -> str | list[str]:
        """The list of queries."""
        return request.query

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Lists of documents, or lists of documents and lists of scores."""
        documents, scores = _columns(results)
        return [documents, scores] if asked.has_scores else documents


def _columns(results: Sequence[Sequence[Hit]]) -> tuple[list[list[Document]], list[list[float]]]:
    documents = [[document_of(hit.passage) for hit in hits] for hits in results]
    return documents, [[hit.score for hit in hits] for hits in results]


class R1SearcherRequest(SearchRequest, kw_only=True):
    """`{"queries": texts, "k": 5}`."""

    queries: list[str]


class R1SearcherReply(msgspec.Struct):
    """Texts for each query."""

    answers: list[list[str]]


class R1Searcher(ClientEndpoint[R1SearcherRequest]):
    """R1-Searcher's server: documents are texts, without ids or scores."""

    dialect, path = Dialect.R1_SEARCHER, "/queries"
    request, replies = R1SearcherRequest, (R1SearcherReply,)
    default_top_k, gives_scores = 5, False

    def claims(self, body: dict[str, Any]) -> bool:
        """Nobody else has this path."""
        return True

    def queries(self, request: R1SearcherRequest) -> str | list[str]:
        """The list of queries."""
        return request.queries

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """The texts begin with the quoted title: a client takes leading digits for a number and drops them."""
        return R1SearcherReply([[contents_of(hit.passage) for hit in hits] for hits in results])

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """One query in a list."""
        return {"queries": [query], "k": top_k}

    def hits(self, reply: Any) -> list[Hit]:
        """The hits of the only list, in the server's order."""
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

    dialect, path = Dialect.OPENRESEARCHER, "/search"
    request, replies = OpenResearcherRequest, (OpenResearcherReply,)
    default_top_k, gives_scores = 10, False
    blank_is_error = True  # as for ReCall, whose requests on this path may look the same

    def claims(self, body: dict[str, Any]) -> bool:
        """The spelling of its own."""
        return "topn" in body

    def queries(self, request: OpenResearcherRequest) -> str | list[str]:
        """The one query."""
        return request.query

    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """The results as pages with an address."""
        pages = (hit.passage for hit in results[0])
        return OpenResearcherReply(
            [PageSummary(url_of(page), page.title, page.text) for page in pages]
        )

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """The query as it is."""
        return {"query": query, "topn": top_k}

    def hits(self, reply: Any) -> list[Hit]:
        """The hits, in the server's order."""
        results = reply.get("results") if isinstance(reply, dict) else None
        if not isinstance(results, list):
            raise malformed('{"results": [...]}', reply)
        return [Hit(passage_from(result), 0.0) for result in results]
