"""Corpus files to passages: parquet or JSON lines, streamed and checked row by row.

Columns are id, title and text under any name, or id and `contents`, the form of the wiki-18 corpus: the title in
quotes, a line break, the text.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coa.errors import InputError
from coa.search import Passage

if TYPE_CHECKING:
    from coa.sources import Row

_FIX = "mend or remove the row, or map the right column in params.yaml: index.columns"


def read_passages(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Passage]:
    """The passages of `path`, in its order; of all that was read only 8 bytes an id are kept.

    `columns` maps our column to the file's, where the names differ: `{text: body}`. A key `contents` says that title
    and text stand in one column: `{contents: contents}`.

    Raises:
        InputError: the file is missing, truncated, not UTF-8 or without rows, or lacks a column; or a row has no id or
            no text, or repeats an id. It names the file and the row.
        ConfigError: the file's ending is not .parquet, .jsonl or .csv.
    """
    columns = columns or {}
    names = ("id", "contents") if "contents" in columns else ("id", "title", "text")
    seen: set[int] = set()
    for row in _decoded_rows(path, {name: columns.get(name, name) for name in names}):
        passage = to_passage(row)
        digest = int.from_bytes(hashlib.blake2b(passage.id.encode(), digest_size=8).digest())
        if digest in seen:
            fix = "give every passage an id of its own: trajectories name the passages they saw by id"
            raise InputError(f"the passage id {passage.id!r} occurs twice", where=row.where, fix=fix)
        seen.add(digest)
        yield passage
    if not seen:
        raise InputError(f"{path} holds no passages", fix="check the path in params.yaml: index.corpus")


def _decoded_rows(path: Path, columns: Mapping[str, str]) -> "Iterator[Row]":
    """The rows; text in a parquet file that is not UTF-8 surfaces only when its batch is decoded."""
    from coa.sources import read_rows  # loads pyarrow, which clients of a server need not wait for

    where = f"{path}, row 0"
    try:
        for row in read_rows(path, columns):
            where = row.where
            yield row
    except UnicodeDecodeError as error:
        fix = "write the file again with UTF-8 text"
        raise InputError(f"{path} is not UTF-8", where=f"after {where}", got=error, fix=fix) from error


def to_passage(row: "Row") -> Passage:
    """One row as a passage.

    Raises:
        InputError: the id or the text is empty, or a value is not text.
    """
    values = {name: _text(value, name, row.where) for name, value in row.values.items()}
    if "contents" in values:
        values["title"], values["text"] = split_contents(values["contents"])
    for name in ("id", "text"):
        if not values[name].strip():
            raise InputError(f"the passage's {name} is empty", where=row.where, got=f"id {values['id']!r}", fix=_FIX)
    return Passage(values["id"], values["title"], values["text"])


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, int) and name == "id":
        return str(value)
    if not isinstance(value, str):
        raise InputError(f"the passage's {name} is not text", where=where, got=type(value).__name__, fix=_FIX)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the passage's {name} is not valid Unicode", where=where, got=error, fix=_FIX) from error
    return value


def split_contents(contents: str) -> tuple[str, str]:
    r"""Title and text of a wiki-18 passage, `"Title"\ntext`; without a line break all of it is text."""
    title, line_break, text = contents.partition("\n")
    if not line_break:
        return "", contents
    title = title.strip()
    is_quoted = len(title) > 1 and title[0] == title[-1] == '"'
    return title[1:-1] if is_quoted else title, text


def corpus_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in hex.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        fix = "check the path in params.yaml: index.corpus"
        raise InputError(f"cannot read {path}", got=error.strerror or error, fix=fix) from error
