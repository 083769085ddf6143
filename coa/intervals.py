"""Measure means over questions, and differences between two results, with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PLACES = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% bootstrap interval over questions."""

    value: float
    low: float
    high: float
    num: int
    """How many questions it is the mean of."""

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    @property
    def excludes_zero(self) -> bool:
        """Tell whether a difference is beyond noise."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], *, num_resamples: int, seed: int) -> Interval | None:
    """Compute the mean with its percentile bootstrap interval; None where there are no values.

    The interval of equal values has no width: such a sample says nothing of its own uncertainty.
    """
    return mean_over_groups([values], num_resamples=num_resamples, seed=seed)


def mean_over_groups(
    groups: Sequence[Sequence[float]], *, num_resamples: int, seed: int
) -> Interval | None:
    """Compute the mean of the groups' means, where each group counts the same whatever its size.

    The bootstrap resamples each group by itself. None where a group has no values.
    """
    if not groups or not all(groups):
        return None
    mean = sum(sum(values) / len(values) for values in groups) / len(groups)
    low = high = mean
    if any(min(values) < max(values) for values in groups):
        low, high = _bootstrap(groups, num_resamples, seed)
    num = sum(len(values) for values in groups)
    return Interval(round(mean, _PLACES), round(low, _PLACES), round(high, _PLACES), num=num)


def _bootstrap(
    groups: Sequence[Sequence[float]], num_resamples: int, seed: int
) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    def mean_of_means(*samples: Any, axis: int) -> Any:
        return sum(np.mean(sample, axis=axis) for sample in samples) / len(samples)

    samples = []
    for values in groups:
        # scipy wants two values of a sample; drawn from one value or from it twice is the same.
        samples.append(np.asarray(values if len(values) > 1 else [*values, *values]))
    rng = np.random.default_rng(seed)
    # Batches bound the memory: all resamples at once would be num_resamples times as many numbers
    # as there are questions.
    found = bootstrap(
        samples,
        mean_of_means,
        n_resamples=num_resamples,
        batch=100,
        method="percentile",
        rng=rng,
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_difference(
    ours: Sequence[float], theirs: Sequence[float], *, num_resamples: int, seed: int
) -> Interval | None:
    """Compute the mean of `ours - theirs` over the questions: what both find hard cancels out."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return mean_interval(differences, num_resamples=num_resamples, seed=seed)
