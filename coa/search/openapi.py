"""The server's endpoints to its OpenAPI description."""

from typing import Any

import msgspec

from coa.search.limits import RequestLimits
from coa.search.wire import Dialect, SearchEndpoint
from coa.search.wire.endpoints import PAGES, SEARCHES
from coa.search.wire.pages import PageEndpoint

_COMPONENT = "#/components/schemas/{name}"


class ErrorReply(msgspec.Struct):
    """Why a request was not answered."""

    detail: str


class Retrievers(msgspec.Struct):
    """Threads that search."""

    total: int
    available: int


class Health(msgspec.Struct):
    """What is served."""

    status: str
    retrievers: Retrievers
    fingerprint: str
    num_passages: int
    num_waiting: int
    default_dialect: Dialect


_REFUSALS = {
    "400": "the body is not JSON, or the query is blank",
    "401": "a bearer token is needed",
    "404": "there is no such page",
    "408": "the request took too long to arrive",
    "413": "the request is too large",
    "422": "a field is missing, of another type or beyond a limit",
    "429": "too many queries are waiting; Retry-After says when to try again",
    "500": "the search failed",
    "503": "no answer in time, or too many connections, large requests or unread replies",
}


def describe(limits: RequestLimits) -> dict[str, Any]:
    """The description of all endpoints."""
    endpoints: list[SearchEndpoint[Any] | PageEndpoint[Any]] = [*SEARCHES, *PAGES]
    kinds = [kind for endpoint in endpoints for kind in (endpoint.request, *endpoint.replies)]
    schemas, components = msgspec.json.schema_components(
        [*kinds, ErrorReply, Health], ref_template=_COMPONENT
    )
    shapes = dict(
        zip(map(id, (*kinds, ErrorReply, Health)), map(_without_prefix, schemas), strict=True)
    )
    _add_limits(components, limits)
    paths: dict[str, Any] = {}
    for path in dict.fromkeys(endpoint.path for endpoint in endpoints):
        sharing = [endpoint for endpoint in endpoints if endpoint.path == path]
        alone = [(f"/{it.dialect}{path}", [it], (type(it).__doc__ or "").strip()) for it in sharing]
        for where, those, summary in ((path, sharing, "any dialect with this path"), *alone):
            bodies = [shapes[id(it.request)] for it in those]
            replies = [shapes[id(kind)] for it in those for kind in it.replies]
            paths[where] = _operation(_any_of(bodies), _any_of(replies), summary)
    health = {
        "get": {
            "summary": "what is served",
            "responses": {"200": _content(shapes[id(Health)], "healthy")},
        }
    }
    paths |= {f"{prefix}/health": health for prefix in ("", *(f"/{name}" for name in Dialect))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "search server", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(body: Any, reply: Any, summary: str) -> dict[str, Any]:
    responses = {"200": _content(reply, "found")}
    responses |= {
        status: _content({"$ref": _COMPONENT.format(name="Failure")}, text)
        for status, text in _REFUSALS.items()
    }
    content = _content(body, "") | {"required": True}
    return {"post": {"summary": summary, "requestBody": content, "responses": responses}}


def _content(schema: Any, text: str) -> dict[str, Any]:
    content: dict[str, Any] = {"content": {"application/json": {"schema": schema}}}
    return content | {"description": text} if text else content


def _any_of(schemas: list[Any]) -> Any:
    different = [schema for i, schema in enumerate(schemas) if schema not in schemas[:i]]
    return different[0] if len(different) == 1 else {"anyOf": different}


def _without_prefix(schema: Any) -> Any:
    """A pair as a list of two: readers of older drafts of JSON Schema stumble over `prefixItems`."""
    if "prefixItems" not in schema:
        return schema
    kept = {name: value for name, value in schema.items() if name != "prefixItems"}
    return kept | {"items": _any_of(schema["prefixItems"])}


def _add_limits(components: dict[str, Any], limits: RequestLimits) -> None:
    """The limits of this server, where a type cannot say them."""
    requests = [schema for name, schema in components.items() if name.endswith("Request")]
    for shape in (shape for schema in requests for shape in schema["properties"].values()):
        for part in (shape, *shape.get("anyOf", ())):
            _add_limit(part, limits)


def _add_limit(part: dict[str, Any], limits: RequestLimits) -> None:
    if part.get("type") == "number":
        part["maximum"] = limits.max_top_k
    elif part.get("type") == "string":
        part["maxLength"] = limits.max_query_chars
    elif part.get("type") == "array":
        part["maxItems"] = limits.max_batch
        _add_limit(part["items"], limits)
