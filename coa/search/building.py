"""Build a memory-mapped index folder, with the same bytes for the same passages.

So DVC sees a change only where there is one. Passages are sorted by id, which also orders equally
good hits by id, and the segments, which tantivy names at random, are renamed. The folder appears
whole or not at all. A build that is stopped resumes after the last passages that it committed.
"""

import errno
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import tantivy
from tantivy import Document, Index, Query

from coa.errors import InputError
from coa.progress import Progress
from coa.search import Passage
from coa.search.analysis import FORMAT_VERSION, IndexSettings, analyser, fingerprint
from coa.store.output_folder import OwnFolder, replace_folder, unfinished_folder

HEAP_BYTES = 4_000_000_000
"""A limit, not an allocation (about 700 bytes a passage are used): what fits into it becomes a
single segment."""
PASSAGES_PER_COMMIT = 4_000_000
"""A build that is stopped keeps what it committed, and each commit ends a segment. tantivy merges
segments when there are eight."""
OWN_FOLDER = OwnFolder(
    "coa search index",
    "manifest.json",
    r"(manifest|meta)\.json|[0-9a-f]{32}\.\w+",
    mark='"corpus_hash"',
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """Record of what an index folder was made from."""

    format_version: int
    corpus_hash: str
    num_passages: int
    settings: IndexSettings
    tantivy_version: str
    fingerprint: str
    """Fingerprint at build time; an engine of another version that opens the folder reports its
    own."""


def build_index(
    passages: Iterable[Passage],
    out: Path,
    settings: IndexSettings,
    corpus_hash: str,
    progress: Progress | None = None,
    heap_bytes: int = HEAP_BYTES,
    passages_per_commit: int = PASSAGES_PER_COMMIT,
) -> Manifest:
    """Index `passages` into the folder `out`.

    The folder appears whole or not at all, and replaces an older index. If a build of the same
    passages was stopped or killed, this one resumes after the passages that it committed; the
    index has the same bytes as one that was built at once.

    Raises:
        InputError: there are no passages, or a stopped build had them in another order.
        OutputError: `out` cannot be written, or holds something else than an index.
    """
    key = hashlib.sha256(fingerprint(corpus_hash, settings).encode()).hexdigest()[:16]
    # Threads of tantivy may add lock files where it writes; the index must not hold them.
    with (
        replace_folder(out, OWN_FOLDER, keeps=key) as folder,
        unfinished_folder(out, key, _has_commits) as work,
    ):
        remaining = iter(passages)
        if _has_commits(work):
            index = Index.open(str(work))
            index.register_tokenizer("passage", analyser(settings))
            _skip_committed(index, remaining, work, progress)
        else:
            index = new_index(settings, work)
        num_passages = fill(index, remaining, heap_bytes, progress, passages_per_commit)
        if not num_passages:
            raise InputError("there are no passages to index", where=out)
        _move_segments(work, folder)
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            corpus_hash=corpus_hash,
            num_passages=num_passages,
            settings=settings,
            tantivy_version=version("tantivy"),
            fingerprint=fingerprint(corpus_hash, settings),
        )
        text = json.dumps(asdict(manifest), indent=2) + "\n"
        (folder / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def new_index(settings: IndexSettings, folder: Path | None) -> Index:
    """Create an empty index; without `folder` it is in memory.

    The field `title` is there to weigh titles; `body` holds title and text and stores both.
    """
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("id", stored=True, fast=True, tokenizer_name="raw", index_option="basic")
    fields.add_text_field("title", tokenizer_name="passage", index_option="freq")
    fields.add_text_field("body", stored=True, tokenizer_name="passage", index_option="freq")
    index = Index(fields.build(), path=str(folder) if folder else None, sort_by_field="id")
    index.register_tokenizer("passage", analyser(settings))
    return index


def _has_commits(work: Path) -> bool:
    """Tell whether a build committed passages in this folder before it was stopped."""
    try:
        meta = json.loads((work / "meta.json").read_bytes())
    except FileNotFoundError:
        return False
    return bool(meta["segments"])


def _skip_committed(
    index: Index, passages: Iterator[Passage], work: Path, progress: Progress | None
) -> None:
    """Take the passages that are in the index from the iterator."""
    index.reload()
    searcher = index.searcher()
    for passage in islice(passages, searcher.num_docs):
        is_passage = Query.term_query(index.schema, "id", passage.id, "basic")
        if not searcher.search(is_passage, 1, count=False).hits:
            raise InputError(
                "a build of the same passages in another order was stopped here",
                where=work,
                got=f"passage {passage.id!r}, which it had not come to",
                fix=f"delete {work}, or give the files of the corpus their old names",
            )
        if progress:
            progress.add()


def fill(
    index: Index,
    passages: Iterable[Passage],
    heap_bytes: int,
    progress: Progress | None,
    passages_per_commit: int = PASSAGES_PER_COMMIT,
) -> int:
    """Index the passages, and return how many the index holds then."""
    writer = index.writer(heap_bytes, num_threads=1)
    try:
        for number, passage in enumerate(passages, start=1):
            document = Document(
                id=[passage.id], title=[passage.title], body=[passage.title, passage.text]
            )
            with _tantivy_writes():
                writer.add_document(document)
                if number % passages_per_commit == 0:
                    writer.commit()
            if progress:
                progress.add()
        with _tantivy_writes():
            writer.commit()
    finally:  # after an error too: its threads must not write into a folder that is being removed
        with _tantivy_writes():
            writer.wait_merging_threads()
    index.reload()
    num_passages: int = index.searcher().num_docs
    return num_passages


@contextmanager
def _tantivy_writes() -> Iterator[None]:
    """Raise tantivy's ValueError as the error of a full disk, which it does not name itself."""
    try:
        yield
    except ValueError as error:
        message = "the disk is probably full: tantivy cannot write its files"
        raise OSError(errno.ENOSPC, message) from error


def _move_segments(work: Path, folder: Path) -> None:
    """Move the files of an index; number its segments in the order of their contents.

    What depends on how often the build was stopped is taken out of tantivy's meta.json.
    """

    def digest(segment: dict[str, Any]) -> bytes:
        with (work / f"{_file_stem(segment)}.store").open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    meta = json.loads((work / "meta.json").read_bytes())
    # Without this file no build resumes in a folder of which some segments have moved.
    (work / "meta.json").unlink()
    meta["segments"].sort(key=digest)
    meta["opstamp"] = 0  # It counts what the last process did, and nobody writes here again.
    for number, segment in enumerate(meta["segments"], start=1):
        old_stem = _file_stem(segment)
        name = uuid.UUID(int=number)
        segment["segment_id"] = str(name)
        for file in work.glob(f"{old_stem}.*"):
            file.rename(folder / f"{name.hex}{file.suffix}")
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")


def _file_stem(segment: dict[str, Any]) -> str:
    """Return the name that a segment's files share, without their endings."""
    segment_id: str = segment["segment_id"]
    return segment_id.replace("-", "")


def read_manifest(path: Path) -> Manifest:
    """Read what the index folder `path` was made from.

    Raises:
        InputError: there is no index, or it is damaged or of another format.
    """
    try:
        manifest = msgspec.json.decode((path / "manifest.json").read_bytes(), type=Manifest)
    except OSError as error:
        got = error.strerror or str(error)
        raise unusable(path, "is not there or cannot be read", got) from error
    except msgspec.DecodeError as error:
        got = f"manifest.json: {error}"
        raise unusable(path, "is damaged or of another version", got) from error
    if manifest.format_version != FORMAT_VERSION:
        got = f"format {manifest.format_version}, not {FORMAT_VERSION}"
        raise unusable(path, "is of another version", got)
    return manifest


def unusable(path: Path, fault: str, got: str) -> InputError:
    """Build the error for an index folder that cannot be opened."""
    return InputError(f"the search index {path} {fault}", got=got, fix="build it: coa search index")
