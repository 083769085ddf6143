"""Turn texts into vectors: by a model of sentence-transformers, or by hashing their words.

Hashed vectors need no model. They know words and spellings, and no meanings: they prove that
everything around a model works, and say nothing about how well a model searches.
"""

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Protocol, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from coa.errors import InputError, MissingExtraError
from coa.records.plain_words import words
from coa.search.dense.settings import DenseSettings, EmbedderKind

Vectors: TypeAlias = NDArray[np.float32]
"""One row for each text."""
_PART_CHARS = 4
_PART_WEIGHT = 0.5
"""Of a part of a word, beside 1 for the word."""
_MAX_CACHED_WORDS = 50_000


class Embedder(Protocol):
    """Anything that turns texts into vectors of one size. Several threads may ask it at once."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row of length 1 for each text; a row of zeros where a text says nothing."""


def open_embedder(settings: DenseSettings) -> Embedder:
    """Open the embedder that `settings` describe.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        InputError: it cannot load the model.
    """
    if settings.embedder is EmbedderKind.HASHED:
        return HashedEmbedder(settings.hashed_dimensions)
    return SentenceEmbedder(settings.model)


def _unit_rows(vectors: Vectors) -> Vectors:
    """Scale each row to length 1, so that a dot product is a cosine; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1
    return np.asarray(vectors / lengths, dtype=np.float32)


class SentenceEmbedder:
    """An embedder over a model that is a folder or a name on the Hub."""

    def __init__(self, model: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtraError("sentence-transformers", "sentences") from error
        try:
            self._model = SentenceTransformer(model)
        except (OSError, ValueError) as error:
            raise InputError(
                f"sentence-transformers cannot load {model}",
                got=str(error)[:300],
                fix="check search.dense.model: a folder, or a name on the Hub",
            ) from error
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row of length 1 for each text."""
        with self._lock:  # torch uses all cores for one batch
            vectors = self._model.encode(
                list(texts), batch_size=max(len(texts), 1), show_progress_bar=False
            )
        return _unit_rows(np.asarray(vectors, dtype=np.float32))


class HashedEmbedder:
    """An embedder that counts hashed words and parts of words in `dimensions` numbers."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a row of length 1 for each text; a row of zeros for a text without words."""
        rows = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            features = [_features(word) for word in words(text)]
            if features:
                hashes = np.concatenate([places for places, _ in features])
                weights = np.concatenate([weights for _, weights in features])
                row += np.bincount(hashes % self._dimensions, weights, self._dimensions)
        return _unit_rows(rows)


@lru_cache(_MAX_CACHED_WORDS)
def _features(word: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return hashes of the word and its parts, and their weights; half of the weights are negative.

    With both signs, words that share a place cancel each other as often as they add up.
    """
    hashes = []
    weights = []
    for feature, weight in _parts(word):
        number = crc32(feature.encode())
        hashes.append(number >> 1)
        weights.append(weight if number & 1 else -weight)
    return np.array(hashes, dtype=np.int64), np.array(weights)


def _parts(word: str) -> Iterator[tuple[str, float]]:
    """Yield the word and its parts, with their weights."""
    yield word, 1.0
    marked = f"<{word}>"
    for start in range(len(marked) - _PART_CHARS + 1):
        yield marked[start : start + _PART_CHARS], _PART_WEIGHT
