"""Keep the vectors of an index's passages in a folder, row by row, so that none is computed twice.

manifest.json    corpus and embedder; appears with the first vectors
vectors.f16      a row of half floats for each passage, in the order of the index; rows are appended
graph.usearch    the graph of neighbours; appears when all rows are there
graph.sha256     the digest of the graph
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from coa.errors import InputError, OutputError, ServiceError, writing_error
from coa.search.dense.embedders import Vectors
from coa.store.output_folder import OwnFolder, check_own_folder
from coa.store.whole_files import write_file

FORMAT_VERSION = 2
"""Raised with every change of the folder's files."""
_FIRST_FORMAT = 1
"""Its rows were written in any order, so only a folder with a graph is known to be complete."""
MANIFEST = "manifest.json"
DIGEST = "graph.sha256"
OWN_FOLDER = OwnFolder(
    "coa search embed",
    MANIFEST,
    r"manifest\.json|vectors\.f16|done|graph\.(usearch|sha256)|\..+\.partial",
    mark='"embedder"',
)
_ROWS = "vectors.f16"
_BUILD = "build them: coa search embed"


@dataclass(frozen=True, slots=True)
class Origin:
    """What vectors were made from. Vectors are usable only where all of it is equal."""

    corpus_hash: str
    segments: tuple[int, ...]
    """Passages in each part of the index: they decide the order of the rows."""
    embedder: Mapping[str, object]
    """The identity of what made the vectors."""

    @property
    def num_passages(self) -> int:
        """Count the passages."""
        return sum(self.segments)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Record of what a folder of vectors holds."""

    format_version: int
    dimensions: int
    origin: Origin


class VectorFolder:
    """The vectors in a folder, complete or not."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self.origin = manifest.origin
        self.dimensions = manifest.dimensions
        self._row_bytes = self.dimensions * np.dtype(np.float16).itemsize

    @classmethod
    def open(cls, path: Path, origin: Origin) -> Self | None:
        """Open a folder; None where nothing is there yet.

        Raises:
            InputError: it holds vectors of another corpus or embedder, or it is damaged.
        """
        manifest = _read_manifest(path)
        if manifest is None:
            return None
        _require_same(path, origin, manifest.origin)
        folder = cls(path, manifest)
        if folder.num_rows > origin.num_passages:
            got = f"{folder.num_rows:,} vectors of {origin.num_passages:,} passages"
            raise _unusable(path, got)
        return folder

    @classmethod
    def create(cls, path: Path, origin: Origin, dimensions: int) -> Self:
        """Make a folder without vectors.

        Raises:
            OutputError: it cannot be written, or holds something else.
        """
        check_own_folder(path, OWN_FOLDER)
        manifest = Manifest(FORMAT_VERSION, dimensions, origin)
        write_file(path / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")
        return cls(path, manifest)

    @property
    def num_rows(self) -> int:
        """Count the rows that are there."""
        file = self._path / _ROWS
        return file.stat().st_size // self._row_bytes if file.exists() else 0

    @property
    def rows(self) -> NDArray[np.float16]:
        """Map the rows."""
        shape = (self.num_rows, self.dimensions)
        return np.memmap(self._path / _ROWS, dtype=np.float16, mode="r", shape=shape)

    def append(self, vectors: Vectors) -> None:
        """Write the next rows.

        Raises:
            ServiceError: the vectors have another size than those before.
            OutputError: they cannot be written.
        """
        require_size(vectors, self.dimensions, self._path)
        try:
            with (self._path / _ROWS).open("ab") as file:
                # A killed process may have left a part of a row.
                file.truncate(self.num_rows * self._row_bytes)
                file.write(vectors.astype(np.float16).tobytes())
                file.flush()
                os.fdatasync(file.fileno())
        except OSError as error:
            raise writing_error(self._path, error) from error


@contextmanager
def writing_alone(path: Path) -> Iterator[None]:
    """Keep other processes from embedding into the folder; raise an OutputError if one does."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), blocking=False):
            check_own_folder(path, OWN_FOLDER)
            yield
    except Timeout as error:
        raise OutputError(
            f"another process embeds into {path}",
            fix="wait until it has ended, or name another folder: search.dense.folder=...",
        ) from error


def require_size(vectors: Vectors, dimensions: int, where: object) -> None:
    """Refuse vectors of another size: they are of another model, whatever its name."""
    if vectors.shape[1] != dimensions:
        raise ServiceError(
            "the embedder gives vectors of another size",
            where=where,
            expected=f"{dimensions} numbers",
            got=f"{vectors.shape[1]} numbers",
            fix="ask the model that made the first vectors, or embed with this one into another "
            "folder: coa search embed search.dense.folder=...",
        )


def _read_manifest(path: Path) -> Manifest | None:
    try:
        content = (path / MANIFEST).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.DecodeError as error:
        raise _unusable(path, f"{MANIFEST}: {error}") from error
    is_old_and_whole = manifest.format_version == _FIRST_FORMAT and (path / DIGEST).is_file()
    if manifest.format_version != FORMAT_VERSION and not is_old_and_whole:
        raise _unusable(path, f"format {manifest.format_version}, not {FORMAT_VERSION}")
    return manifest


def _unusable(path: Path, got: str) -> InputError:
    return InputError(
        f"the vectors in {path} are damaged or of another version",
        got=got,
        fix=f"name another folder (search.dense.folder=...), or move it away, and {_BUILD}",
    )


def _require_same(path: Path, expected: Origin, found: Origin) -> None:
    """Refuse vectors of another corpus or embedder; the error names what differs."""
    ours = _flat(expected)
    theirs = _flat(found)
    names = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
    if names:
        raise InputError(
            f"the vectors in {path} are of another corpus or embedder",
            expected="; ".join(f"{name} {ours.get(name)!r}" for name in names),
            got="; ".join(f"{name} {theirs.get(name)!r}" for name in names),
            fix="set search.dense as it was, or name another folder "
            f"(search.dense.folder=...) and {_BUILD}",
        )


def _flat(origin: Origin) -> dict[str, object]:
    """Return all that decides vectors as one mapping, in plain JSON."""
    plain: dict[str, object] = msgspec.to_builtins(origin.embedder)
    return {"corpus": origin.corpus_hash, "segments": list(origin.segments), **plain}
