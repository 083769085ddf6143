"""Define the section `search.dense`: which vectors are searched, and what makes them."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from coa.errors import ConfigError
from coa.search import Passage
from coa.store.files import VECTORS
from coa.store.model_files import fingerprint_model


class EmbedderKind(StrEnum):
    """What turns texts into vectors."""

    HASHED = "hashed"
    """Hashed words and parts of words: no model. It shows that everything works, and finds little
    that BM25 does not."""
    SENTENCE_TRANSFORMERS = "sentence_transformers"
    """A model of sentence-transformers in this process. Needs the extra `sentences`."""


_HASHED_VERSION = 1
"""Raised when the hashed embedder gives the same text another vector."""


@dataclass(frozen=True, slots=True)
class DenseSettings:
    """Vectors of the passages, and what made them."""

    folder: str = VECTORS.as_posix()
    """The folder that `coa search embed` wrote; each model needs a folder of its own."""
    embedder: EmbedderKind = EmbedderKind.HASHED
    """What turns passages and queries into vectors."""
    model: str = ""
    """For `sentence_transformers`: the model's folder, or its name on the Hub."""
    query_prefix: str = ""
    """What the model wants before a query, such as `query: ` for E5."""
    passage_prefix: str = ""
    """What the model wants before a passage, such as `passage: ` for E5."""
    max_chars: int = 2000
    """Longer texts are cut here."""
    hashed_dimensions: int = 256
    """For `hashed`: numbers in a vector."""
    batch_size: int = 64
    """Passages that are embedded at once."""
    index_threads: int = 1
    """Threads that build the graph of neighbours. With several, two builds differ slightly, and so
    do their fingerprints."""

    def __post_init__(self) -> None:
        for name in ("max_chars", "hashed_dimensions", "batch_size", "index_threads"):
            value = getattr(self, name)
            if value < 1:
                what = f"search.dense.{name} is too small"
                raise ConfigError(what, expected="at least 1", got=value)
        if self.embedder is not EmbedderKind.HASHED and not self.model:
            raise ConfigError(
                "no embedding model is named",
                fix="set search.dense.model: a folder, or a name on the Hub",
            )

    @property
    def identity(self) -> Mapping[str, object]:
        """Return all that decides the vector of a text."""
        parts: dict[str, object] = {"embedder": self.embedder.value, "max_chars": self.max_chars}
        if self.embedder is EmbedderKind.HASHED:
            parts |= {"version": _HASHED_VERSION, "dimensions": self.hashed_dimensions}
        else:
            parts |= {"model": self.model, "weights": fingerprint_model(self.model)}
        parts |= {"query_prefix": self.query_prefix, "passage_prefix": self.passage_prefix}
        return {name: part for name, part in parts.items() if part}

    def query_text(self, query: str) -> str:
        """Return what is embedded for a query."""
        return self._text(self.query_prefix, query)

    def passage_text(self, passage: Passage) -> str:
        """Return what is embedded for a passage."""
        return self._text(self.passage_prefix, f"{passage.title}\n{passage.text}")

    def _text(self, prefix: str, text: str) -> str:
        # Tokenizers refuse lone surrogates.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return f"{prefix}{clean}"[: self.max_chars]
