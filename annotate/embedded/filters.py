"""Translate Argilla's filters and sorts to SQL, with the meaning they have in Elasticsearch."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from argilla_server.enums import ResponseStatus, ResponseStatusFilter, SortOrder
from argilla_server.models import Record, Response
from argilla_server.search_engine.base import (
    AndFilter,
    MetadataFilterScope,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
)
from sqlalchemy import (
    Float,
    String,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)


def condition(filter_: Any) -> Any:
    """Return the condition on `Record` that a filter sets."""
    if isinstance(filter_, AndFilter):
        conditions = [condition(part) for part in filter_.filters]
        return and_(true(), *conditions)
    for scope, build in _FILTERS.items():
        if isinstance(filter_.scope, scope):
            return build(filter_)
    raise ValueError(f"cannot process the filter {filter_}")


def order(sort: Sequence[Any]) -> list[Any]:
    """Return the expressions to sort by; records without a value come last."""
    found = []
    for by in sort:
        expression = _value(by.scope)
        directed = expression.desc() if by.order == SortOrder.desc else expression.asc()
        found.append(directed.nulls_last())
    return found


def path_to(name: str, *rest: str) -> str:
    """Write a path into a JSON column."""
    parts = [f'"{part}"' for part in (name, *rest)]
    return "$." + ".".join(parts)


def each(json_column: Any, path: str) -> Any:
    """Return the elements of an array at `path`, or the one value there."""
    return func.json_each(json_column, path).table_valued("value", "type", joins_implicitly=True)


def _is_wanted(value: Any, filter_: Any) -> Any:
    if isinstance(filter_, RangeFilter):
        return _within(cast(value, Float), filter_, float)
    return cast(value, String).in_([str(item) for item in filter_.values])


def _within(expression: Any, filter_: Any, convert: Any) -> Any:
    bounds = []
    if filter_.ge is not None:
        bounds.append(expression >= convert(filter_.ge))
    if filter_.le is not None:
        bounds.append(expression <= convert(filter_.le))
    return and_(true(), *bounds)


def _time(value: object) -> datetime:
    return datetime.fromisoformat(str(value).replace("Z", "+00:00")).replace(tzinfo=None)


def _record_filter(filter_: Any) -> Any:
    name = filter_.scope.property
    column = getattr(Record, name)
    if isinstance(filter_, RangeFilter):
        return _within(column, filter_, _time if name.endswith("_at") else str)
    if name == "id":
        return column.in_([UUID(str(value)) for value in filter_.values])
    return column.in_(filter_.values)


def _metadata_filter(filter_: Any) -> Any:
    value = each(Record.metadata_, path_to(filter_.scope.metadata_property))
    rows = select(literal(1)).select_from(value)
    rows = rows.where(value.c.type != "null", _is_wanted(value.c.value, filter_))
    return exists(rows)


def _response_filter(filter_: Any) -> Any:
    scope = filter_.scope
    rows = select(literal(1)).select_from(Response).where(Response.record_id == Record.id)
    if scope.user is not None:
        rows = rows.where(Response.user_id == scope.user.id)
    if scope.question:
        value = each(Response.values, path_to(scope.question, "value"))
        rows = rows.join(value, true()).where(_is_wanted(value.c.value, filter_))
        return exists(rows.correlate(Record))
    found = []
    statuses = []
    for value in filter_.values:
        status = str(getattr(value, "value", value))
        if status == ResponseStatusFilter.pending.value:
            # A record is pending for a person who has not responded to it.
            found = [not_(exists(rows.correlate(Record)))]
        else:
            statuses.append(ResponseStatus(status))
    if statuses:
        found.append(exists(rows.where(Response.status.in_(statuses)).correlate(Record)))
    return or_(*found) if found else false()


_FILTERS = {
    RecordFilterScope: _record_filter,
    MetadataFilterScope: _metadata_filter,
    ResponseFilterScope: _response_filter,
}


def _value(scope: Any) -> Any:
    """Return the expression that a record is sorted by."""
    if isinstance(scope, RecordFilterScope):
        return getattr(Record, scope.property)
    if isinstance(scope, MetadataFilterScope):
        return func.json_extract(Record.metadata_, path_to(scope.metadata_property))
    if scope.question:
        expression = func.avg(func.json_extract(Response.values, path_to(scope.question, "value")))
    else:
        expression = func.min(getattr(Response, scope.property or "status"))
    rows = select(expression).where(Response.record_id == Record.id)
    if scope.user is not None:
        rows = rows.where(Response.user_id == scope.user.id)
    return rows.correlate(Record).scalar_subquery()
