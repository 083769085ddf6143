"""Write files that are whole or not there: beside their place first, then one rename.

A kill or a full disk leaves what stood there before. The file beside is locked while its process
lives, so the next writer can tell a leftover from the work of another process; a process id could
not, because ids are used again and mean something else in another container.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from coa.errors import writing_error

_PUBLIC = 0o666
"""The user's umask takes away from it."""
PRIVATE = 0o600
"""For secrets: nobody else may read the file."""


def write_file(path: Path, content: str | bytes, *, mode: int = _PUBLIC) -> None:
    """Write a file, and the folders above it.

    Raises:
        OutputError: the file cannot be written; what stood there before is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        with replacing(path, mode=mode) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise writing_error(path, error) from error


@contextmanager
def replacing(path: Path, *, mode: int = _PUBLIC) -> Iterator[Path]:
    """Give a file to write to, which takes the place of `path` if the block ends without an error.

    Raises:
        OSError: the file cannot be written; what stood there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.partial")
    descriptor = _open_locked(partial, mode)
    try:
        yield partial
        os.fsync(descriptor)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
        os.close(descriptor)


def _open_locked(partial: Path, mode: int) -> int:
    """Make a file and lock it; again where another process took it for a leftover in between."""
    while True:
        descriptor = os.open(partial, os.O_CREAT | os.O_RDWR, mode)
        # A disk without locks works as well: its leftovers stay.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of `path`; the files of those that still run stay."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*.partial"):
        with suppress(OSError):  # it is locked, has gone meanwhile, or is another user's
            descriptor = os.open(leftover, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                leftover.unlink()
            finally:
                os.close(descriptor)
