"""Sum up a baseline that tries questions again: exact match and cost after so many tries."""

from collections.abc import Sequence
from dataclasses import replace

from coa.intervals import NUM_RESAMPLES, Interval, mean_over_groups
from evaluation.outcomes import MEASURES, Outcome

_MEASURES = ("exact_match", "tokens", "requests", "searches")


def after_tries(row: Outcome, num_tries: int) -> Outcome:
    """Return what would have become of a question with at most so many tries.

    A question is tried again only after a wrong answer, so all its tries but the last were wrong.
    """
    is_right = row.exact_match and len(row.spent) <= num_tries
    return replace(row, exact_match=is_right, spent=row.spent[:num_tries])


def summarise_tries(
    rows: Sequence[Outcome], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Interval | None]]:
    """Average exact match and cost after at most one try, two tries, and so on."""
    found = {}
    most = max((len(row.spent) for row in rows), default=0)
    for num_tries in range(1, most + 1):
        tried = [after_tries(row, num_tries) for row in rows]
        metrics = {}
        for name in _MEASURES:
            values = [float(MEASURES[name](row) or 0.0) for row in tried]
            metrics[name] = mean_over_groups([values], num_resamples=num_resamples, seed=seed)
        found[str(num_tries)] = metrics
    return found
