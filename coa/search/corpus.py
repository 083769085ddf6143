"""Read passages from parquet, JSON lines or CSV files, streamed and checked row by row.

Columns are id, title and text under any name, or id and `contents`, the form of the wiki-18 corpus:
the title in quotes, a line break, the text.
"""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np

from coa.errors import ConfigError, InputError
from coa.search import Passage
from coa.search.wire import split_contents
from coa.store.sources import SourceRow, ending_of, read_rows
from coa.store.tables import open_parquet

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".csv")
"""Of the files that `coa.store.sources` reads."""
_FIX = "mend or remove the row, or map the right column in params.yaml: index.columns"
_FIX_PATH = "check the path in params.yaml: index.corpus"
_FIRST_CHECK = 4096
"""Ids after which repeated ones are looked for the first time; then whenever their number has
doubled."""
_MAX_NAMED = 1000
"""Repeated ids that are looked up in the files: a corpus that is there twice would otherwise fill
the memory."""


def corpus_files(corpus: str, own_reader: str = "") -> tuple[Path, ...]:
    """List the files that `index.corpus` names, sorted.

    It names a file, a folder of files, or a pattern that files match. Hidden files in a folder are
    skipped (DVC and git leave some); every other file must be one of passages. With a reader of the
    user's its ending may be any.

    Raises:
        InputError: the folder is empty, or nothing matches the pattern.
        ConfigError: a file's ending is not among `ENDINGS`, or the folder holds a folder.
    """
    path = Path(corpus)
    if path.is_dir():
        files = [file for file in path.iterdir() if not file.name.startswith(".")]
    elif has_magic(corpus) and not path.exists():
        matching = Path(path.anchor).glob(path.relative_to(path.anchor).as_posix())
        files = [file for file in matching if not file.is_dir()]
    else:
        files = [path]
    if not files:
        raise InputError(
            f"there are no corpus files at {corpus}",
            expected=f"*{', *'.join(ENDINGS)}",
            fix=_FIX_PATH,
        )
    for file in files:
        is_known = file.name.endswith(ENDINGS) or bool(own_reader)
        if not is_known or file.is_dir():
            folder = path if path.is_dir() else path.parent
            raise ConfigError(
                f"cannot tell the format of {file}",
                where="index.corpus",
                expected=f"a name ending in {', '.join(ENDINGS)}",
                fix="move it elsewhere, or name the others by a pattern: "
                f"index.corpus: {folder}/*{ENDINGS[0]}",
            )
    return tuple(sorted(files))


def expected_rows(files: Sequence[Path]) -> int | None:
    """Count the rows of parquet files, to show the time left; None for other files."""
    total = 0
    for path in files:
        if ending_of(path) != ".parquet":
            return None
        total += int(open_parquet(path).metadata.num_rows)
    return total


def read_passages(
    files: Sequence[Path], columns: Mapping[str, str] | None = None, own_reader: str = ""
) -> Iterator[Passage]:
    """Read the passages of `files` in order, keeping only 8 bytes for each id in memory.

    `columns` maps our column to the file's, where the names differ: `{text: body}`. A key
    `contents` says that title and text are in one column: `{contents: contents}`. That an id
    occurs twice may be noticed only at the end. `own_reader` names a function of the user's that
    reads a file (`coa.store.sources.own_rows`).

    Raises:
        InputError: a file is missing, truncated, not UTF-8 or without rows, or lacks a column; or a
            row has no id or no text, or the id of another row, in whichever file. It names the file
            and the row.
        ConfigError: a file's ending is not among `ENDINGS`.
    """
    columns = columns or {}
    ours = ("id", "contents") if "contents" in columns else ("id", "title", "text")
    names = {name: columns.get(name, name) for name in ours}
    digests = array("Q")
    next_check = _FIRST_CHECK
    for file in files:
        count = len(digests)
        for row in read_rows(file, names, own_reader=own_reader):
            passage = _to_passage(row)
            digests.append(_digest(passage.id))
            yield passage
            if len(digests) == next_check:
                _require_unique(digests, files, names, own_reader)
                next_check *= 2
        if len(digests) == count:
            raise InputError(f"{file} holds no passages", fix=_FIX_PATH)
    _require_unique(digests, files, names, own_reader)


def _digest(passage_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(passage_id.encode(), digest_size=8).digest())


def _require_unique(
    digests: "array[int]", files: Sequence[Path], names: Mapping[str, str], own_reader: str
) -> None:
    """Raise where an id occurs twice.

    The digests of the ids are sorted; the files are read again only where two digests are equal.
    """
    ordered = np.sort(np.frombuffer(digests, dtype=np.uint64))
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if repeated.size:
        _name_repeated(files, names, own_reader, set(repeated[:_MAX_NAMED].tolist()))


def _name_repeated(
    files: Sequence[Path], names: Mapping[str, str], own_reader: str, digests: set[int]
) -> None:
    """Raise with the first two rows that share an id.

    There may be none: the digests of different ids can be equal.
    """
    first: dict[str, str] = {}
    for file in files:
        for row in read_rows(file, names, own_reader=own_reader):
            passage_id = str(row.values["id"])
            if _digest(passage_id) not in digests:
                continue
            if passage_id in first:
                raise InputError(
                    f"the passage id {passage_id!r} occurs twice",
                    where=f"{first[passage_id]} and {row.where}",
                    fix="give every passage an id of its own: trajectories name the passages they "
                    "saw by id",
                )
            first[passage_id] = row.where


def _to_passage(row: SourceRow) -> Passage:
    """Turn a row into a passage."""
    values = {name: _text(value, name, row.where) for name, value in row.values.items()}
    if "contents" in values:
        values["title"], values["text"] = split_contents(values["contents"])
    for name in ("id", "text"):
        if not values[name].strip():
            raise InputError(
                f"the passage's {name} is empty",
                where=row.where,
                got=f"id {values['id']!r}",
                fix=_FIX,
            )
    return Passage(values["id"], values["title"], values["text"])


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, int) and name == "id":
        return str(value)
    if not isinstance(value, str):
        raise InputError(
            f"the passage's {name} is not text", where=where, got=type(value).__name__, fix=_FIX
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the passage's {name} is not valid Unicode", where=where, got=error, fix=_FIX
        ) from error
    return value


def corpus_hash(files: Sequence[Path]) -> str:
    """Hash the files with SHA-256, in hex.

    The hash of several files is that of their sorted hashes, so their names do not matter.

    Raises:
        InputError: a file cannot be read.
    """
    hashes = sorted(_file_hash(file) for file in files)
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read {path}", got=error.strerror or error, fix=_FIX_PATH
        ) from error
