"""Speak the protocols of retrieval servers, as their server and as their client.

A dialect is data. `SEARCHES` says for each endpoint its path, how its fields are called and which
shape its reply has. The server (`coa/search/app.py`) mounts each endpoint under `/{dialect}{path}`
and on the bare path. The client (`coa/search/remote.py`) writes requests and reads replies with the
same endpoint. To add a dialect, add a value to `Dialect` and an endpoint to `SEARCHES`.
"""

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

import msgspec

from coa.errors import ConfigError
from coa.search import Hit, Passage, SearchError
from coa.search.settings import Dialect

FINGERPRINT_HEADER = "X-Search-Fingerprint"
"""Header in which this project's server says what it searches."""
TOKEN_VARIABLE = "COA_SEARCH_TOKEN"
"""Environment variable of the bearer token, for servers that want one and clients that send it."""


Size = Annotated[float, msgspec.Meta(ge=1, multiple_of=1)]
"""A number of passages; JSON knows one kind of number, and some clients write 3.0."""
SPELLINGS = ("top_k", "topk", "tok_k", "top_n", "topn", "k")
"""How clients name the number of passages wanted; every endpoint takes each of them, the first in
this order."""


class SearchRequest(msgspec.Struct):
    """The fields of search requests in all dialects; others are ignored."""

    query: str | list[str] | None = None
    queries: list[str] | None = None
    top_k: Size | None = None
    topk: Size | None = None
    tok_k: Size | None = None
    top_n: Size | None = None
    topn: Size | None = None
    k: Size | None = None
    return_score: bool | None = None
    return_scores: bool | None = None

    def sizes(self) -> list[int]:
        """List the numbers of passages that the request names; the first one counts."""
        sizes = [getattr(self, name) for name in SPELLINGS]
        return [int(size) for size in sizes if size is not None]


class ParsedSearch(NamedTuple):
    """A search request, independent of its dialect."""

    queries: tuple[str, ...]
    top_k: int
    has_scores: bool
    is_batch: bool


class InvalidSearchError(ValueError):
    """Report that a request cannot be answered, and with which status; the message says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


Results: TypeAlias = Sequence[Sequence[Hit]]
"""The hits for each query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchEndpoint:
    """One search endpoint of a dialect."""

    dialect: Dialect
    path: str
    field: str
    """The field that holds what is searched for: `query` or `queries`."""
    takes: tuple[type, ...]
    """What may stand there: a text, a list of texts, or either."""
    size_fields: tuple[str, ...]
    """How our client names the number of passages."""
    score_field: str = ""
    """How our client asks for scores, without which ties could not be ordered by id."""
    own_fields: tuple[str, ...] = ()
    """Fields that only this dialect has among those that share the path."""
    default_top_k: int = 3
    gives_scores: bool = False
    """Whether scores come when the request does not say."""
    blank_is_error: bool = False
    write: Callable[[ParsedSearch, Results], object]
    """Builds the reply's body."""
    hits: Callable[[Any], list[Hit]]
    """Reads the hits in the reply to a request for one query; raises SearchError where it does not
    follow the protocol."""

    def read(self, request: SearchRequest) -> ParsedSearch:
        """Read queries, size and options from a request of this dialect.

        Raises:
            InvalidSearchError: there are no queries, or one is blank where this is an error.
        """
        found: str | list[str] | None = getattr(request, self.field)
        if found is None:
            raise InvalidSearchError(422, f"Object missing required field `{self.field}`")
        if not isinstance(found, self.takes):
            wanted = "array" if list in self.takes else "str"
            raise InvalidSearchError(422, f"Expected `{wanted}` - at `$.{self.field}`")
        is_batch = not isinstance(found, str)
        queries = (found,) if isinstance(found, str) else tuple(found)
        if self.blank_is_error and not all(query.strip() for query in queries):
            raise InvalidSearchError(400, "query: it is blank")
        sizes = request.sizes()
        top_k = sizes[0] if sizes else self.default_top_k
        flags = (request.return_score, request.return_scores)
        has_scores = next((flag for flag in flags if flag is not None), self.gives_scores)
        return ParsedSearch(queries, top_k, has_scores, is_batch)

    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Build the body of our client's request for one query."""
        body: dict[str, Any] = {self.field: query if str in self.takes else [query]}
        body |= dict.fromkeys(self.size_fields, top_k)
        if self.score_field:
            body[self.score_field] = True
        return body


def contents_of(passage: Passage) -> str:
    r"""Join title and text as `"Title"\ntext`, which `split_contents` takes apart."""
    return f'"{passage.title}"\n{passage.text}'


def split_contents(contents: str) -> tuple[str, str]:
    r"""Split a wiki-18 passage, `"Title"\ntext`, into title and text.

    Without a line break, all of it is text.
    """
    title, line_break, text = contents.partition("\n")
    if not line_break:
        return "", contents
    title = title.strip()
    is_quoted = len(title) > 1 and title[0] == title[-1] == '"'
    if is_quoted:
        title = title[1:-1]
    return title, text


def document_of(passage: Passage) -> dict[str, str]:
    """Write a passage in the form that most dialects use, that of the wiki-18 corpus."""
    return {"id": passage.id, "contents": contents_of(passage)}


def _document_with_url(passage: Passage) -> dict[str, str]:
    return {**document_of(passage), "url": url_of(passage)}


def _page_of(passage: Passage) -> dict[str, str]:
    return {"url": url_of(passage), "title": passage.title, "summary": passage.text}


_SCHEME = "passage:"


def url_of(passage: Passage) -> str:
    """Give a passage an address, for dialects that open pages.

    An id that is a web address stays as it is; any other one becomes `passage:` and the quoted id.
    """
    is_url = passage.id.startswith(("http://", "https://"))
    return passage.id if is_url else _SCHEME + quote(passage.id, safe="")


def id_of(url: str) -> str:
    """Return the id of the passage at an address that `url_of` gave."""
    if url.startswith(_SCHEME):
        return unquote(url.removeprefix(_SCHEME))
    return url


# What the server writes.


def _write_flashrag(asked: ParsedSearch, results: Results) -> object:
    """Write documents and scores side by side, one object for each query."""
    replies = []
    for hits in results:
        reply: dict[str, object] = {"documents": [document_of(hit.passage) for hit in hits]}
        if asked.has_scores:
            reply["scores"] = [hit.score for hit in hits]
        replies.append(reply)
    return replies if asked.is_batch else replies[0]


def _write_recall(asked: ParsedSearch, results: Results) -> object:
    """Write documents, or documents and scores; for many queries lists of them."""
    documents: list[Any] = []
    scores: list[Any] = []
    for hits in results:
        documents.append([document_of(hit.passage) for hit in hits])
        scores.append([hit.score for hit in hits])
    columns = (documents, scores) if asked.is_batch else (documents[0], scores[0])
    return columns if asked.has_scores else columns[0]


def _write_result(
    document: Callable[[Passage], object], asked: ParsedSearch, results: Results
) -> object:
    """Write `{"result": [[...]]}`: documents, or documents with their scores."""
    lists: list[list[object]] = []
    for hits in results:
        if asked.has_scores:
            lists.append([{"document": document(hit.passage), "score": hit.score} for hit in hits])
        else:
            lists.append([document(hit.passage) for hit in hits])
    return {"result": lists}


def _write_answers(asked: ParsedSearch, results: Results) -> object:
    """Write the texts, each beginning with the quoted title.

    Without the quotes, a client would take leading digits for a number and drop them.
    """
    return {"answers": [[contents_of(hit.passage) for hit in hits] for hits in results]}


def _write_pages(asked: ParsedSearch, results: Results) -> object:
    """Write the results of the only query as pages with an address."""
    return {"results": [_page_of(hit.passage) for hit in results[0]]}


# What the client reads.


def _read_flashrag(reply: Any) -> list[Hit]:
    fields = reply if isinstance(reply, dict) else {}
    documents = fields.get("documents")
    scores = fields.get("scores")
    if not isinstance(documents, list) or not isinstance(scores, list | None):
        raise malformed('{"documents": [...], "scores": [...]}', reply)
    return _hits_from(documents, scores, reply)


def _read_recall(reply: Any) -> list[Hit]:
    if not isinstance(reply, list):
        raise malformed("[documents, scores], equally many", reply)
    if len(reply) == 2 and all(isinstance(part, list) for part in reply):
        documents, scores = reply
        return _hits_from(documents, scores, reply)
    return _hits_from(reply, None, reply)  # a server that gives no scores


def _hits_from(documents: list[Any], scores: list[Any] | None, reply: Any) -> list[Hit]:
    """Read documents and their scores, in two lists, as ranked hits."""
    if scores is None:
        scores = [0.0] * len(documents)
    if len(scores) != len(documents):
        raise malformed("as many scores as documents", reply)
    hits = []
    for document, score in zip(documents, scores, strict=True):
        hits.append(Hit(_passage_from(document), _score_from(score)))
    return _ranked(hits)


def _read_list(key: str, reply: Any) -> list[Hit]:
    """Read the documents that stand under `key`, with or without their scores."""
    documents = reply.get(key) if isinstance(reply, dict) else None
    if not isinstance(documents, list):
        raise malformed(f'{{"{key}": [...]}}', reply)
    hits = []
    for item in documents:
        if isinstance(item, dict) and "document" in item:
            passage = _passage_from(item["document"])
            hits.append(Hit(passage, _score_from(item.get("score", 0.0))))
        else:
            hits.append(Hit(_passage_from(item), 0.0))
    return _ranked(hits)


def _read_only_list(key: str, reply: Any) -> list[Hit]:
    """Read the documents of the only list that stands under `key`."""
    lists = reply.get(key) if isinstance(reply, dict) else None
    if not isinstance(lists, list) or len(lists) != 1:
        raise malformed(f'{{"{key}": [[...]]}} with one list for the one query', reply)
    return _read_list(key, {key: lists[0]})


def _passage_from(document: Any) -> Passage:
    """Read the passage in a document that a server sent, in any of the usual forms.

    A document without an id, which some servers send, is identified by its text: `sha256:` and 16
    hex digits.
    """
    fields = {"contents": document} if isinstance(document, str) else document
    if not isinstance(fields, dict):
        raise malformed("documents that are objects or texts", document)
    contents = _first_value(fields, ("contents", "text", "summary"), str)
    if not contents:
        raise malformed('documents {"id", "contents"}', document)
    if "contents" in fields:
        title, text = split_contents(contents)
    else:
        title = str(fields.get("title") or "")
        text = contents
    named = _first_value(fields, ("id", "url"), (str, int))
    if named is None:
        digest = hashlib.sha256(contents.encode("utf-8", "replace")).hexdigest()
        passage_id = f"sha256:{digest[:16]}"
    else:
        passage_id = id_of(str(named))
    return Passage(passage_id, title, text)


def _first_value(
    fields: dict[str, Any], names: tuple[str, ...], kind: type | tuple[type, ...]
) -> Any:
    """Return the first of the named values that has the wanted type; None where none has."""
    for name in names:
        if isinstance(fields.get(name), kind):
            return fields[name]
    return None


def _score_from(score: Any) -> float:
    """Check a score that a server sent."""
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or not math.isfinite(score):
        raise malformed("scores that are numbers", score)
    return float(score)


def _ranked(hits: list[Hit]) -> list[Hit]:
    """Sort hits best first, ties by id; keep the server's order where it gives no scores."""
    if not any(hit.score for hit in hits):
        return hits
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))


def malformed(expected: str, got: Any) -> SearchError:
    """Build the error for a reply that does not follow the protocol."""
    try:
        shown = msgspec.json.encode(got).decode("utf-8", "replace")
    except (UnicodeEncodeError, TypeError):
        shown = repr(got)
    # The caller shortens it further, after it has removed the keys: it would not find half a key.
    return SearchError(
        f"the search server's reply is malformed: expected {expected}, got {shown[:10_000]!r}"
    )


_FLASHRAG = SearchEndpoint(
    dialect=Dialect.FLASHRAG,
    path="/retrieve",
    field="query",
    takes=(str, list),
    size_fields=("tok_k", "top_k"),  # AutoCoA's server reads the first, FlashRAG's the second
    score_field="return_score",
    own_fields=("tok_k", "return_score"),
    gives_scores=True,
    write=_write_flashrag,
    hits=_read_flashrag,
)
_SEARCH_R1 = SearchEndpoint(
    dialect=Dialect.SEARCH_R1,
    path="/retrieve",
    field="queries",
    takes=(list,),
    size_fields=("topk",),
    score_field="return_scores",
    write=partial(_write_result, document_of),
    hits=partial(_read_only_list, "result"),
)
_SKYRL = replace(
    _SEARCH_R1,
    dialect=Dialect.SKYRL,
    field="query",
    takes=(str,),
    own_fields=("topk", "return_scores"),
)
_ASEARCHER = replace(
    _SEARCH_R1,
    dialect=Dialect.ASEARCHER,
    default_top_k=10,
    write=partial(_write_result, _document_with_url),
)
_RECALL = SearchEndpoint(
    dialect=Dialect.RECALL,
    path="/search",
    field="query",
    takes=(str,),
    size_fields=("top_n",),
    score_field="return_score",
    own_fields=("top_n", "return_score"),
    default_top_k=10,
    blank_is_error=True,
    write=_write_recall,
    hits=_read_recall,
)
_RECALL_BATCH = replace(_RECALL, path="/batch_search", takes=(list,), blank_is_error=False)
_R1_SEARCHER = SearchEndpoint(
    dialect=Dialect.R1_SEARCHER,
    path="/queries",
    field="queries",
    takes=(list,),
    size_fields=("k",),
    default_top_k=5,
    write=_write_answers,
    hits=partial(_read_only_list, "answers"),
)
_OPENRESEARCHER = SearchEndpoint(
    dialect=Dialect.OPENRESEARCHER,
    path="/search",
    field="query",
    takes=(str,),
    size_fields=("topn",),
    own_fields=("topn",),
    default_top_k=10,
    blank_is_error=True,  # as for ReCall, whose requests on this path may look the same
    write=_write_pages,
    hits=partial(_read_list, "results"),
)
SEARCHES = (
    _FLASHRAG,
    _SEARCH_R1,
    _SKYRL,
    _ASEARCHER,
    _RECALL,
    _RECALL_BATCH,
    _R1_SEARCHER,
    _OPENRESEARCHER,
)
"""All search endpoints; of a dialect's, our client asks the first."""


def of_dialect(dialect: Dialect) -> SearchEndpoint:
    """Return the endpoint that a client of `dialect` asks."""
    return next(endpoint for endpoint in SEARCHES if endpoint.dialect is dialect)


def resolve_endpoint(path: str, request: SearchRequest, default: Dialect) -> SearchEndpoint:
    """Choose the endpoint that a request on the bare `path` is meant for.

    Told by the fields where one dialect alone has them; else `default` where it can read the
    request, else the first that can: FlashRAG before SkyRL, Search-R1 before ASearcher, ReCall
    before OpenResearcher.
    """
    on_path = [endpoint for endpoint in SEARCHES if endpoint.path == path]
    field = "query" if request.queries is None else "queries"
    able = [endpoint for endpoint in on_path if endpoint.field == field] or on_path
    asked = getattr(request, field)
    able = [endpoint for endpoint in able if isinstance(asked, endpoint.takes)] or able
    for endpoint in able:
        if any(getattr(request, name) is not None for name in endpoint.own_fields):
            return endpoint
    for endpoint in able:
        if endpoint.dialect is default:
            return endpoint
    return able[0]


# Pages: ASearcher's `/access` and OpenResearcher's `/get_content`.


class AccessRequest(msgspec.Struct):
    """ASearcher's `{"urls": addresses}`."""

    urls: list[str]


class GetContentRequest(msgspec.Struct):
    """OpenResearcher's `{"url": address}`."""

    url: str

    @property
    def urls(self) -> list[str]:
        """Put the one address in a list."""
        return [self.url]


@dataclass(frozen=True, slots=True)
class PageEndpoint:
    """One endpoint that opens pages."""

    dialect: Dialect
    path: str
    request: type[AccessRequest] | type[GetContentRequest]
    write: Callable[[Sequence[Passage | None]], object | None]
    """Builds the reply's body from a page or None for each address; None where the dialect answers
    that there is no such page."""


def _write_accessed(pages: Sequence[Passage | None]) -> object:
    accessed = []
    for page in pages:
        accessed.append({"url": url_of(page), "contents": contents_of(page)} if page else None)
    return {"result": accessed}


def _write_content(pages: Sequence[Passage | None]) -> object | None:
    (page,) = pages
    if page is None:
        return None
    return {"url": url_of(page), "title": page.title, "content": page.text}


PAGES = (
    PageEndpoint(Dialect.ASEARCHER, "/access", AccessRequest, _write_accessed),
    PageEndpoint(Dialect.OPENRESEARCHER, "/get_content", GetContentRequest, _write_content),
)


def bearer_token() -> str:
    """Read the token of search servers from the environment; it is empty where none is set.

    Raises:
        ConfigError: it cannot be sent in a header.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(
            f"the token in {TOKEN_VARIABLE} cannot be sent", expected="printable ASCII on one line"
        )
    return token
