"""Open the embedder that the section `search.dense` describes."""

import threading
from collections.abc import Sequence

import numpy as np

from coa.errors import InputError, MissingExtraError
from coa.search.dense import Embedder, Vectors, unit_rows
from coa.search.dense.settings import DenseSettings, EmbedderKind


def open_embedder(settings: DenseSettings) -> Embedder:
    """Open the embedder that `settings` describe.

    Raises:
        ConfigError: The server's key is missing.
        MissingExtraError: sentence-transformers is not installed.
    """
    if settings.embedder is EmbedderKind.SERVER:
        from coa.search.dense.server import ServedEmbedder

        return ServedEmbedder(settings.server, settings.model)
    if settings.embedder is EmbedderKind.SENTENCE_TRANSFORMERS:
        return SentenceEmbedder(settings.model)
    from coa.search.dense.hashed import HashedEmbedder

    return HashedEmbedder(settings.hashed_dimensions)


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
        return unit_rows(np.asarray(vectors, dtype=np.float32))

    def close(self) -> None:
        """Do nothing: the model goes with this object."""
