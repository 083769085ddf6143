"""The search engine that Argilla loads under the name `embedded`; importing this module registers it.

Argilla tells an engine of every change so that it keeps its own copy in step. This one has no copy: it reads Argilla's
tables, so all that is left of those calls is nothing.
"""

import hashlib
import math
from typing import Any

from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.models import Record, Response, Vector
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


class _NothingToKeep(SearchEngine):  # type: ignore[misc]
    """The calls that tell an engine of changes."""

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
class EmbeddedSearchEngine(_NothingToKeep):
    """Every search as SQL over Argilla's own database."""

    @classmethod
    async def new_instance(cls) -> "EmbeddedSearchEngine":
        """An engine; it holds nothing."""
        return cls()

    async def ping(self) -> bool:
        """Whether the engine can be reached: it is in this process."""
        return True

    async def info(self) -> dict[str, Any]:
        """What Argilla's status page shows."""
        return {
            "version": {"distribution": "embedded (Argilla's own SQLite database)", "number": "1"}
        }

    async def get_dataset_progress(self, dataset: Any) -> dict[str, int]:
        """Records by status."""
        of_dataset = select(Record.status, func.count()).where(Record.dataset_id == dataset.id)
        return {} if dataset.is_draft else await _counted(of_dataset.group_by(Record.status))

    async def get_dataset_user_progress(self, dataset: Any, user: Any) -> dict[str, int]:
        """One person's responses by status."""
        of_user = select(Response.status, func.count()).join(Record)
        of_user = of_user.where(Record.dataset_id == dataset.id, Response.user_id == user.id)
        return {} if dataset.is_draft else await _counted(of_user.group_by(Response.status))

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
        """The records that fit; best first where words were asked for, shuffled for each person where nothing was."""
        where, score = _matching(dataset, query)
        where += [filters.condition(filter)] if filter else []
        columns, by = [Record.id, func.count().over()], filters.order(sort or [])
        if score is not None:
            columns.append(score.c.score)
            by += [] if sort else [score.c.score.desc()]
        elif user_id:
            by.append(func.argilla_shuffle(cast(Record.id, String), str(user_id)))
        rows = (
            select(*columns).where(*where).order_by(*by, Record.inserted_at.asc(), Record.id.asc())
        )
        if score is not None:
            rows = rows.outerjoin(score, score.c.record_id == Record.id)
        async with AsyncSessionLocal() as database:
            found = (await database.execute(rows.offset(offset).limit(limit))).all()
            count = found[0][1] if found else 0
            if (
                not found and offset
            ):  # a page after the last one: the rows cannot say how many there are
                count = (
                    await database.execute(select(func.count()).select_from(Record).where(*where))
                ).scalar_one()
        items = [
            SearchResponseItem(record_id=row[0], score=row[2] if len(row) > 2 else None)
            for row in found
        ]
        return SearchResponses(items=items, total=count)

    async def compute_metrics_for(self, metadata_property: Any) -> Any:
        """What values a metadata property has, for the filter's menu."""
        path, of_dataset = filters.path_to(metadata_property.name), metadata_property.dataset_id
        async with AsyncSessionLocal() as database:
            if metadata_property.type == MetadataPropertyType.terms:
                value = filters.each(Record.metadata_, path)
                rows = select(value.c.value, func.count()).select_from(Record).join(value, true())
                rows = rows.where(
                    Record.dataset_id == of_dataset, value.c.value.is_not(None)
                ).group_by(value.c.value)
                found = (
                    await database.execute(rows.order_by(func.count().desc(), value.c.value))
                ).all()
                terms = [
                    TermsMetrics.TermCount(term=str(term), count=count) for term, count in found
                ]
                return TermsMetrics(total=sum(term.count for term in terms), values=terms)
            value = func.json_extract(Record.metadata_, path)
            ends = select(func.min(value), func.max(value)).where(Record.dataset_id == of_dataset)
            low, high = (await database.execute(ends)).one()
        is_whole = metadata_property.type == MetadataPropertyType.integer
        return (IntegerMetadataMetrics if is_whole else FloatMetadataMetrics)(min=low, max=high)

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
        """Records by the cosine of their vectors; every vector is looked at."""
        if bool(value) == bool(record):
            raise ValueError(
                "must provide either vector value or record to compute the similarity search"
            )
        target = value or record.vector_value_by_vector_settings(vector_settings)
        if not target:
            raise ValueError("cannot find a vector value to apply with provided info")
        where, _ = _matching(dataset, query)
        where += [
            Vector.vector_settings_id == vector_settings.id,
            *([filters.condition(filter)] if filter else []),
        ]
        where += [Record.id != record.id] if record is not None else []
        rows = (
            select(Record.id, Vector.value)
            .join(Vector, Vector.record_id == Record.id)
            .where(*where)
        )
        async with AsyncSessionLocal() as database:
            found = (await database.execute(rows)).all()
        sign = -1.0 if order == SimilarityOrder.least_similar else 1.0
        scored = [
            (row_id, (1.0 + sign * _cosine(target, vector)) / 2.0) for row_id, vector in found
        ]
        best = sorted(
            (it for it in scored if threshold is None or it[1] >= threshold), key=lambda it: -it[1]
        )
        items = [
            SearchResponseItem(record_id=row_id, score=score)
            for row_id, score in best[:max_results]
        ]
        return SearchResponses(items=items, total=len(items))


def _matching(dataset: Any, query: Any) -> tuple[list[Any], Any]:
    """The conditions of a text query, and the subquery of its scores; None without a query."""
    where: list[Any] = [Record.dataset_id == dataset.id]
    if query is None:
        return where, None
    asked = query if isinstance(query, TextQuery) else TextQuery(q=query)
    tree = parse(asked.q)
    if tree is None:
        return [*where, false()], None
    return [*where, words.condition(tree, dataset.id, asked.field)], words.scores(
        tree, dataset.id, asked.field
    )


async def _counted(rows: Any) -> dict[str, int]:
    async with AsyncSessionLocal() as database:
        found = (await database.execute(rows)).all()
    return {
        "total": sum(count for _, count in found),
        **{status.value: count for status, count in found},
    }


def _cosine(left: list[float], right: list[float]) -> float:
    norm = math.hypot(*left) * math.hypot(*right)
    return sum(a * b for a, b in zip(left, right, strict=False)) / norm if norm else 0.0
