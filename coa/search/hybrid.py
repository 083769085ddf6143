"""Fuse the rankings of two engines over one corpus: `hybrid`.

Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009) needs no scores that compare: a
passage scores 1 / (k + rank) in each ranking that holds it.
"""

import hashlib
import json
from collections.abc import Sequence

from coa.search import Finder, Hit, Passage

RANK_CONSTANT = 60
"""The paper's k: the larger it is, the less the first ranks count beyond the others."""
DEPTH = 100
"""Passages that each ranking contributes; at least as many as are asked for."""


class HybridSearch(Finder):
    """A search engine that fuses the rankings of two others over one corpus."""

    def __init__(self, first: Finder, second: Finder) -> None:
        self._engines = (first, second)
        self.num_passages = first.num_passages
        parts = [first.fingerprint, second.fingerprint, RANK_CONSTANT, DEPTH]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self.fingerprint = f"hybrid:{digest[:12]}"

    def find(self, query: str, top_k: int) -> tuple[Hit, ...]:
        """Find the `top_k` best passages of both rankings."""
        depth = max(top_k, DEPTH)
        return fuse([engine.find(query, depth) for engine in self._engines], top_k)

    def passage(self, passage_id: str) -> Passage | None:
        """Return the passage with this id; None where there is none."""
        return self._engines[0].passage(passage_id)


def fuse(rankings: Sequence[Sequence[Hit]], top_k: int) -> tuple[Hit, ...]:
    """Return the `top_k` best passages of all rankings, best first, ties by id.

    The score is the sum of reciprocal ranks.
    """
    passages: dict[str, Passage] = {}
    scores: dict[str, float] = {}
    for hits in rankings:
        for rank, hit in enumerate(hits, start=1):
            passage_id = hit.passage.id
            passages[passage_id] = hit.passage
            scores[passage_id] = scores.get(passage_id, 0.0) + 1 / (RANK_CONSTANT + rank)
    best = sorted(scores, key=lambda passage_id: (-scores[passage_id], passage_id))
    return tuple(Hit(passages[passage_id], scores[passage_id]) for passage_id in best[:top_k])
