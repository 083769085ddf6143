"""Describe the server's endpoints in OpenAPI."""

from collections.abc import Sequence
from typing import Any

import msgspec

from coa.search.limits import RequestLimits
from coa.search.wire import Dialect, SearchEndpoint
from coa.search.wire.endpoints import PAGES, SEARCHES
from coa.search.wire.pages import PageEndpoint

_COMPONENT = "#/components/schemas/{name}"
_Shapes = dict[int, Any]
"""The schema of each type, by the type's `id`."""


class ErrorReply(msgspec.Struct):
    """The reason why a request was not answered."""

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


Endpoint = SearchEndpoint[Any] | PageEndpoint[Any]


def describe(limits: RequestLimits) -> dict[str, Any]:
    """Describe all endpoints."""
    endpoints: list[Endpoint] = [*SEARCHES, *PAGES]
    kinds: list[Any] = []
    for endpoint in endpoints:
        kinds += [endpoint.request, *endpoint.replies]
    kinds += [ErrorReply, Health]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_COMPONENT)
    shapes: _Shapes = {}
    for kind, schema in zip(kinds, schemas, strict=True):
        shapes[id(kind)] = _without_prefix(schema)
    _add_limits(components, limits)
    paths: dict[str, Any] = {}
    for path in dict.fromkeys(endpoint.path for endpoint in endpoints):
        sharing = [endpoint for endpoint in endpoints if endpoint.path == path]
        paths[path] = _operation(sharing, "any dialect with this path", shapes)
        for endpoint in sharing:
            summary = (type(endpoint).__doc__ or "").strip()
            paths[f"/{endpoint.dialect}{path}"] = _operation([endpoint], summary, shapes)
    health = {
        "get": {
            "summary": "what is served",
            "responses": {"200": _content(shapes[id(Health)], "healthy")},
        }
    }
    paths["/health"] = health
    for dialect in Dialect:
        paths[f"/{dialect}/health"] = health
    return {
        "openapi": "3.1.0",
        "info": {"title": "search server", "version": "1"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(endpoints: Sequence[Endpoint], summary: str, shapes: _Shapes) -> dict[str, Any]:
    """Describe a path on which each of the endpoints may be meant."""
    bodies = []
    replies = []
    for endpoint in endpoints:
        bodies.append(shapes[id(endpoint.request)])
        for kind in endpoint.replies:
            replies.append(shapes[id(kind)])
    responses = {"200": _content(_any_of(replies), "found")}
    failure = {"$ref": _COMPONENT.format(name=ErrorReply.__name__)}
    for status, text in _REFUSALS.items():
        responses[status] = _content(failure, text)
    body = {**_content(_any_of(bodies)), "required": True}
    return {"post": {"summary": summary, "requestBody": body, "responses": responses}}


def _content(schema: Any, text: str = "") -> dict[str, Any]:
    content: dict[str, Any] = {"content": {"application/json": {"schema": schema}}}
    if text:
        content["description"] = text
    return content


def _any_of(schemas: list[Any]) -> Any:
    different: list[Any] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    return different[0] if len(different) == 1 else {"anyOf": different}


def _without_prefix(schema: Any) -> Any:
    """Describe a pair as a list of two.

    Readers of older drafts of JSON Schema do not understand `prefixItems`.
    """
    if "prefixItems" not in schema:
        return schema
    kept = {name: value for name, value in schema.items() if name != "prefixItems"}
    kept["items"] = _any_of(schema["prefixItems"])
    return kept


def _add_limits(components: dict[str, Any], limits: RequestLimits) -> None:
    """Add the limits of this server to the fields of all requests; the types do not say them."""
    for name, schema in components.items():
        if not name.endswith("Request"):
            continue
        for shape in schema["properties"].values():
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
