"""Passages to a folder that is memory-mapped, and queries to ranked passages: the embedded BM25 engine (tantivy).

    python -m coa.search.index

Two builds of the same passages give the same bytes, so that DVC sees a change only where there is one: passages are
sorted by id, and the segments, which tantivy names at random, are renamed. The sorting also breaks ties by id.
"""

import asyncio
import glob
import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import tantivy
from tantivy import DocAddress, Document, Filter, Index, Query, TextAnalyzer

from coa.errors import CoaError, InputError, OutputError, writing_error
from coa.progress import Progress
from coa.search import Hit, Passage

FORMAT_VERSION = 1
"""Raised with every change of the folder's fields or files."""
TITLE_BOOST = 0.5
"""Weight of a word in the title beside 1 in title and text. Measured on 80,477 Wikipedia passages: titles as queries
find their passage first in 93% (without the field 82%), HotpotQA questions lose nothing; 1.0 costs those 3 points."""
MAX_QUERY_TERMS = 64
"""Distinct words searched, the first ones of the query: more than any real question has, and a bound on the time that a
policy which writes on and on can cost."""
_STOP_WORDS = (
    "a an the and or but nor of in on at by to from for with about into as than that this these those there "
    "is are was were be been being am do does did has have had having it its he his him she her hers they their them "
    "what which who whom whose when where why how s t d ll m re ve"
)
QUERY_STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words dropped from queries unless nothing else is left: question words, function words, tails of contractions. They
say nothing, yet take most of a query's time. `us`, `will`, `may` and `can` are not among them: they may be names."""
_MAX_WORD_CHARS = 100  # longer ones are no words (base64, minified code)
_TIE_MARGIN = 32  # hits fetched beyond the cut where ties may cross segments
HEAP_BYTES = 4_000_000_000
"""A limit, not an allocation (about 700 bytes a passage are used): what fits into it becomes a single segment."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How passages and queries are cut into terms."""

    is_stemmed: bool = True
    """Reduce English words to their stems."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index folder was made from."""

    format_version: int
    corpus_hash: str
    num_passages: int
    settings: IndexSettings
    tantivy_version: str
    fingerprint: str
    """As of the build; an engine of another version that opens the folder reports its own."""


class EmbeddedSearch:
    """A search engine over an index folder or over passages in memory. Safe to use from several threads."""

    def __init__(self, index: Index, settings: IndexSettings, corpus_hash: str) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()
        self._words, self._terms = analyser(IndexSettings(is_stemmed=False)), analyser(settings)
        self.num_passages: int = self._searcher.num_docs
        self.fingerprint = fingerprint(corpus_hash, settings)

    @classmethod
    def open(cls, path: Path) -> "EmbeddedSearch":
        """Map the index folder `path`; nothing is ever written into it, so it may be shared and read-only.

        Raises:
            InputError: there is no index, or it is damaged or of another format.
        """
        manifest = _read_manifest(path)
        # tantivy leaves a lock file where it opens an index: so it opens links, which the mapped files outlive.
        with tempfile.TemporaryDirectory(prefix="coa-index-", ignore_cleanup_errors=True) as links:
            for file in path.iterdir():
                Path(links, file.name).symlink_to(file.resolve())
            try:
                return cls(Index.open(links), manifest.settings, manifest.corpus_hash)
            except ValueError as error:
                raise _unusable(path, "is damaged or of another version", str(error)[:200]) from error

    @classmethod
    def in_memory(cls, passages: Iterable[Passage], settings: IndexSettings | None = None) -> "EmbeddedSearch":
        """Index `passages` in memory: for tests and small corpora."""
        settings = settings or IndexSettings()
        index, kept = _new_index(settings, None), list(passages)
        _fill(index, kept, HEAP_BYTES, None)
        content = json.dumps(sorted((passage.id, passage.title, passage.text) for passage in kept))
        return cls(index, settings, hashlib.sha256(content.encode()).hexdigest())

    async def search(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """`find` in a thread, so that other rollouts go on meanwhile."""
        return await asyncio.to_thread(self.find, query, top_k)

    def find(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """The `top_k` best passages for any text, best first, ties by id; none when no word of the query occurs."""
        limit = min(top_k, self.num_passages)
        terms = self.query_terms(query)
        if limit < 1 or not terms:
            return ()
        fetched = limit + (_TIE_MARGIN if self._searcher.num_segments > 1 else 0)
        found = self._searcher.search(self._query(terms), fetched, count=False).hits
        hits = [Hit(self._passage(address), score) for score, address in found]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))[:limit])

    def query_terms(self, query: str) -> list[str]:
        """The terms that are searched for `query`, which is cut into words as passages are and never parsed."""
        query = query.encode("utf-8", "replace").decode("utf-8")  # tantivy refuses lone surrogates
        pairs = list(zip(self._words.analyze(query), self._terms.analyze(query), strict=True))
        # Compared before stemming: the stem of `does` is `doe`, which may be a name.
        kept = [term for word, term in pairs if word not in QUERY_STOP_WORDS] or [term for _, term in pairs]
        return list(dict.fromkeys(kept))[:MAX_QUERY_TERMS]

    def _passage(self, address: DocAddress) -> Passage:
        document = self._searcher.doc(address)
        return Passage(document.get_all("id")[0], *document.get_all("body"))

    def _query(self, terms: Iterable[str]) -> Query:
        clauses: list[tuple[tantivy.Occur, Query]] = []
        for term in terms:
            in_title = Query.term_query(self._schema, "title", term, "freq")
            clauses.append((tantivy.Occur.Should, Query.term_query(self._schema, "body", term, "freq")))
            clauses.append((tantivy.Occur.Should, Query.boost_query(in_title, TITLE_BOOST)))
        return Query.boolean_query(clauses)


def analyser(settings: IndexSettings) -> TextAnalyzer:
    """Text to terms: letters and digits, in lower case, without accents, stemmed where the settings say so."""
    filters = [Filter.remove_long(_MAX_WORD_CHARS), Filter.lowercase(), Filter.ascii_fold()]
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in [*filters, Filter.stemmer("english")] if settings.is_stemmed else filters:
        builder = builder.filter(step)
    return builder.build()


def fingerprint(corpus_hash: str, settings: IndexSettings) -> str:
    """Corpus, engine, its version and all that decides about ranking, as `tantivy:` and 12 hex digits."""
    parts = [FORMAT_VERSION, corpus_hash, asdict(settings), version("tantivy"), TITLE_BOOST, MAX_QUERY_TERMS]
    text = json.dumps([*parts, _MAX_WORD_CHARS, sorted(QUERY_STOP_WORDS)], sort_keys=True)
    return f"tantivy:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def build_index(
    passages: Iterable[Passage],
    out: Path,
    settings: IndexSettings,
    corpus_hash: str,
    progress: Progress | None = None,
    heap_bytes: int = HEAP_BYTES,
) -> Manifest:
    """Index `passages` into the folder `out`, which appears whole or not at all and replaces an older index.

    Raises:
        InputError: there are no passages.
        OutputError: `out` cannot be written, or is something else than an index.
    """
    with _appearing_folder(out) as folder, _working_folder(out) as work:
        if not (num_passages := _fill(_new_index(settings, Path(work)), passages, heap_bytes, progress)):
            raise InputError("there are no passages to index", where=out)
        _move_segments(Path(work), folder)
        made_from = (FORMAT_VERSION, corpus_hash, num_passages, settings, version("tantivy"))
        manifest = Manifest(*made_from, fingerprint(corpus_hash, settings))
        (folder / "manifest.json").write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    return manifest


def _new_index(settings: IndexSettings, folder: Path | None) -> Index:
    """An empty index, in memory without `folder`: `title` weighs titles, `body` is title and text and keeps both."""
    fields = tantivy.SchemaBuilder()
    fields.add_text_field("id", stored=True, fast=True, tokenizer_name="raw", index_option="basic")
    fields.add_text_field("title", tokenizer_name="passage", index_option="freq")
    fields.add_text_field("body", stored=True, tokenizer_name="passage", index_option="freq")
    index = Index(fields.build(), path=str(folder) if folder else None, sort_by_field="id")
    index.register_tokenizer("passage", analyser(settings))
    return index


def _fill(index: Index, passages: Iterable[Passage], heap_bytes: int, progress: Progress | None) -> int:
    """Index the passages and return how many there were."""
    num_passages = 0
    writer = index.writer(heap_bytes, num_threads=1)
    try:
        for passage in passages:
            document = Document(id=[passage.id], title=[passage.title], body=[passage.title, passage.text])
            with _tantivy_writes():
                writer.add_document(document)
            num_passages += 1
            if progress:
                progress.add()
        with _tantivy_writes():
            writer.commit()
    finally:  # also after an error: its threads must not write into a folder that is being removed
        with _tantivy_writes():
            writer.wait_merging_threads()
    index.reload()
    return num_passages


@contextmanager
def _tantivy_writes() -> Iterator[None]:
    """Tantivy reports a full disk as a ValueError."""
    try:
        yield
    except ValueError as error:
        raise OSError(f"tantivy: {error}") from error


def _move_segments(work: Path, folder: Path) -> None:
    """Move what makes up an index, the segments numbered in the order of their contents."""
    meta = json.loads((work / "meta.json").read_bytes())
    stores = [(segment, work / f"{segment['segment_id'].replace('-', '')}.store") for segment in meta["segments"]]
    stores.sort(key=lambda item: _file_digest(item[1]))
    meta["segments"] = [segment for segment, _ in stores]
    for number, (segment, store) in enumerate(stores, start=1):
        name = uuid.UUID(int=number)
        segment["segment_id"] = str(name)
        for file in work.glob(f"{store.stem}.*"):
            file.rename(folder / f"{name.hex}{file.suffix}")
    (folder / "meta.json").write_text(json.dumps(meta, indent=2), encoding="utf-8")


def _file_digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _working_folder(out: Path) -> tempfile.TemporaryDirectory[str]:
    """Where tantivy writes: threads of its own may add lock files at any time, which the index must not hold."""
    return tempfile.TemporaryDirectory(".partial", f".{out.name}.", out.parent, ignore_cleanup_errors=True)


@contextmanager
def _appearing_folder(out: Path) -> Iterator[Path]:
    """A folder to write into; it becomes `out` when the block ends without an error."""
    if out.exists() and not (out / "manifest.json").exists() and (out.is_file() or any(out.iterdir())):
        fix = "choose another folder, or remove it yourself"
        raise OutputError(f"{out} is in the way", expected="nothing, an empty folder or an older index", fix=fix)
    name = glob.escape(f".{out.name}.")
    for leftover in (*out.parent.glob(f"{name}*.partial"), *out.parent.glob(f"{name}*.old")):
        shutil.rmtree(leftover, ignore_errors=True)  # of a build that was killed
    partial, old = (out.with_name(f".{out.name}.{os.getpid()}.{end}") for end in ("partial", "old"))
    try:
        partial.mkdir(parents=True)
        yield partial
        for path in (*partial.iterdir(), partial):
            _sync(path)
        if out.exists():
            out.rename(old)
        partial.rename(out)
        _sync(out.parent)
        shutil.rmtree(old, ignore_errors=True)
    except CoaError:
        raise
    except OSError as error:
        raise writing_error(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((path / "manifest.json").read_bytes(), type=Manifest)
    except OSError as error:
        raise _unusable(path, "is not there or cannot be read", error.strerror or str(error)) from error
    except msgspec.DecodeError as error:
        raise _unusable(path, "is damaged or of another version", f"manifest.json: {error}") from error
    if manifest.format_version != FORMAT_VERSION:
        raise _unusable(path, "is of another version", f"format {manifest.format_version}, not {FORMAT_VERSION}")
    return manifest


def _unusable(path: Path, fault: str, got: str) -> InputError:
    return InputError(f"the search index {path} {fault}", got=got, fix="build it: python -m coa.search.index")
