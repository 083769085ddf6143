"""Copy the files that will be published; the copy is checked, and the copy is uploaded.

The copy lies in a folder that this user alone can read, and its hashes are taken before anything is
checked. A file that changes in the project while the checks run ends the command. One that is
swapped afterwards changes nothing.
"""

import hashlib
import io
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from coa.errors import InputError, writing_error
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.provenance import shown

FOLDER = Path(".cache/publication")
"""The copies are beside this path; each folder's name has the number of its process."""
Content = Path | bytes
"""A file's contents: the path of a file here, or the bytes that are to be written."""


class Hashes(NamedTuple):
    """The size and the hashes that identify contents."""

    size: int
    """Number of bytes."""
    sha256: str
    git_oid: str
    """The SHA-1 that git gives them."""


class Copy(NamedTuple):
    """A file of the project and its copy."""

    original: Path
    copy: Path
    hashes: Hashes
    """The hashes of the copy, taken before it was checked."""


def hashes_of(content: Content) -> Hashes:
    """Compute the hashes of contents; a file is read piece by piece."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size)
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            git.update(chunk)
    return Hashes(size, sha256.hexdigest(), git.hexdigest())


def copy_sets(names: Iterable[SetName], to: Path) -> tuple[Copy, ...]:
    """Copy the files of these sets; skip a missing one, which the checks will name."""
    copies = []
    for name in names:
        for split in SPLITS:
            path = local_path(name, split)
            if not path.is_file():
                continue
            copy = to / path
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            except OSError as error:
                raise writing_error(copy, error) from error
            copies.append(Copy(path, copy, hashes_of(copy)))
    return tuple(copies)


def require_unchanged(copies: Iterable[Copy]) -> None:
    """Refuse files that have changed since they were copied.

    Raises:
        InputError: a file has changed or is gone.
    """
    changed = []
    for path, _, hashes in copies:
        if not path.is_file() or hashes_of(path) != hashes:
            changed.append(str(path))
    if changed:
        raise InputError(
            "files changed while they were checked",
            where=shown(changed),
            expected="a project in which nothing runs meanwhile",
            fix="wait for what writes them (dvc repro, a training), then publish again",
        )
