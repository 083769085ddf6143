"""Run inside Argilla's server: an engine that answers every search from Argilla's own database.

Files here run in the server's own environment (`annotate.environment`), which has none of the
project's dependencies: they import Argilla, what it depends on, and each other. Only one table of
words is kept in step, by triggers of the database itself: there is no second copy of the records
that could fall behind.

    query.py      parses what a person types
    words.py      keeps the table of words: full text through SQLite's FTS5
    filters.py    translates Argilla's filters and sorts to SQL
    engine.py     is the engine that Argilla loads
    process.py    runs the server's process

review_keys.js runs in the reviewer's page.
"""
