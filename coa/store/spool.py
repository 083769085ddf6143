"""Keep records on disk until their turn, so that memory does not grow with their number."""

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Generic, NamedTuple, Self, TypeVar

import msgspec

from coa.errors import writing_error
from coa.store.journal import to_json

Record = TypeVar("Record")


class _Place(NamedTuple):
    offset: int
    size: int


class Spool(Generic[Record]):
    """A context manager that keeps records of one kind by number in a nameless temporary file.

    Only the place of each record is held in memory. The file is gone when the block or the process
    ends.
    """

    def __init__(self, record: type[Record], folder: Path | None = None) -> None:
        """Keep records of the type `record` in `folder`, or in the system's temporary one."""
        self._decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(record)
        self._folder = folder
        self._places: dict[int, _Place] = {}
        self._end = 0

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            OutputError: the folder cannot be written to.
        """
        try:
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            raise writing_error(self._folder or tempfile.gettempdir(), error) from error
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what a full disk did not take is gone either way
            self._file.close()

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def put(self, number: int, record: Record) -> None:
        """Write a record down.

        Raises:
            OutputError: the disk is full.
        """
        content = to_json(record)
        try:
            self._file.seek(self._end)
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise writing_error(self._folder or tempfile.gettempdir(), error) from error
        self._places[number] = _Place(self._end, len(content))
        self._end += len(content)

    def get(self, number: int) -> Record:
        """Read a record back."""
        place = self._places[number]
        self._file.seek(place.offset)
        return self._decoder.decode(self._file.read(place.size))

    def take(self, number: int) -> Record:
        """Read a record back and forget it; the disk is free again when none is left."""
        record = self.get(number)
        del self._places[number]
        if not self._places:
            self._file.truncate(0)
            self._end = 0
        return record
