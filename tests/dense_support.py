"""Passages, settings and an index folder, for the tests of dense search."""

from pathlib import Path
from typing import Any

from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.dense.embedders import open_embedder
from coa.search.dense.engine import DenseSearch
from coa.search.dense.settings import DenseSettings
from coa.search.dense.vectors import VectorFolder
from coa.search.embed import embed_passages
from coa.search.embedded import EmbeddedSearch

RIVERS = (
    Passage("p1", "Danube", "The Danube is a river that flows through ten countries."),
    Passage("p2", "Rhine", "The Rhine is a river in Europe. It does flow north."),
    Passage("p3", "Jane Doe", "Jane Doe wrote about mountains and the United States."),
)
KINDS = ("castle", "novel", "painter", "village", "river", "opera", "battle", "comet")


def towns(count: int) -> list[Passage]:
    """Make passages of different words."""
    passages = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        words = " ".join(f"word{number * step % 211}" for step in range(3, 12))
        passages.append(Passage(f"t{number:05d}", f"{kind} {number}", f"A {kind}: {words}."))
    return passages


def make_index(folder: Path, passages: Any = RIVERS, corpus_hash: str = "hash") -> Path:
    build_index(passages, folder / "index", IndexSettings(), corpus_hash)
    return folder / "index"


def dense_settings(place: Path, **changes: Any) -> DenseSettings:
    defaults = {"folder": str(place / "vectors"), "hashed_dimensions": 128}
    return DenseSettings(**defaults | changes)


def embed(index: Path, settings: DenseSettings) -> VectorFolder:
    return embed_passages(index, settings, open_embedder(settings))


def open_dense(index: Path, settings: DenseSettings) -> DenseSearch:
    return DenseSearch(EmbeddedSearch.open(index), index, settings, open_embedder(settings))
