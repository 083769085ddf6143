"""Find texts that nearly repeat another.

MinHash finds the candidates, the exact similarity decides.

Similarity is the Jaccard similarity of the sets of shingles (runs of words): shared ones over all.
MinHash with banding (Broder 1997; Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section
3.4) proposes pairs and can miss one, see `bands`; nothing is called a duplicate before its shingles
have been counted. Texts are taken in the order of their ids, and each is compared with the ones
that stay: so the smallest id stays, every duplicate has a near copy among the rows that stay (there
are no chains), and the order in which texts are added does not matter.

Memory holds no texts but small keys of each: its id, and 8 bytes for each band (21 at a similarity
of 0.8), several times while they are sorted. The shingles are in a nameless temporary file, 8 bytes
for each word.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import rensa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from coa.errors import writing_error
from curate.shingles import Hashes, Rows, distinct, pad, runs

NUM_HASHES = 128
"""Number of MinHash values for each text: the usual one, at which the bands can follow the
threshold closely."""
MIN_RECALL = 0.99
"""Probability that two texts exactly as similar as the threshold become candidates; more similar
ones do more often."""


class Duplicate(NamedTuple):
    """A text that nearly repeats another."""

    row_id: str
    of: str
    """The row that stays: the smallest id among the similar ones that stay."""
    similarity: float


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
    """A collection of texts that names those that nearly repeat another.

    It is a context manager, because it holds a temporary file.
    """

    def __init__(self, folder: Path, *, shingle_words: int, min_similarity: float) -> None:
        """Spool shingles to `folder`.

        Texts with a similarity of at least `min_similarity` are near-duplicates.
        """
        self._folder = folder
        self._shingle_words = shingle_words
        self._min_similarity = min_similarity
        self._bands = bands(min_similarity)
        self._ids: list[str] = []
        self._keys: list[Hashes] = []
        self._lengths: list[NDArray[np.int64]] = []

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=self._folder)
        except OSError as error:
            raise writing_error(self._folder, error) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def add(self, row_ids: Sequence[str], single: Rows) -> None:
        """Add texts by the hashes of their words (`curate.shingles.hash_words`).

        A text without words repeats nothing.

        Raises:
            OutputError: there is no room for the shingles.
        """
        has_words = np.diff(single.offsets) > 0
        if not has_words.any():
            return
        padded = pad(single.take(has_words), self._shingle_words)
        shingles = distinct(runs(padded, self._shingle_words))
        for row_id, is_added in zip(row_ids, has_words, strict=True):
            if is_added:
                self._ids.append(row_id)
        self._keys.append(_band_keys(shingles, self._bands))
        self._lengths.append(np.diff(shingles.offsets))
        try:
            self._file.write(shingles.hashes.tobytes())
        except OSError as error:
            raise writing_error(self._folder, error) from error

    def find(self) -> Iterator[Duplicate]:
        """Find the near-duplicates among the texts that were added, in the order of their ids."""
        if not self._ids:
            return
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self._lengths))])
        buckets = _shared_buckets(np.concatenate(self._keys))
        kept: defaultdict[int, list[int]] = defaultdict(list)
        rows_with_candidates = np.flatnonzero((buckets >= 0).any(axis=1)).tolist()
        for row in self._sorted_by_id(rows_with_candidates):
            own_buckets = [bucket for bucket in buckets[row].tolist() if bucket >= 0]
            candidates: set[int] = set()
            for bucket in own_buckets:
                candidates.update(kept[bucket])
            found = self._first_similar(offsets, row, self._sorted_by_id(candidates))
            if found:
                yield found
                continue
            for bucket in own_buckets:
                kept[bucket].append(row)

    def _sorted_by_id(self, rows: Iterable[int]) -> list[int]:
        return sorted(rows, key=self._ids.__getitem__)

    def _first_similar(
        self, offsets: NDArray[np.int64], row: int, candidates: Sequence[int]
    ) -> Duplicate | None:
        """Compare a text with others, and stop at the first that is similar."""
        own = self._spooled(offsets, row)
        for other in candidates:
            similarity = jaccard(own, self._spooled(offsets, other))
            if similarity >= self._min_similarity:
                return Duplicate(self._ids[row], self._ids[other], similarity)
        return None

    def _spooled(self, offsets: NDArray[np.int64], row: int) -> Hashes:
        """Read the shingles of a text.

        The file is not mapped into memory, because mapped pages would count as memory.
        """
        size = np.dtype(np.uint64).itemsize
        self._file.seek(int(offsets[row]) * size)
        num_shingles = int(offsets[row + 1] - offsets[row])
        return np.frombuffer(self._file.read(num_shingles * size), dtype=np.uint64)


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


def _shared_buckets(keys: Hashes) -> NDArray[np.int64]:
    """Number the bucket of each text in each band; -1 where the text is alone in it."""
    buckets = np.empty(keys.shape, dtype=np.int64)
    for band in range(keys.shape[1]):
        _, bucket, count = np.unique(keys[:, band], return_inverse=True, return_counts=True)
        buckets[:, band] = np.where(count[bucket] > 1, bucket + band * len(keys), -1)
    return buckets
