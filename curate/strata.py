"""A fixed number of rows from a pool, in the pool's own proportions, the same for the same seed."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """A row that may be chosen."""

    row_id: str
    question_id: str
    stratum: tuple[Hashable, ...]
    """What the choice is balanced over: hops, actions, question type."""


def rank(item: str, seed: int) -> str:
    """A position that looks random, follows from the seed and the id alone, and survives when other rows change."""
    return hashlib.sha256(f"{seed}/{item}".encode()).hexdigest()


def choose(pool: Sequence[Candidate], count: int, seed: int) -> set[str]:
    """Ids of `count` rows of the pool (all of it, if it is smaller): each stratum gets its share of the pool."""
    strata: dict[tuple[Hashable, ...], list[str]] = {}
    for candidate in pool:
        strata.setdefault(candidate.stratum, []).append(candidate.row_id)
    shares = apportion({stratum: len(ids) for stratum, ids in strata.items()}, count)
    return {
        row for stratum, ids in strata.items() for row in sorted(ids, key=lambda i: rank(i, seed))[: shares[stratum]]
    }


def apportion(sizes: Mapping[tuple[Hashable, ...], int], count: int) -> dict[tuple[Hashable, ...], int]:
    """Divide `count` over strata in proportion to their sizes (largest remainder), never more than a stratum holds."""
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    shares = {stratum: count * size // total for stratum, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda stratum: (-(count * sizes[stratum] % total), str(stratum)))
    for stratum in by_remainder[: count - sum(shares.values())]:
        shares[stratum] += 1
    return shares
