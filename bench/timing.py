"""Time works side by side, so that a busy machine changes no ratio between them."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping


def cpu_seconds(work: Callable[[], object]) -> float:
    """Measure the CPU time of one call: on a busy machine it says more than wall time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def interleaved(works: Mapping[str, Callable[[], float]], num_repeats: int) -> dict[str, float]:
    """Return the median of what each work returns; they take turns, so all meet the same load."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(num_repeats):
        for name, work in works.items():
            found[name].append(work())
    return {name: statistics.median(values) for name, values in found.items()}


def spread(values: Iterable[int]) -> str:
    """Write median, ninth decile and largest of some lengths."""
    ranked = sorted(values)
    return f"{ranked[len(ranked) // 2]}, {ranked[len(ranked) * 9 // 10]}, {ranked[-1]}"
