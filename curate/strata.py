"""Choose a fixed number of rows from a pool.

Groups get equal numbers of rows; within a group, strata keep the proportions of the pool. The seed
decides which rows are taken.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from coa.records.ranking import seeded_rank

Stratum = tuple[Hashable, ...]


class Candidate(NamedTuple):
    """A row that may be chosen."""

    row_id: str
    question_id: str
    group: Stratum
    """Groups get equal numbers of rows, as far as each reaches. Pairs are grouped by kind."""
    stratum: Stratum
    """Within a group, each stratum gets its share of the pool. Strata are hops, actions and
    question type."""


def choose(pool: Sequence[Candidate], count: int, seed: int) -> set[str]:
    """Choose `count` rows of the pool (all of it, if it is smaller) and return their ids."""

    def rank(row: Candidate) -> str:
        return seeded_rank(row.row_id, seed, "set")

    groups: dict[Stratum, list[Candidate]] = {}
    for candidate in pool:
        groups.setdefault(candidate.group, []).append(candidate)
    chosen: set[str] = set()
    for group, size in divide_evenly(_sizes(groups), count).items():
        strata: dict[Stratum, list[Candidate]] = {}
        for candidate in groups[group]:
            strata.setdefault(candidate.stratum, []).append(candidate)
        shares = apportion(_sizes(strata), size)
        for stratum, rows in strata.items():
            ranked = sorted(rows, key=rank)
            for row in ranked[: shares[stratum]]:
                chosen.add(row.row_id)
    return chosen


def _sizes(parts: Mapping[Stratum, Sequence[Candidate]]) -> dict[Stratum, int]:
    return {name: len(rows) for name, rows in parts.items()}


def divide_evenly(sizes: Mapping[Stratum, int], count: int) -> dict[Stratum, int]:
    """Divide `count` over groups as evenly as their sizes allow.

    What a small group cannot fill goes to the others.
    """

    def rank(group: Stratum) -> tuple[int, str]:
        return sizes[group], str(group)

    shares: dict[Stratum, int] = {}
    num_left = len(sizes)
    rest = count
    for group in sorted(sizes, key=rank):
        shares[group] = min(sizes[group], rest // num_left)
        rest -= shares[group]
        num_left -= 1
    return shares


def apportion(sizes: Mapping[Stratum, int], count: int) -> dict[Stratum, int]:
    """Divide `count` over strata in proportion to their sizes, by the largest remainders.

    No stratum gets more than it holds.
    """
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    shares = {stratum: count * size // total for stratum, size in sizes.items()}

    def rank(stratum: Stratum) -> tuple[int, str]:
        remainder = count * sizes[stratum] % total
        return -remainder, str(stratum)

    num_left = count - sum(shares.values())
    for stratum in sorted(sizes, key=rank)[:num_left]:
        shares[stratum] += 1
    return shares
