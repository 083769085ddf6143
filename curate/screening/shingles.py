"""Hash the runs of words of texts, by which near-duplicates and overlaps are counted.

Words are those of `coa.records.plain_words`. Hashes have 64 bits and are the same in every process;
equal hashes are taken for equal words, which is wrong about once in 10^19 comparisons.
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
import rensa  # type: ignore[import-untyped]
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""An odd number, so that multiplying loses nothing; its bits look random, so that the order of the
words counts."""


class Rows(NamedTuple):
    """The hashes of several texts, one text after the other."""

    hashes: Hashes
    offsets: NDArray[np.int64]
    """Text i has `hashes[offsets[i]:offsets[i + 1]]`."""

    def row(self, i: int) -> Hashes:
        """Return the hashes of text i."""
        return self.hashes[self.offsets[i] : self.offsets[i + 1]]

    def take(self, wanted: NDArray[np.bool_]) -> "Rows":
        """Return the texts for which `wanted` is true."""
        lengths = np.diff(self.offsets)
        return Rows(self.hashes[np.repeat(wanted, lengths)], _offsets(lengths[wanted]))

    def row_of_each(self) -> NDArray[np.int64]:
        """Tell for every hash which text it belongs to."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


def hash_words(texts: Sequence[Sequence[str]]) -> Rows:
    """Hash every word of every text."""
    lengths = [len(text) for text in texts]
    found = rensa.RMinHash.hash_token_sets(texts)
    hashes = np.fromiter(chain.from_iterable(found), dtype=np.uint64, count=sum(lengths))
    return Rows(hashes, _offsets(lengths))


def runs(single: Rows, size: int) -> Rows:
    """Hash every run of `size` words within a text; run k of a text begins at its word k."""
    lengths = np.diff(single.offsets)
    count = max(len(single.hashes) - size + 1, 0)
    combined = single.hashes[:count].copy()
    for i in range(1, size):
        combined *= _FACTOR
        combined ^= combined >> np.uint64(29)
        combined += single.hashes[i : i + count]
    starts = np.arange(len(single.hashes)) - np.repeat(single.offsets[:-1], lengths)
    is_within = starts + size <= np.repeat(lengths, lengths)
    return Rows(combined[is_within[:count]], _offsets(np.maximum(lengths - size + 1, 0)))


def pad(single: Rows, size: int) -> Rows:
    """Fill texts of fewer than `size` words up to one run, so that short texts can be compared.

    Empty texts stay empty.
    """
    lengths = np.diff(single.offsets)
    missing = np.where(lengths > 0, np.maximum(size - lengths, 0), 0)
    return Rows(
        np.insert(single.hashes, np.repeat(single.offsets[1:], missing), 0),
        _offsets(lengths + missing),
    )


def distinct(rows: Rows) -> Rows:
    """Keep every hash of a text once, in ascending order."""
    hashes = rows.hashes.copy()
    owners = rows.row_of_each()
    for first, end in pairwise(rows.offsets.tolist()):
        hashes[first:end].sort()
    is_new = np.ones(len(hashes), dtype=bool)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return Rows(
        hashes[is_new], _offsets(np.bincount(owners[is_new], minlength=len(rows.offsets) - 1))
    )


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
