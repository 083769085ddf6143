"""Keep the repositories of the Hub of the tests in a folder.

Contents lie in one folder, named by their hash; each repository has a JSON file. A commit is whole
or not there: the contents are written first, and the file that names them last and in one step.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from coa.store.whole_files import PRIVATE, write_file

MAIN = "main"
Kind = Literal["model", "dataset"]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a commit."""

    size: int
    sha256: str
    """The name of its contents."""
    git_oid: str
    """SHA-1 as git computes it: of the contents, or of the pointer where it is a large file."""
    is_lfs: bool


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of a repository."""

    oid: str
    parent: str
    title: str
    date: str
    """UTC, ISO 8601."""
    files: dict[str, StoredFile]


@dataclass(slots=True)
class Repository:
    """A model or data set."""

    kind: Kind
    name: str
    """`owner/name`."""
    private: bool
    commits: list[Commit] = field(default_factory=list)
    """The oldest first; the last one is the head of the one branch, `main`."""
    tags: dict[str, str] = field(default_factory=dict)
    """The commit of each tag, by the tag's name."""

    @property
    def head(self) -> Commit:
        """Return the newest commit."""
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """Return the commit that a branch, a tag or an id names."""
        if revision in (MAIN, f"refs/heads/{MAIN}"):
            return self.head
        oid = self.tags.get(revision.removeprefix("refs/tags/"), revision)
        for commit in self.commits:
            if commit.oid == oid:
                return commit
        return None


class Store:
    """All repositories, in a folder that outlives the process."""

    def __init__(self, folder: Path) -> None:
        self._contents = folder / "contents"
        self._repositories = folder / "repositories"
        self._known: dict[tuple[str, str], Repository] = {}
        for path in sorted(self._repositories.glob("*/*/*.json")):
            found = msgspec.json.decode(path.read_bytes(), type=Repository)
            self._known[found.kind, found.name] = found

    def find(self, kind: Kind, name: str) -> Repository | None:
        """Return the repository of this kind and name; None where there is none."""
        return self._known.get((kind, name))

    def create(self, kind: Kind, name: str, *, private: bool) -> Repository:
        """Create a repository with one empty commit, as the Hub does."""
        repository = Repository(kind, name, private)
        self._known[kind, name] = repository
        self.commit(repository, "initial commit", {})
        return repository

    def commit(self, repository: Repository, title: str, files: dict[str, StoredFile]) -> Commit:
        """Add a commit with exactly these files."""
        parent = repository.head.oid if repository.commits else ""
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        described = sorted(str(item) for item in files.items())
        content = [repository.kind, repository.name, parent, title, date, described]
        oid = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        repository.commits.append(Commit(oid, parent, title, date, files))
        self.save(repository)
        return repository.head

    def save(self, repository: Repository) -> None:
        """Write a repository's file again, in one step."""
        path = self._repositories / repository.kind / f"{repository.name}.json"
        write_file(path, json.dumps(asdict(repository)), mode=PRIVATE)

    def content_path(self, sha256: str) -> Path:
        """Return the path of contents, whether they are there or not."""
        return self._contents / sha256

    def keep(self, content: bytes) -> str:
        """Keep contents under the name of their hash, which is returned."""
        sha256 = hashlib.sha256(content).hexdigest()
        write_file(self.content_path(sha256), content, mode=PRIVATE)
        return sha256

    def regular_file(self, content: bytes) -> StoredFile:
        """Keep a small file as git keeps it."""
        return StoredFile(len(content), self.keep(content), _git_oid(content), is_lfs=False)


def large_file(sha256: str, size: int) -> StoredFile:
    """Describe a file of which git holds only a pointer."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return StoredFile(size, sha256, _git_oid(pointer.encode()), is_lfs=True)


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()
