"""Keep the table of the words of all records, and translate a query to a condition on records.

Triggers keep the table in step. It has one row for each field of a record. The words of fields that
hold the project's HTML are those that a reader sees.
"""

import html
import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from argilla_server.models import Record
from sqlalchemy import (
    Integer,
    Select,
    String,
    column,
    func,
    literal_column,
    select,
    table,
)

from annotate.embedded.query import Phrase, full_text
from annotate.embedded.query import words as words_of

_OUR_HTML = '<div class="coa">'
"""The beginning of a field that coa/pages/markup.py wrote; in other fields `<` is text."""
_TAG = re.compile(r"<[^>]*>")

TEXTS = table(
    "search_texts",
    column("id", Integer),
    column("record_id", Record.__table__.c.id.type),
    column("dataset_id", Record.__table__.c.dataset_id.type),
    column("field", String),
)
TERMS = table("search_terms", column("rowid", Integer))

_INSERT = """
    INSERT INTO search_texts(record_id, dataset_id, field, words)
    SELECT {row}.id, {row}.dataset_id, field.key, argilla_words(field.value, field.type)
    FROM {source} json_each({row}.fields) AS field WHERE field.type IN ('text', 'array', 'object')
"""
# The index of records holds what a search needs of a record, because in the table those columns
# stand behind the record's long texts.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS search_texts(
    id INTEGER PRIMARY KEY,
    record_id TEXT NOT NULL,
    dataset_id TEXT NOT NULL,
    field TEXT NOT NULL,
    words TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS search_records ON records(dataset_id, inserted_at, id, status);
CREATE INDEX IF NOT EXISTS search_texts_record ON search_texts(record_id);
CREATE VIRTUAL TABLE IF NOT EXISTS search_terms USING fts5(
    words, content='search_texts', content_rowid='id', tokenize='unicode61 remove_diacritics 0'
);
CREATE TRIGGER IF NOT EXISTS search_texts_added AFTER INSERT ON search_texts BEGIN
    INSERT INTO search_terms(rowid, words) VALUES (new.id, new.words);
END;
CREATE TRIGGER IF NOT EXISTS search_texts_gone AFTER DELETE ON search_texts BEGIN
    INSERT INTO search_terms(search_terms, rowid, words) VALUES ('delete', old.id, old.words);
END;
CREATE TRIGGER IF NOT EXISTS search_records_added AFTER INSERT ON records BEGIN
    {_INSERT.format(row="new", source="")};
END;
CREATE TRIGGER IF NOT EXISTS search_records_changed AFTER UPDATE OF fields ON records
WHEN new.fields IS NOT old.fields BEGIN
    DELETE FROM search_texts WHERE record_id = old.id;
    {_INSERT.format(row="new", source="")};
END;
CREATE TRIGGER IF NOT EXISTS search_records_gone AFTER DELETE ON records BEGIN
    DELETE FROM search_texts WHERE record_id = old.id;
END;
"""
_FILL = (
    _INSERT.format(row="records", source="records,")
    + " AND records.id NOT IN (SELECT record_id FROM search_texts)"
)


def shown_words(value: Any, kind: str) -> str:
    """Return the words of one field; the database calls this as its function `argilla_words`."""
    texts = [value] if kind == "text" else _strings(json.loads(value))
    found: list[str] = []
    for text in texts:
        found += words_of(_visible(text))
    return " ".join(found)


def _visible(text: str) -> str:
    """Remove the tags of our own HTML; any other text stays as it is."""
    if not text.startswith(_OUR_HTML):
        return text
    return html.unescape(_TAG.sub(" ", text))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def create(path: str) -> None:
    """Make the tables and triggers in Argilla's database, and add the records that it holds."""
    connection = sqlite3.connect(path)
    try:
        connection.create_function("argilla_words", 2, shown_words, deterministic=True)
        connection.executescript(_SCHEMA)
        connection.execute(_FILL)
        connection.commit()
    finally:
        connection.close()


def condition(phrase: Phrase, dataset_id: Any, field: str | None) -> Any:
    """Return the condition on `Record.id` that a phrase sets, in any field or in the named one."""
    return Record.id.in_(_records(full_text(phrase), dataset_id, field))


def scores(phrases: Sequence[Phrase], dataset_id: Any, field: str | None) -> Any:
    """Return a subquery of records and their scores over all phrases; the best is the highest."""
    wanted = " OR ".join(full_text(phrase) for phrase in phrases)
    rank = literal_column("bm25(search_terms)").label("score")
    rows = _records(wanted, dataset_id, field).add_columns(rank)
    # FTS5 computes bm25 only where its table is scanned; the limit keeps SQLite from folding that
    # into the sum.
    found = rows.limit(-1).subquery()
    score = -func.sum(found.c.score)
    return select(found.c.record_id, score.label("score")).group_by(found.c.record_id).subquery()


def _records(full_text_query: str, dataset_id: Any, field: str | None) -> Select[Any]:
    """Select the records of a data set with a field that matches."""
    rows = select(TEXTS.c.record_id).select_from(TERMS.join(TEXTS, TEXTS.c.id == TERMS.c.rowid))
    is_match = literal_column("search_terms").op("MATCH")(full_text_query)
    rows = rows.where(is_match, TEXTS.c.dataset_id == dataset_id)
    return rows.where(TEXTS.c.field == field) if field else rows
