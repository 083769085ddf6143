"""A fixed number of rows from a pool: groups evenly, strata in the pool's own proportions, decided by the seed."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from coa.ranking import seeded_rank

Stratum = tuple[Hashable, ...]


class Candidate(NamedTuple):
    """A row that may be chosen."""

    row_id: str
    question_id: str
    group: Stratum
    """Groups get equal numbers of rows, as far as each reaches: the two kinds of pair."""
    stratum: Stratum
    """Within a group, strata get their share of the pool: hops, actions, question type."""


def choose(pool: Sequence[Candidate], count: int, seed: int) -> set[str]:
    """Ids of `count` rows of the pool (all of it, if it is smaller)."""
    groups = _by(pool, lambda candidate: candidate.group)
    chosen: set[str] = set()
    for group, size in divide_evenly(
        {group: len(rows) for group, rows in groups.items()}, count
    ).items():
        strata = _by(groups[group], lambda candidate: candidate.stratum)
        shares = apportion({stratum: len(rows) for stratum, rows in strata.items()}, size)
        for stratum, rows in strata.items():
            ranked = sorted(
                (row.row_id for row in rows), key=lambda row_id: seeded_rank(row_id, seed, "set")
            )
            chosen.update(ranked[: shares[stratum]])
    return chosen


def _by(
    pool: Iterable[Candidate], key: Callable[[Candidate], Stratum]
) -> dict[Stratum, list[Candidate]]:
    found: dict[Stratum, list[Candidate]] = {}
    for candidate in pool:
        found.setdefault(key(candidate), []).append(candidate)
    return found


def divide_evenly(sizes: Mapping[Stratum, int], count: int) -> dict[Stratum, int]:
    """Divide `count` over groups as evenly as their sizes allow: what a small group cannot fill goes to the others."""
    shares: dict[Stratum, int] = {}
    for left, group in zip(
        range(len(sizes), 0, -1), sorted(sizes, key=lambda g: (sizes[g], str(g))), strict=True
    ):
        shares[group] = min(sizes[group], (count - sum(shares.values())) // left)
    return shares


def apportion(sizes: Mapping[Stratum, int], count: int) -> dict[Stratum, int]:
    """Divide `count` over strata in proportion to their sizes (largest remainder), never more than a stratum holds."""
    total = sum(sizes.values())
    if count >= total:
        return dict(sizes)
    shares = {stratum: count * size // total for stratum, size in sizes.items()}
    by_remainder = sorted(
        sizes, key=lambda stratum: (-(count * sizes[stratum] % total), str(stratum))
    )
    for stratum in by_remainder[: count - sum(shares.values())]:
        shares[stratum] += 1
    return shares
