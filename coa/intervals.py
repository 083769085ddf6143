"""Measure means over questions, and differences between two results, with their uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

NUM_RESAMPLES = 2000
"""Of a bootstrap: enough for the percentiles of an interval of 95% to be stable."""
_PLACES = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95% interval: over questions, where nothing else is said."""

    value: float
    low: float
    high: float
    num: int
    """How many questions it is the mean of; over seeds alone, how many seeds."""

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    @property
    def excludes_zero(self) -> bool:
        """Tell whether a difference is beyond noise."""
        return self.low > 0 or self.high < 0


def mean_interval(values: Sequence[float], *, seed: int = 0) -> Interval | None:
    """Compute the mean with its percentile bootstrap interval; None where there are no values.

    The interval of equal values has no width: such a sample says nothing of its own uncertainty.
    """
    return mean_over_groups([values], seed=seed)


def mean_over_groups(
    groups: Sequence[Sequence[float]], *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
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
    ours: Sequence[float], theirs: Sequence[float], *, seed: int = 0
) -> Interval | None:
    """Compute the mean of `ours - theirs` over the questions: what both find hard cancels out."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    return mean_interval(differences, seed=seed)


class Over(StrEnum):
    """What a difference was drawn from: what its interval generalises to."""

    QUESTIONS = "questions"
    """Other questions, asked of these very models."""
    SEEDS = "seeds"
    """Other seeds of the trainings, asked these questions."""
    SEEDS_AND_QUESTIONS = "seeds and questions"
    """Both."""


def difference_over(
    over: Over,
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
) -> Interval | None:
    """Compute the mean of `ours - theirs` with the interval for one way of drawing.

    Over questions a question counts with its mean over the seeds; over seeds the interval is that
    of a paired t-test; over both, the bootstrap draws seeds and then, for all of them, questions.

    Both sides have for each seed a number for each question, in the same order. None where there
    are no questions, or too few seeds: one seed says nothing of others.
    """
    import numpy as np

    differences = np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float)
    num_seeds = len(differences)
    if not differences.size or (over is not Over.QUESTIONS and num_seeds < 2):
        return None
    if over is Over.QUESTIONS:
        return mean_interval(differences.mean(axis=0).tolist())
    mean = float(differences.mean())
    if over is Over.SEEDS:
        low, high = _t_interval(differences.mean(axis=1).tolist())
        num = num_seeds
    else:
        low, high = _crossed_bootstrap(differences)
        num = differences.shape[1]
    return Interval(round(mean, _PLACES), round(low, _PLACES), round(high, _PLACES), num=num)


def _t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of a mean by Student's t."""
    from scipy.stats import ttest_1samp

    if min(values) == max(values):
        return values[0], values[0]
    found = ttest_1samp(values, 0).confidence_interval(0.95)
    return float(found.low), float(found.high)


def _crossed_bootstrap(differences: Any) -> tuple[float, float]:
    """Draw seeds and questions again, each time the same questions for all drawn seeds."""
    import numpy as np

    num_seeds, num_questions = differences.shape
    rng = np.random.default_rng(0)
    # How often each seed and each question is drawn, in every resample.
    seeds = rng.multinomial(num_seeds, [1 / num_seeds] * num_seeds, NUM_RESAMPLES)
    questions = rng.multinomial(num_questions, [1 / num_questions] * num_questions, NUM_RESAMPLES)
    by_question = seeds @ differences / num_seeds
    means = (by_question * questions).sum(axis=1) / num_questions
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
