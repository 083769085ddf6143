"""Write records to parquet files and read them back, row by row.

The schema follows from the dataclass. A file appears whole or not at all.
"""

import os
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from coa.errors import InputError, check_no_folder, writing_error
from coa.records.trajectory import SCHEMA_VERSION
from coa.store.output_file import check_own_file
from coa.store.whole_files import replacing

if TYPE_CHECKING:
    import polars as pl

Record = TypeVar("Record")

_ROWS_PER_GROUP = 1000
"""Rows held in memory at a time; large enough to compress well, small enough for 10 MB rows."""
_IDS_AT_ONCE = 1_000_000
"""Ids that are compared at a time: about 100 MB."""
_FOOTER_END = 8
"""Bytes at the end of a parquet file: the size of its footer, and four letters."""
_VERSION_KEY = b"coa.schema_version"
TRIAL = b"coa.is_trial"
"""In the metadata of a table whose inputs the command line named, and not params.yaml."""
_SCALARS: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


def schema_of(record: type[Any]) -> pa.Schema:
    """Return the columns of a dataclass.

    Enums become strings, tuples lists, dataclasses structs, and `X | None` a nullable column.
    """
    return pa.schema(_fields_of(record), metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def _fields_of(record: type[Any]) -> list[pa.Field]:
    hints = get_type_hints(record)
    return [_field(field.name, hints[field.name]) for field in fields(record)]


def _field(name: str, hint: Any) -> pa.Field:
    if get_origin(hint) in (Union, types.UnionType):
        inner = [part for part in get_args(hint) if part is not type(None)]
        return pa.field(name, _data_type(inner[0]), nullable=True)
    return pa.field(name, _data_type(hint), nullable=False)


def _data_type(hint: Any) -> pa.DataType:
    if hint in _SCALARS:
        return _SCALARS[hint]
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return pa.string()
    if isinstance(hint, type) and is_dataclass(hint):
        return pa.struct(_fields_of(hint))
    if get_origin(hint) is tuple:
        item = get_args(hint)[0]
        return pa.list_(pa.field("item", _data_type(item), nullable=False))
    raise TypeError(f"no column type for {hint!r}")


class TableWriter:
    """A context manager that writes records of one kind to a parquet file.

    The file appears, complete, when the block ends without an error.

    Args:
        path: The file.
        record: The type of its records.
        is_trial: Whether the next trial may replace it (`coa.settings.outputs.check_inputs`).
    """

    def __init__(self, path: Path, record: type[Any], *, is_trial: bool = False) -> None:
        self._path = path
        self._schema = schema_of(record)
        if is_trial:
            self._schema = self._schema.with_metadata({**self._schema.metadata, TRIAL: b"true"})
        self._rows: list[Any] = []
        self._copied = self._schema.empty_table()
        self.num_rows = 0

    def __enter__(self) -> Self:
        check_own_file(self._path, _VERSION_KEY, self._schema.names)
        with _writing(self._path), ExitStack() as stack:
            partial = stack.enter_context(replacing(self._path))
            writer = pq.ParquetWriter(partial, self._schema, compression="zstd")
            self._writer = stack.enter_context(writer)
            self._opened = stack.pop_all()
        return self

    def write(self, record: Any) -> None:
        """Add one record."""
        self._rows.append(msgspec.to_builtins(record))
        self.num_rows += 1
        if len(self._rows) >= _ROWS_PER_GROUP:
            self._flush()

    def append(self, path: Path) -> None:
        """Add the rows of a file of the same records; the bytes are those of `write`.

        Raises:
            InputError: The file is missing or damaged.
        """
        file = open_parquet(path)
        for batch in parquet_batches(path, file, self._schema.names):
            self.num_rows += batch.num_rows
            rows = pa.Table.from_batches([batch]).cast(self._schema)
            self._copied = pa.concat_tables([self._copied, rows])
            while self._copied.num_rows >= _ROWS_PER_GROUP:
                self._flush()

    def _flush(self) -> None:
        """Write a group of rows; those that were written one by one follow those copied."""
        group = self._copied.slice(0, _ROWS_PER_GROUP)
        self._copied = self._copied.slice(_ROWS_PER_GROUP)
        if not group.num_rows:
            group = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._rows = []
        if group.num_rows:
            with _writing(self._path):
                self._writer.write_table(group.combine_chunks())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        with _writing(self._path):
            if kind is None:
                with self._opened:
                    self._flush()
            else:
                self._opened.__exit__(kind, error, trace)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise writing_error(path, error) from error


def write_table(path: Path, record: type[Record], rows: Iterable[Record]) -> int:
    """Write all `rows` to `path` and return how many there were.

    Raises:
        OutputError: The file cannot be written; an earlier file at `path` is untouched.
    """
    with TableWriter(path, record) as table:
        for row in rows:
            table.write(row)
    return table.num_rows


def join(out: Path, record: type[Any], parts: Iterable[Path]) -> None:
    """Write the rows of files of the same records into one, in the files' order.

    Raises:
        InputError: A file is missing or damaged.
        OutputError: The file cannot be written; an earlier file at `out` is untouched.
    """
    with TableWriter(out, record) as table:
        for part in parts:
            table.append(part)


class SharedId(NamedTuple):
    """An id that is in two files."""

    name: str
    first: Path
    last: Path


def find_shared_id(paths: Sequence[Path], column: str) -> SharedId | None:
    """Find the first id that is in two files; a million ids are in memory at a time.

    The name of the ids' column is dotted where they are inside of a record.
    """
    import polars as pl

    name, *fields_within = column.split(".")
    ids = pl.col(name)
    for field in fields_within:
        ids = ids.struct.field(field)
    num_parts = sum(count_rows(path) for path in paths) // _IDS_AT_ONCE + 1
    for part in range(num_parts):
        found: list[pl.LazyFrame] = []
        for number, path in enumerate(paths):
            rows = pl.scan_parquet(path).select(id=ids, file=pl.lit(number))
            found.append(rows.filter(pl.col("id").hash() % num_parts == part))
        files = (
            pl.concat(found)
            .group_by("id")
            .agg(first=pl.col("file").min(), last=pl.col("file").max())
        )
        twice = files.filter(pl.col("first") != pl.col("last")).collect().sort("id")
        for shared, first, last in twice.iter_rows():
            return SharedId(shared, paths[first], paths[last])
    return None


def read_table(path: Path, record: type[Record], rows: range | None = None) -> Iterator[Record]:
    """Read the records of a parquet file, a group at a time; memory does not grow with the rows.

    A column that the record has a default for may be missing: older files do not have it. `rows`
    are the numbers of the rows to read, all of them by default.

    Raises:
        InputError: The file is missing, truncated or of another schema version, lacks a column, or
            a row does not fit.
    """
    file = open_parquet(path)
    found = file.schema_arrow.names
    require_columns(path, found, required_columns(record))
    columns = [field.name for field in fields(record) if field.name in found]  # type: ignore[arg-type]
    _check_version(path, file.metadata.metadata or {})
    rows = range(file.metadata.num_rows) if rows is None else rows
    row = rows.start
    for batch in _batches_of(path, file, columns, rows):
        for values in batch.to_pylist():
            try:
                yield msgspec.convert(values, record)
            except msgspec.ValidationError as error:
                raise InputError(
                    f"a row of {path} is not a {record.__name__}", where=f"row {row}", got=error
                ) from error
            row += 1


def required_columns(record: type[Any]) -> list[str]:
    """List the columns that every file of such records has: those without a default."""
    needed: list[str] = []
    for field in fields(record):
        if field.default is MISSING and field.default_factory is MISSING:
            needed.append(field.name)
    return needed


def count_rows(path: Path) -> int:
    """Return how many rows a parquet file has; only its footer is read.

    Raises:
        InputError: The file is missing or truncated.
    """
    count: int = open_parquet(path).metadata.num_rows
    return count


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        InputError: The file is missing, truncated or not parquet.
    """
    check_no_folder(path)
    try:
        # Its read-ahead keeps all bytes that were read until the file is closed.
        return pq.ParquetFile(path, pre_buffer=False)
    except FileNotFoundError:
        raise InputError(
            f"{path} is missing", fix="`dvc repro` makes it, or name another file in params.yaml"
        ) from None
    except PermissionError as error:
        got = error.strerror or "no permission"
        raise InputError(f"cannot read {path}", got=got, fix="make it readable") from error
    except (pa.ArrowInvalid, OSError) as error:
        fix = "the file is truncated or not parquet: make it again (dvc repro -f, or dvc checkout)"
        raise InputError(f"cannot read {path}", got=str(error).splitlines()[0], fix=fix) from error


def parquet_batches(
    path: Path, file: pq.ParquetFile, columns: list[str], groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read the batches of an open file; `groups` are the numbers of groups of rows to read.

    Raises:
        InputError: The file is damaged.
    """
    try:
        yield from file.iter_batches(_ROWS_PER_GROUP, row_groups=groups, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path} is damaged", got=str(error).splitlines()[0], fix="make it again"
        ) from error


def _batches_of(
    path: Path, file: pq.ParquetFile, columns: list[str], rows: range
) -> Iterator[pa.RecordBatch]:
    """Read some rows; groups without one of them are skipped."""
    first = 0
    groups: list[int] = []
    before = 0
    for group in range(file.metadata.num_row_groups):
        end = first + file.metadata.row_group(group).num_rows
        if end <= rows.start:
            before = end
        elif first < rows.stop:
            groups.append(group)
        first = end
    for batch in parquet_batches(path, file, columns, groups):
        skipped = min(max(rows.start - before, 0), batch.num_rows)
        yield batch.slice(skipped, max(rows.stop - before - skipped, 0))
        before += batch.num_rows


def footer(path: Path) -> bytes:
    """Return the footer of a parquet file, which shows almost every change of its rows.

    It holds the number and the size of all groups of rows, and the least and the greatest value of
    each column in them.

    Raises:
        InputError: The file is missing or truncated.
    """
    open_parquet(path)
    with path.open("rb") as file:
        file.seek(-_FOOTER_END, os.SEEK_END)
        size = int.from_bytes(file.read(_FOOTER_END)[:4], "little")
        file.seek(-_FOOTER_END - size, os.SEEK_END)
        return file.read(size)


def require_columns(path: Path, found: Iterable[str], needed: Iterable[str]) -> None:
    """Refuse a file in which a needed column is missing.

    Raises:
        InputError: It names the missing columns and those that are there.
    """
    found = list(found)
    missing = [name for name in needed if name not in found]
    if missing:
        raise InputError(
            f"{path} lacks the column {missing[0]!r}", expected=f"columns {missing}", got=f"{found}"
        )


def scan(path: Path, columns: Iterable[str]) -> "pl.LazyFrame":
    """Open a parquet file as a lazy table; an InputError says what of it is missing or broken."""
    import polars as pl

    require_columns(path, open_parquet(path).schema_arrow.names, columns)
    return pl.scan_parquet(path)


def _check_version(path: Path, metadata: dict[bytes, bytes]) -> None:
    version = metadata.get(_VERSION_KEY, b"").decode() or "none"
    if version != str(SCHEMA_VERSION):
        fix = "make the file again with this version of the code: dvc repro"
        raise InputError(
            f"{path} has another schema version", expected=SCHEMA_VERSION, got=version, fix=fix
        )
