"""Find texts that nearly repeat another.

MinHash finds the candidates, the exact similarity decides.

Similarity is the Jaccard similarity of the sets of shingles (runs of words): shared ones over all.
MinHash with banding (Broder 1997; Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section
3.4) proposes pairs and can miss one, see `bands`; nothing is called a duplicate before its shingles
have been counted. Texts are taken in the order of their ids, and each is compared with the ones
that stay: so the smallest id stays, every duplicate has a near copy among the rows that stay (there
are no chains), and the order in which texts are added does not matter.

Memory holds nothing of a text, unless it shares a band with another: then its id and about 50 bytes
for each such band (of 21 at a similarity of 0.8). Everything else is in files: 8 bytes for each
word and each band, and the ids. So texts may be added by several processes, each with files of its
own, and be compared by one of them.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import numpy as np
import rensa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from coa.errors import writing_error
from curate.screening.shingles import Hashes, Rows, distinct, pad, runs

NUM_HASHES = 128
"""Number of MinHash values for each text: the usual one, at which the bands can follow the
threshold closely."""
MIN_RECALL = 0.99
"""Probability that two texts exactly as similar as the threshold become candidates; more similar
ones do more often."""


_NUMBER = 8
"""Bytes of a number in the files."""
KEYS_AT_ONCE = 1 << 22
"""Keys that are compared at a time, in about 250 MB."""
_TEXTS_AT_ONCE = 1 << 17
_NO_ROWS = np.zeros(0, dtype=np.int64)
_NO_KEYS = np.zeros(0, dtype=np.uint64)


class Duplicate(NamedTuple):
    """A text that nearly repeats another."""

    row_id: str
    of: str
    """The row that stays: the smallest id among the similar ones that stay."""
    similarity: float
    note: str = ""
    """What was added with the text."""


class Banding(NamedTuple):
    """A grouping of MinHash values: texts that agree in all values of a band are candidates."""

    num_bands: int
    band_size: int


def bands(min_similarity: float) -> Banding:
    """Choose the widest bands that still find `MIN_RECALL` of the pairs at the threshold.

    Wider bands propose fewer pairs in vain.
    """
    for size in range(NUM_HASHES, 1, -1):
        count = NUM_HASHES // size
        if 1 - (1 - min_similarity**size) ** count >= MIN_RECALL:
            return Banding(count, size)
    return Banding(NUM_HASHES, 1)


class NearDuplicates:
    """A collection of texts that names those that nearly repeat another; a context manager.

    Its files have no names and are gone at the end, unless they are to be kept.
    """

    def __init__(
        self, folder: Path, *, shingle_words: int, min_similarity: float, name: str = ""
    ) -> None:
        """Keep what is computed from the texts in `folder`.

        Texts with a similarity of at least `min_similarity` are near-duplicates. With a `name` the
        files stay: `{name}.ids`, `{name}.sizes`, `{name}.keys` and `{name}.shingles`.
        """
        self._folder = folder
        self._shingle_words = shingle_words
        self._min_similarity = min_similarity
        self._bands = bands(min_similarity)
        self._name = name

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                files: list[BinaryIO] = []
                for kind in _Files._fields:
                    if self._name:
                        file: BinaryIO = (self._folder / f"{self._name}.{kind}").open("w+b")
                    else:
                        file = tempfile.TemporaryFile(dir=self._folder)
                    files.append(stack.enter_context(file))
                self._files = _Files(*files)
            except OSError as error:
                raise writing_error(self._folder, error) from error
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def add(self, row_ids: Sequence[str], single: Rows, notes: Sequence[str] = ()) -> None:
        """Add texts by the hashes of their words (`curate.screening.shingles.hash_words`).

        A text without words repeats nothing.

        Raises:
            OutputError: there is no room for the files.
        """
        has_words = np.diff(single.offsets) > 0
        if not has_words.any():
            return
        padded = pad(single.take(has_words), self._shingle_words)
        shingles = distinct(runs(padded, self._shingle_words))
        names: list[bytes] = []
        name_sizes: list[tuple[int, int]] = []
        for i in np.flatnonzero(has_words).tolist():
            row_id = row_ids[i].encode(errors="surrogatepass")
            note = notes[i].encode(errors="surrogatepass") if notes else b""
            names += row_id, note
            name_sizes.append((len(row_id), len(note)))
        sizes = np.column_stack([name_sizes, np.diff(shingles.offsets)]).astype(np.int64)
        try:
            self._files.ids.write(b"".join(names))
            self._files.sizes.write(sizes.tobytes())
            self._files.keys.write(_band_keys(shingles, self._bands).tobytes())
            self._files.shingles.write(shingles.hashes.tobytes())
        except OSError as error:
            raise writing_error(self._folder, error) from error

    def find(self) -> Iterator[Duplicate]:
        """Find the near-duplicates among the texts that were added, in the order of their ids."""
        return find_duplicates([self._files], self._bands.num_bands, self._min_similarity)


class _Files(NamedTuple):
    """What is kept of texts; each file holds one text after the other."""

    ids: BinaryIO
    """With the notes."""
    sizes: BinaryIO
    """Three numbers of each text: the bytes of its id and of its note, and its shingles."""
    keys: BinaryIO
    """A number for each band."""
    shingles: BinaryIO


def find_in(
    folders: Sequence[Path], name: str, min_similarity: float, keys_at_once: int = KEYS_AT_ONCE
) -> Iterator[Duplicate]:
    """Find the near-duplicates among texts whose files were kept."""
    with ExitStack() as stack:
        found: list[_Files] = []
        for folder in folders:
            paths = [folder / f"{name}.{kind}" for kind in _Files._fields]
            found.append(_Files(*(stack.enter_context(path.open("rb")) for path in paths)))
        num_bands = bands(min_similarity).num_bands
        yield from find_duplicates(found, num_bands, min_similarity, keys_at_once)


def find_duplicates(
    files: Sequence[_Files],
    num_bands: int,
    min_similarity: float,
    keys_at_once: int = KEYS_AT_ONCE,
) -> Iterator[Duplicate]:
    """Find the near-duplicates among all texts, in the order of their ids."""
    rows, buckets = _shared_buckets(files, num_bands, keys_at_once)
    texts = _read_texts(files, rows)
    texts.sort(key=lambda text: text.row_id)
    members = _Members(rows, buckets)
    for position, text in enumerate(texts):
        candidates = members.sharing(text.row)
        own = text.shingles() if candidates else _NO_KEYS
        for other in candidates:
            similarity = jaccard(own, texts[other].shingles())
            if similarity >= min_similarity:
                yield Duplicate(text.row_id, texts[other].row_id, similarity, text.note)
                break
        else:
            members.keep(text.row, position)


class _Text(NamedTuple):
    """A text that shares a bucket with another."""

    row: int
    """Its number among all texts."""
    row_id: str
    note: str
    file: BinaryIO
    """With its shingles."""
    offset: int
    size: int
    """In bytes."""

    def shingles(self) -> Hashes:
        """Read the shingles.

        The file is not mapped into memory, because mapped pages would count as memory.
        """
        self.file.seek(self.offset)
        return np.frombuffer(self.file.read(self.size), dtype=np.uint64)


class _Members:
    """The texts that stay so far, by the buckets that they share with others."""

    def __init__(self, rows: NDArray[np.int64], buckets: NDArray[np.int64]) -> None:
        """Take the number of a text and that of a bucket for each time that a text is in one."""
        order = np.argsort(rows, kind="stable")
        self._buckets = buckets[order]
        self._rows = rows[order]
        sizes = np.bincount(buckets) if len(buckets) else np.zeros(0, dtype=np.int64)
        self._first = np.cumsum(sizes) - sizes
        self._count = np.zeros(len(sizes), dtype=np.int64)
        self._members = np.zeros(len(buckets), dtype=np.int64)

    def _own(self, row: int) -> NDArray[np.int64]:
        first, end = np.searchsorted(self._rows, [row, row + 1])
        return self._buckets[first:end]

    def sharing(self, row: int) -> list[int]:
        """Return the positions of the texts that share a bucket with a text, in their order."""
        found: set[int] = set()
        for bucket in self._own(row):
            first = self._first[bucket]
            found.update(self._members[first : first + self._count[bucket]].tolist())
        return sorted(found)

    def keep(self, row: int, position: int) -> None:
        """Let a text stay; texts come in the order of their positions."""
        own = self._own(row)
        self._members[self._first[own] + self._count[own]] = position
        self._count[own] += 1


def jaccard(one: Hashes, other: Hashes) -> float:
    """Divide the number of shared members of two sorted sets by that of all; 0 for empty sets."""
    both = np.concatenate([one, other])
    both.sort(kind="stable")  # merges two sorted runs
    shared = int(np.count_nonzero(both[1:] == both[:-1]))
    return shared / (len(both) - shared) if len(both) else 0.0


def _band_keys(shingles: Rows, banding: Banding) -> Hashes:
    """Compute a number for each text and band; texts that agree in the band have the same."""
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        shingles.hashes, shingles.offsets.astype(np.uint64), NUM_HASHES, 0
    )
    count, size = banding
    values = np.array(matrix.to_rows(), dtype=np.uint64)[:, : count * size]
    single = Rows(values.reshape(-1), np.arange(0, values.size + 1, size, dtype=np.int64))
    return runs(single, size).hashes.reshape(-1, count)


def _shared_buckets(
    files: Sequence[_Files], num_bands: int, keys_at_once: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the buckets that several texts share.

    Returns:
        The number of a text and that of a bucket, for each time that a text is in one.
    """
    num_keys = sum(each.keys.seek(0, os.SEEK_END) for each in files) // _NUMBER
    num_parts = 1
    while num_keys > num_parts * keys_at_once:
        num_parts *= 2
    all_rows: list[NDArray[np.int64]] = []
    all_buckets: list[NDArray[np.int64]] = []
    num_buckets = 0
    for part in range(num_parts):
        rows, keys = _keys_of_part(files, num_bands, part, num_parts)
        _, bucket, count = np.unique(keys, return_inverse=True, return_counts=True)
        is_shared = count > 1
        numbers = np.cumsum(is_shared) - 1 + num_buckets
        num_buckets += int(np.count_nonzero(is_shared))
        wanted = is_shared[bucket]
        all_rows.append(rows[wanted])
        all_buckets.append(numbers[bucket[wanted]])
    return np.concatenate(all_rows), np.concatenate(all_buckets)


def _keys_of_part(
    files: Sequence[_Files], num_bands: int, part: int, num_parts: int
) -> tuple[NDArray[np.int64], Hashes]:
    """Read the keys that end in one number, so that equal keys are in one part; and whose they are.

    Keys of different bands are equal only by chance, which proposes a pair in vain.
    """
    rows: list[NDArray[np.int64]] = []
    found: list[Hashes] = []
    num_before = 0
    for each in files:
        each.keys.seek(0)
        while chunk := each.keys.read(_TEXTS_AT_ONCE * num_bands * _NUMBER):
            keys = np.frombuffer(chunk, dtype=np.uint64)
            wanted = np.flatnonzero((keys & np.uint64(num_parts - 1)) == part)
            rows.append((wanted + num_before) // num_bands)
            found.append(keys[wanted])
            num_before += len(keys)
    return np.concatenate([_NO_ROWS, *rows]), np.concatenate([_NO_KEYS, *found])


def _read_texts(files: Sequence[_Files], rows: NDArray[np.int64]) -> list[_Text]:
    """Read where the texts of some rows are; a row may come several times."""
    wanted = np.unique(rows)
    texts: list[_Text] = []
    num_before = 0
    for each in files:
        each.sizes.seek(0)
        starts = np.zeros(3, dtype=np.int64)
        while chunk := each.sizes.read(3 * _NUMBER * _TEXTS_AT_ONCE):
            sizes = np.frombuffer(chunk, dtype=np.int64).reshape(-1, 3)
            ends = starts + np.cumsum(sizes, axis=0)
            first, last = np.searchsorted(wanted, [num_before, num_before + len(sizes)])
            for row in wanted[first:last].tolist():
                place = row - num_before
                id_size, note_size, num_shingles = sizes[place].tolist()
                id_end, note_end, last_shingle = ends[place].tolist()
                each.ids.seek(id_end + note_end - id_size - note_size)
                row_id = each.ids.read(id_size).decode(errors="surrogatepass")
                note = each.ids.read(note_size).decode(errors="surrogatepass")
                offset = (last_shingle - num_shingles) * _NUMBER
                size = num_shingles * _NUMBER
                texts.append(_Text(row, row_id, note, each.shingles, offset, size))
            starts = ends[-1]
            num_before += len(sizes)
    return texts
