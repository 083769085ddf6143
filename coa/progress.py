"""Show the progress of a long command: one bar on stderr with its rate and the time left."""

import sys
import time
from dataclasses import replace
from typing import Any, NamedTuple, Self

from tqdm import tqdm

from coa.policy import Traffic


class Ended(NamedTuple):
    """A rollout that is over."""

    num_tokens: int
    """Tokens that the policy wrote."""
    is_live: bool
    """Whether it needed a call that the journal did not answer."""
    started: float
    """The time of its start, by `time.monotonic`."""


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar whose rate, and so the time left, can be set from outside."""

    told_rate: float | None = None

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return the values that the bar shows."""
        shown = dict(super().format_dict)
        if self.told_rate is not None:
            shown["rate"] = self.told_rate
        return shown


class Progress:
    """A bar over a known number of items, with tokens per second and the share that is correct.

    Rollouts that the journal answers take no time, so they count neither in a rate nor in the time
    left. On a terminal the bar redraws itself; in a log it adds a line now and then.
    """

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = _Bar(
            total=total,
            desc=title,
            unit=f" {unit}",
            mininterval=interval,
            smoothing=0.05,
            file=sys.stderr,
        )
        self._num_tokens = 0
        self._num_graded = 0
        self._num_correct = 0
        self._num_live = 0
        self._num_replayed = 0
        self._live_since = time.monotonic()
        self._traffic = Traffic()
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._traffic = replace(self._traffic, waiting=0)
        if kind is None:
            # A total may be an upper bound; what is done is all there was.
            self._bar.total = self._bar.n
        self._bar.set_postfix(self._postfix(), refresh=False)
        self._bar.close()

    def add(self, items: int = 1, *, tokens: int = 0, is_correct: bool | None = None) -> None:
        """Count finished items, the tokens they cost, and whether they were right."""
        self._num_tokens += tokens
        if is_correct is not None:
            self.grade(is_correct=is_correct)
        if self._bar.update(items):
            self._bar.set_postfix(self._postfix(), refresh=False)

    def end(self, rollout: Ended) -> None:
        """Count a rollout that is over; whether it was right may be told later."""
        if rollout.is_live:
            if not self._num_live or rollout.started < self._live_since:
                self._live_since = rollout.started
            self._num_live += 1
        else:
            self._num_replayed += 1
        self._bar.told_rate = self._num_live / self._live_seconds if self._num_live else 0.0
        self.add(tokens=rollout.num_tokens if rollout.is_live else 0)

    def grade(self, *, is_correct: bool) -> None:
        """Count whether an item was right; `add` counts the item itself, before or after."""
        self._num_graded += 1
        self._num_correct += is_correct

    def show(self, traffic: Traffic) -> None:
        """Show how many requests wait, were repeated and were refused."""
        self._traffic = traffic
        shown = self._postfix()
        if shown != self._shown:
            self._shown = shown
            self._bar.set_postfix(shown, refresh=sys.stderr.isatty())

    @property
    def line(self) -> str:
        """Return the bar as a person sees it now."""
        self._bar.set_postfix(self._postfix(), refresh=False)
        return str(self._bar)

    @property
    def _live_seconds(self) -> float:
        return max(time.monotonic() - self._live_since, 1e-9)

    def _postfix(self) -> dict[str, str]:
        shown = {}
        if self._num_tokens:
            shown["tokens"] = tqdm.format_sizeof(self._num_tokens)
            shown["tokens/s"] = tqdm.format_sizeof(self._num_tokens / self._live_seconds)
        if self._num_graded:
            shown["correct"] = f"{self._num_correct / self._num_graded:.1%}"
        counts = {
            "from the journal": self._num_replayed,
            "waiting": self._traffic.waiting,
            "retried": self._traffic.retried,
            "refused": self._traffic.refused,
        }
        for name, count in counts.items():
            if count:
                shown[name] = f"{count:,}"
        return shown
