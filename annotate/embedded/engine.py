"""Register the search engine that Argilla loads under the name `embedded`.

Importing this module registers it. Argilla tells an engine of every change, so that it keeps its
own copy of the records in step. This engine has no copy: it reads Argilla's tables, so those calls
do nothing.
"""

import hashlib
from typing import Any

from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import Record, Response
from argilla_server.search_engine.base import (
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)
from sqlalchemy import String, cast, event, false, func, select, true
from sqlalchemy.engine import Engine

from annotate.embedded import filters, words
from annotate.embedded.query import parse

NAME = "embedded"


@event.listens_for(Engine, "connect")  # type: ignore[untyped-decorator]
def _on_connect(connection: Any, _: Any) -> None:
    """Give every connection our functions, and let readers and a writer work at once."""
    connection.create_function("argilla_words", 2, words.shown_words, deterministic=True)
    connection.create_function("argilla_shuffle", 2, _shuffle, deterministic=True)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()


def _shuffle(item: str, seed: str) -> str:
    return hashlib.blake2b(f"{seed}/{item}".encode(), digest_size=8).hexdigest()


class _WithoutCopy(SearchEngine):  # type: ignore[misc]
    """An engine that ignores the calls that tell it of changes."""

    async def create_index(self, dataset: Any) -> None: ...
    async def delete_index(self, dataset: Any) -> None: ...
    async def configure_metadata_property(self, dataset: Any, metadata_property: Any) -> None: ...
    async def configure_index_vectors(self, vector_settings: Any) -> None: ...
    async def index_records(self, dataset: Any, records: Any) -> None: ...
    async def partial_record_update(self, record: Any, **update: Any) -> None: ...
    async def delete_records(self, dataset: Any, records: Any) -> None: ...
    async def update_record_response(self, response: Any) -> None: ...
    async def delete_record_response(self, response: Any) -> None: ...
    async def update_record_suggestion(self, suggestion: Any) -> None: ...
    async def delete_record_suggestion(self, suggestion: Any) -> None: ...
    async def close(self) -> None: ...


@SearchEngine.register(NAME)
class EmbeddedSearchEngine(_WithoutCopy):
    """An engine that answers every search by SQL over Argilla's own database."""

    @classmethod
    async def new_instance(cls) -> "EmbeddedSearchEngine":
        """Return an engine; it holds nothing."""
        return cls()

    async def ping(self) -> bool:
        """Return whether the engine can be reached: it is in this process."""
        return True

    async def info(self) -> dict[str, Any]:
        """Return what Argilla's status page shows."""
        return {
            "version": {"distribution": "embedded (Argilla's own SQLite database)", "number": "1"}
        }

    async def get_dataset_progress(self, dataset: Any) -> dict[str, int]:
        """Count the records by status."""
        if dataset.is_draft:
            return {}
        of_dataset = select(Record.status, func.count()).where(Record.dataset_id == dataset.id)
        return await _counted(of_dataset.group_by(Record.status))

    async def get_dataset_user_progress(self, dataset: Any, user: Any) -> dict[str, int]:
        """Count one person's responses by status."""
        if dataset.is_draft:
            return {}
        of_user = select(Response.status, func.count()).join(Record)
        of_user = of_user.where(Record.dataset_id == dataset.id, Response.user_id == user.id)
        return await _counted(of_user.group_by(Response.status))

    async def search(
        self,
        dataset: Any,
        query: Any = None,
        filter: Any = None,
        sort: Any = None,
        offset: int = 0,
        limit: int = 100,
        user_id: Any = None,
    ) -> Any:
        """Find the records that fit.

        The best come first where words were asked for. Without words the records are shuffled,
        for each person in another order.
        """
        where, score = _matching(dataset, query)
        if filter:
            where.append(filters.condition(filter))
        columns = [Record.id, func.count().over()]
        by = filters.order(sort or [])
        if score is not None:
            columns.append(score.c.score)
            if not sort:
                by.append(score.c.score.desc())
        elif user_id:
            by.append(func.argilla_shuffle(cast(Record.id, String), str(user_id)))
        by += [Record.inserted_at.asc(), Record.id.asc()]
        rows = select(*columns).where(*where).order_by(*by)
        if score is not None:
            rows = rows.outerjoin(score, score.c.record_id == Record.id)
        async with AsyncSessionLocal() as database:
            found = (await database.execute(rows.offset(offset).limit(limit))).all()
            count = found[0][1] if found else 0
            if not found and offset:
                # A page after the last one has no rows to say how many records there are.
                counted = select(func.count()).select_from(Record).where(*where)
                count = (await database.execute(counted)).scalar_one()
        items = []
        for row in found:
            row_score = row[2] if score is not None else None
            items.append(SearchResponseItem(record_id=row[0], score=row_score))
        return SearchResponses(items=items, total=count)

    async def compute_metrics_for(self, metadata_property: Any) -> Any:
        """Return the values that a metadata property has, for the filter's menu."""
        path = filters.path_to(metadata_property.name)
        if metadata_property.type == MetadataPropertyType.terms:
            return await _terms_metrics(metadata_property.dataset_id, path)
        value = func.json_extract(Record.metadata_, path)
        ends = select(func.min(value), func.max(value))
        ends = ends.where(Record.dataset_id == metadata_property.dataset_id)
        async with AsyncSessionLocal() as database:
            low, high = (await database.execute(ends)).one()
        if metadata_property.type == MetadataPropertyType.integer:
            return IntegerMetadataMetrics(min=low, max=high)
        return FloatMetadataMetrics(min=low, max=high)

    async def similarity_search(
        self,
        dataset: Any,
        vector_settings: Any,
        value: Any = None,
        record: Any = None,
        query: Any = None,
        filter: Any = None,
        max_results: int = 100,
        order: Any = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> Any:
        """Return nothing: no record of ours has a vector."""
        return SearchResponses()


def _matching(dataset: Any, query: Any) -> tuple[list[Any], Any]:
    """Return the conditions of a text query and the subquery of its scores, if it has words."""
    where: list[Any] = [Record.dataset_id == dataset.id]
    if query is None:
        return where, None
    asked = query if isinstance(query, TextQuery) else TextQuery(q=query)
    phrases = parse(asked.q)
    if not phrases:
        where.append(false())
        return where, None
    for phrase in phrases:
        where.append(words.condition(phrase, dataset.id, asked.field))
    return where, words.scores(phrases, dataset.id, asked.field)


async def _terms_metrics(dataset_id: Any, path: str) -> Any:
    """Count how often each term at a metadata path occurs, the most frequent one first."""
    term = filters.each(Record.metadata_, path)
    rows = select(term.c.value, func.count()).select_from(Record).join(term, true())
    rows = rows.where(Record.dataset_id == dataset_id, term.c.value.is_not(None))
    rows = rows.group_by(term.c.value).order_by(func.count().desc(), term.c.value)
    async with AsyncSessionLocal() as database:
        found = (await database.execute(rows)).all()
    terms = [TermsMetrics.TermCount(term=str(name), count=count) for name, count in found]
    return TermsMetrics(total=sum(term.count for term in terms), values=terms)


async def _counted(rows: Any) -> dict[str, int]:
    """Run a query of statuses and their counts; `total` is their sum."""
    async with AsyncSessionLocal() as database:
        found = (await database.execute(rows)).all()
    counts = {"total": sum(count for _, count in found)}
    for status, count in found:
        counts[status.value] = count
    return counts
