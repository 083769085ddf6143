"""Argilla's filters and sorts to SQL over its own tables, with the meaning that they have in Elasticsearch."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from argilla_server.enums import ResponseStatus, ResponseStatusFilter, SortOrder
from argilla_server.models import Question, Record, Response, Suggestion
from argilla_server.search_engine.base import (
    AndFilter,
    MetadataFilterScope,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
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
    """The condition on `Record` that a filter sets."""
    if isinstance(filter_, AndFilter):
        return and_(true(), *map(condition, filter_.filters))
    for scope, build in _FILTERS.items():
        if isinstance(filter_.scope, scope):
            return build(filter_)
    raise ValueError(f"cannot process the filter {filter_}")


def order(sort: Sequence[Any]) -> list[Any]:
    """The expressions to sort by; records without a value come last."""
    found = []
    for by in sort:
        expression = _value(by.scope)
        found.append(
            (expression.desc() if by.order == SortOrder.desc else expression.asc()).nulls_last()
        )
    return found


def path_to(name: str, *rest: str) -> str:
    """A path into a JSON column."""
    return "$." + ".".join(f'"{part}"' for part in (name, *rest))


def each(json_column: Any, path: str) -> Any:
    """The elements of an array at `path`, or the one value there."""
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
    if isinstance(filter_, RangeFilter):
        return _within(getattr(Record, name), filter_, _time if name.endswith("_at") else str)
    values = [UUID(str(value)) for value in filter_.values] if name == "id" else filter_.values
    return getattr(Record, name).in_(values)


def _metadata_filter(filter_: Any) -> Any:
    value = each(Record.metadata_, path_to(filter_.scope.metadata_property))
    return exists(
        select(literal(1))
        .select_from(value)
        .where(value.c.type != "null", _is_wanted(value.c.value, filter_))
    )


def _suggestion_filter(filter_: Any) -> Any:
    name = filter_.scope.property or "value"
    rows = select(literal(1)).select_from(Suggestion).join(Question)
    if name in ("value", "score"):
        value = each(getattr(Suggestion, name), "$")
        rows = rows.join(value, true()).where(
            value.c.type != "null", _is_wanted(value.c.value, filter_)
        )
    else:
        rows = rows.where(getattr(Suggestion, name).in_(filter_.values))
    return exists(rows.where(*_suggestion_of(filter_.scope.question)).correlate(Record))


def _suggestion_of(question: str) -> list[Any]:
    return [
        Suggestion.record_id == Record.id,
        Question.dataset_id == Record.dataset_id,
        Question.name == question,
    ]


def _response_filter(filter_: Any) -> Any:
    scope = filter_.scope
    rows = select(literal(1)).select_from(Response).where(Response.record_id == Record.id)
    if scope.user is not None:
        rows = rows.where(Response.user_id == scope.user.id)
    if scope.question:
        value = each(Response.values, path_to(scope.question, "value"))
        return exists(
            rows.join(value, true()).where(_is_wanted(value.c.value, filter_)).correlate(Record)
        )
    asked = [str(getattr(value, "value", value)) for value in filter_.values]
    statuses = [
        ResponseStatus(status) for status in asked if status != ResponseStatusFilter.pending.value
    ]
    found = (
        [not_(exists(rows.correlate(Record)))]
        if ResponseStatusFilter.pending.value in asked
        else []
    )
    if statuses:
        found.append(exists(rows.where(Response.status.in_(statuses)).correlate(Record)))
    return or_(*found) if found else false()


_FILTERS = {
    RecordFilterScope: _record_filter,
    MetadataFilterScope: _metadata_filter,
    SuggestionFilterScope: _suggestion_filter,
    ResponseFilterScope: _response_filter,
}


def _value(scope: Any) -> Any:
    """What a record is sorted by."""
    if isinstance(scope, RecordFilterScope):
        return getattr(Record, scope.property)
    if isinstance(scope, MetadataFilterScope):
        return func.json_extract(Record.metadata_, path_to(scope.metadata_property))
    if isinstance(scope, SuggestionFilterScope):
        name = scope.property or "value"
        column = getattr(Suggestion, name)
        expression = func.json_extract(column, "$") if name in ("value", "score") else column
        rows = (
            select(expression)
            .select_from(Suggestion)
            .join(Question)
            .where(*_suggestion_of(scope.question))
        )
        return rows.correlate(Record).limit(1).scalar_subquery()
    if scope.question:
        expression = func.avg(func.json_extract(Response.values, path_to(scope.question, "value")))
    else:
        expression = func.min(getattr(Response, scope.property or "status"))
    rows = select(expression).where(Response.record_id == Record.id)
    if scope.user is not None:
        rows = rows.where(Response.user_id == scope.user.id)
    return rows.correlate(Record).scalar_subquery()
