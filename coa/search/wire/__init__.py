"""Speak the protocols of retrieval servers, as their server and as their client.

Each module holds a family of dialects. `SEARCHES` and `PAGES` list the endpoints. The server
(`coa/search/app.py`) mounts each endpoint under `/{dialect}{path}` and on the bare path. The client
(`coa/search/remote.py`) writes requests and reads replies with the same endpoint. To add a dialect,
add a value to `Dialect`, its endpoints to a module here, and those to the lists.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar
from urllib.parse import quote, unquote

import msgspec

from coa.search import Hit, Passage, SearchError
from coa.search.corpus import split_contents


class Dialect(StrEnum):
    """Protocol that a server or its client speaks."""

    FLASHRAG = "flashrag"
    """AutoCoA's and FlashRAG's `/retrieve`: `query`, `tok_k` (so misspelt) or `top_k`,
    `return_score`."""
    RECALL = "recall"
    """ReCall's and ReSearch's `/search` and `/batch_search`: `query`, `top_n`, `return_score`."""
    SEARCH_R1 = "search_r1"
    """Search-R1's `/retrieve`, also that of slime, Tree-GRPO and verl: `queries`, `topk`,
    `return_scores`."""
    SKYRL = "skyrl"
    """SkyRL's `/retrieve`: Search-R1's with one `query`."""
    ASEARCHER = "asearcher"
    """ASearcher's `/retrieve`, whose documents have a `url`, and `/access`, which reads them."""
    R1_SEARCHER = "r1_searcher"
    """R1-Searcher's `/queries`: `queries`, `k`; documents are texts."""
    OPENRESEARCHER = "openresearcher"
    """OpenResearcher's `/search` (`query`, `topn`) and `/get_content`."""


Size = Annotated[float, msgspec.Meta(ge=1, multiple_of=1)]
"""A number of passages; JSON knows one kind of number, and some clients write 3.0."""
SPELLINGS = ("top_k", "topk", "tok_k", "top_n", "topn", "k")
"""How clients name the number of passages wanted; every endpoint takes each of them, the first in
this order."""


class SearchRequest(msgspec.Struct, kw_only=True):
    """Fields that all search requests may have; unknown fields are ignored."""

    top_k: Size | None = None
    topk: Size | None = None
    tok_k: Size | None = None
    top_n: Size | None = None
    topn: Size | None = None
    k: Size | None = None
    return_score: bool | None = None
    return_scores: bool | None = None


class ParsedSearch(NamedTuple):
    """A search request, independent of its dialect."""

    queries: tuple[str, ...]
    top_k: int
    has_scores: bool
    is_batch: bool


class InvalidSearchError(ValueError):
    """Report that a request cannot be answered; the message says why."""


Request = TypeVar("Request", bound=SearchRequest)


class SearchEndpoint(ABC, Generic[Request]):
    """One search endpoint of a dialect, as the server sees it."""

    dialect: ClassVar[Dialect]
    path: ClassVar[str]
    request: type[Request]
    replies: ClassVar[tuple[Any, ...]]
    """The types that the reply's body may have."""
    default_top_k: ClassVar[int]
    gives_scores: ClassVar[bool]
    """Whether scores come when the request does not say."""
    blank_is_error: ClassVar[bool] = False

    def claims(self, body: dict[str, Any]) -> bool:
        """Tell whether a body sent to the bare path can only be meant for this endpoint.

        Where the keys cannot tell, as those of Search-R1 and ASearcher, none claims it.
        """
        return False

    def queries(self, request: Request) -> str | list[str]:
        """Return the query, or the list of queries: the field `queries` or `query`."""
        name = "queries" if "queries" in request.__struct_fields__ else "query"
        found: str | list[str] = getattr(request, name)
        return found

    @abstractmethod
    def write(self, asked: ParsedSearch, results: Sequence[Sequence[Hit]]) -> object:
        """Build the reply's body from one sequence of hits for each query."""

    def read(self, request: Request) -> ParsedSearch:
        """Read queries, size and options from a request of this dialect.

        Raises:
            InvalidSearchError: a query is blank where this is an error.
        """
        queries = self.queries(request)
        is_batch = not isinstance(queries, str)
        asked = (queries,) if isinstance(queries, str) else tuple(queries)
        if self.blank_is_error and not all(query.strip() for query in asked):
            raise InvalidSearchError("query: it is blank")
        sizes = sizes_in(request)
        top_k = sizes[0] if sizes else self.default_top_k
        return ParsedSearch(asked, top_k, self._wants_scores(request), is_batch)

    def _wants_scores(self, request: Request) -> bool:
        for flag in (request.return_score, request.return_scores):
            if flag is not None:
                return flag
        return self.gives_scores


class ClientEndpoint(SearchEndpoint[Request]):
    """A search endpoint that our client can ask, too."""

    @abstractmethod
    def ask(self, query: str, top_k: int) -> dict[str, Any]:
        """Build the body of a request for one query."""

    @abstractmethod
    def hits(self, reply: Any) -> list[Hit]:
        """Read the hits in the reply to such a request.

        Raises:
            SearchError: the reply does not follow the protocol.
        """


def sizes_in(request: SearchRequest) -> list[int]:
    """List the numbers of passages that a request names; the first one counts."""
    sizes = [getattr(request, name) for name in SPELLINGS]
    return [int(size) for size in sizes if size is not None]


class Document(msgspec.Struct):
    """A passage as most dialects write it, the form of the wiki-18 corpus."""

    id: str
    contents: str
    """`"Title"`, a line break, the text."""


class ScoredDocument(msgspec.Struct):
    """A passage with its score, as Search-R1 writes it."""

    document: Document
    score: float


def contents_of(passage: Passage) -> str:
    r"""Join title and text as `"Title"\ntext`, which `split_contents` takes apart."""
    return f'"{passage.title}"\n{passage.text}'


def document_of(passage: Passage) -> Document:
    """Write a passage in the form that most dialects use."""
    return Document(passage.id, contents_of(passage))


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


def passage_from(document: Any) -> Passage:
    """Read the passage in a document that a server sent, in any of the usual forms.

    A document without an id, which some servers send, is identified by its text: `sha256:` and 16
    hex digits.

    Raises:
        SearchError: it has no text.
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


def score_from(score: Any) -> float:
    """Check a score that a server sent.

    Raises:
        SearchError: it is not a finite number.
    """
    is_number = isinstance(score, int | float) and not isinstance(score, bool)
    if not is_number or not math.isfinite(score):
        raise malformed("scores that are numbers", score)
    return float(score)


def hits_from(documents: Sequence[Any], scores: Sequence[Any]) -> list[Hit]:
    """Read documents and their scores, in two lists of equal length, as ranked hits.

    Raises:
        SearchError: a document has no text, or a score is not a finite number.
    """
    hits = []
    for document, score in zip(documents, scores, strict=True):
        hits.append(Hit(passage_from(document), score_from(score)))
    return ranked(hits)


def ranked(hits: list[Hit]) -> list[Hit]:
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
