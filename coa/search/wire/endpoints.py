"""List all endpoints and choose the one that a body sent to a bare path is meant for."""

from typing import Any

from coa.search.wire import ClientEndpoint, Dialect, SearchEndpoint
from coa.search.wire.pages import Access, GetContent, PageEndpoint
from coa.search.wire.queries import OpenResearcher, R1Searcher, ReCall, ReCallBatch
from coa.search.wire.retrieve import ASearcher, FlashRag, SearchR1, SkyRl

SEARCHES: tuple[SearchEndpoint[Any], ...] = (
    FlashRag(),
    SearchR1(),
    SkyRl(),
    ASearcher(),
    ReCall(),
    ReCallBatch(),
    R1Searcher(),
    OpenResearcher(),
)
PAGES: tuple[PageEndpoint[Any], ...] = (Access(), GetContent())


def of_dialect(dialect: Dialect) -> ClientEndpoint[Any]:
    """Return the endpoint that a client of `dialect` asks."""
    for endpoint in SEARCHES:
        if isinstance(endpoint, ClientEndpoint) and endpoint.dialect is dialect:
            return endpoint
    raise LookupError(f"no endpoint of {dialect} can be asked by a client")


def resolve_endpoint(path: str, body: dict[str, Any], default: Dialect) -> SearchEndpoint[Any]:
    """Choose the endpoint that a body sent to the bare `path` is meant for.

    Told by the keys where one dialect alone has them; else `default` where it can read the body,
    else the first that can: FlashRAG before SkyRL, Search-R1 before ASearcher, ReCall before
    OpenResearcher.
    """
    on_path = [endpoint for endpoint in SEARCHES if endpoint.path == path]
    for endpoint in on_path:
        if endpoint.claims(body):
            return endpoint
    wanted = "queries" if "queries" in body else "query"
    able = [endpoint for endpoint in on_path if wanted in endpoint.request.__struct_fields__]
    for endpoint in able:
        if endpoint.dialect is default:
            return endpoint
    return able[0] if able else on_path[0]
