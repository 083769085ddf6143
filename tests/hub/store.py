"""Keep the repositories of the tests' Hub in a folder: contents by hash, and a JSON file each."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

MAIN = "main"


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
    title: str
    date: str
    """UTC, ISO 8601."""
    files: dict[str, StoredFile]


@dataclass(slots=True)
class Repository:
    """A model or data set."""

    kind: str
    """`model` or `dataset`."""
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
        return next((commit for commit in self.commits if commit.oid == oid), None)


class Store:
    """All repositories, in a folder that outlives the process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "contents").mkdir(parents=True, exist_ok=True)
        self._known: dict[tuple[str, str], Repository] = {}
        for path in sorted(folder.glob("*.json")):
            found = msgspec.json.decode(path.read_bytes(), type=Repository)
            self._known[found.kind, found.name] = found

    def find(self, kind: str, name: str) -> Repository | None:
        """Return the repository of this kind and name; None where there is none."""
        return self._known.get((kind, name))

    def create(self, kind: str, name: str, *, private: bool) -> Repository:
        """Create a repository with one empty commit, as the Hub does."""
        repository = Repository(kind, name, private)
        self._known[kind, name] = repository
        self.commit(repository, "initial commit", {})
        return repository

    def commit(self, repository: Repository, title: str, files: dict[str, StoredFile]) -> Commit:
        """Add a commit with exactly these files."""
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = [repository.name, len(repository.commits), title, date, sorted(files)]
        oid = hashlib.sha1(msgspec.json.encode(content)).hexdigest()
        repository.commits.append(Commit(oid, title, date, files))
        self.save(repository)
        return repository.head

    def save(self, repository: Repository) -> None:
        """Write a repository's file again."""
        name = f"{repository.kind}--{repository.name.replace('/', '--')}.json"
        (self._folder / name).write_bytes(msgspec.json.encode(repository))

    def content_path(self, sha256: str) -> Path:
        """Return the path of contents, whether they are there or not."""
        return self._folder / "contents" / sha256

    def keep(self, content: bytes) -> str:
        """Keep contents, and return their hash."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.content_path(sha256).write_bytes(content)
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
