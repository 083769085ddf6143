"""Show the progress of a long command: one bar on stderr with its rate and the time left."""

import io
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from tqdm import tqdm

_MIN_BAR = 3
"""Columns of the shortest bar with the signs at its ends."""


@dataclass(slots=True)
class Traffic:
    """The counts of a policy's requests, which a policy keeps as its attribute `traffic`."""

    waiting: int = 0
    """Requests sent and not yet answered."""
    retried: int = 0
    """Repeats of requests that failed for a moment."""
    refused: int = 0
    """Requests that could not be answered: each is a rollout that ends as `policy_error`."""


@dataclass(slots=True)
class CallCount:
    """The numbers of a rollout's calls that were made and that the journal answered."""

    made: int = 0
    replayed: int = 0

    @property
    def is_live(self) -> bool:
        """Return whether any call was made; also true where no journal is used."""
        return self.made > 0 or self.replayed == 0


_counting: ContextVar[CallCount | None] = ContextVar("counting", default=None)


def count_calls() -> CallCount:
    """Begin to count the calls of the running asyncio task."""
    count = CallCount()
    _counting.set(count)
    return count


def calls_of_task() -> CallCount | None:
    """Return the count of the running asyncio task; None where nobody counts."""
    return _counting.get()


class Ended(NamedTuple):
    """A rollout that is over."""

    num_tokens: int
    """Tokens that the policy wrote."""
    is_live: bool
    """Whether it needed a call that the journal did not answer."""
    started: float
    """The time of its start, by `time.monotonic`."""
    num_actions: int = 0
    """Calls of tools."""
    failure: str = ""
    """The stop reason, where a tool or the policy's server failed."""


class Standing(NamedTuple):
    """How a run stands between two rollouts that end."""

    traffic: Traffic
    under_way: int = 0
    """Rollouts that have begun and are not over."""
    paid: float | None = None
    """Dollars that the stage paid so far; None where there is no price."""
    used: float | None = None
    """Dollars that the rollouts of this run cost, whenever they were paid."""


class _Bar(tqdm):  # type: ignore[type-arg]
    """A bar whose rate, and so the time left, can be set from outside.

    What does not fit on the terminal's line is left out: first what is counted, then the notes from
    the last on. None is cut in the middle.
    """

    own_rate: float | None = None
    read_notes: Callable[[], Mapping[str, str]] = dict
    """Reads what is shown behind the rate, the most important first."""

    @property
    def format_dict(self) -> dict[str, Any]:
        """Return the values that the bar shows."""
        shown = dict(super().format_dict)
        if self.own_rate is not None:
            shown["rate"] = self.own_rate
        notes = [f"{name}={value}" for name, value in self.read_notes().items()]
        shown["postfix"] = ", ".join(notes)
        if not _fits(shown):
            shown["unit"] = ""
        while notes and not _fits(shown):
            notes.pop()
            shown["postfix"] = ", ".join(notes)
        return shown


def _fits(shown: Mapping[str, Any]) -> bool:
    """Tell whether a line fits on the terminal; in a log every line does."""
    if not shown["ncols"]:
        return True
    without_bar: str = tqdm.format_meter(**{**shown, "ncols": 0})
    num_columns: int = shown["ncols"]
    return len(without_bar) + _MIN_BAR <= num_columns


class _Lines(io.TextIOBase):
    """A log, in which every state of the bar is a line of its own."""

    def write(self, text: str) -> int:
        """Write a state of the bar; what moves the cursor is left out."""
        line = text.strip()
        if line:
            sys.stderr.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        """Flush the log."""
        sys.stderr.flush()


class Progress:
    """A bar over a known number of items, with what a person asks of a long run.

    That is the share that is correct, the cost so far and expected, tokens per second, searches
    each, failures by kind, and what is under way. Rollouts that the journal answers take no time,
    so they count neither in a rate nor in the time left. On a terminal the bar redraws itself; in a
    log it adds a line now and then.
    """

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        is_watched = sys.stderr.isatty()
        interval = 0.2 if is_watched else 10.0
        self._bar = _Bar(
            total=total,
            desc=title,
            unit=f" {unit}",
            mininterval=interval,
            smoothing=0.05,
            dynamic_ncols=is_watched,
            file=sys.stderr if is_watched else _Lines(),
        )
        self._num_tokens = 0
        self._num_graded = 0
        self._num_correct = 0
        self._num_live = 0
        self._num_replayed = 0
        self._live_since = time.monotonic()
        self._num_actions = 0
        self._failures: Counter[str] = Counter()
        self._standing = Standing(Traffic())
        self._bar.read_notes = self._notes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        traffic = replace(self._standing.traffic, waiting=0)
        self._standing = self._standing._replace(traffic=traffic, under_way=0)
        if kind is None:
            # A total may be an upper bound; what is done is all there was.
            self._bar.total = self._bar.n
        self._bar.close()

    def add(self, items: int = 1, *, tokens: int = 0, is_correct: bool | None = None) -> None:
        """Count finished items, the tokens they cost, and whether they were right."""
        self._num_tokens += tokens
        if is_correct is not None:
            self.grade(is_correct=is_correct)
        self._bar.update(items)

    def expect(self, items: int) -> None:
        """Add items to the total, once it is known that they come."""
        self._bar.total = (self._bar.total or 0) + items
        self._bar.refresh()

    def end(self, rollout: Ended) -> None:
        """Count a rollout that is over; whether it was right may be counted later."""
        if rollout.is_live:
            if not self._num_live or rollout.started < self._live_since:
                self._live_since = rollout.started
            self._num_live += 1
        else:
            self._num_replayed += 1
        self._num_actions += rollout.num_actions
        if rollout.failure:
            self._failures[rollout.failure] += 1
        self._bar.own_rate = self._num_live / self._live_seconds if self._num_live else 0.0
        self.add(tokens=rollout.num_tokens if rollout.is_live else 0)

    def grade(self, *, is_correct: bool | None) -> None:
        """Count whether an item was right; `add` counts the item itself, before or after.

        An item whose answer nobody can judge (None) is not counted.
        """
        if is_correct is None:
            return
        self._num_graded += 1
        self._num_correct += is_correct

    def show(self, standing: Standing) -> None:
        """Show how the run stands, even while no rollout ends."""
        self._standing = standing
        if sys.stderr.isatty():
            self._bar.refresh()

    @property
    def done(self) -> int:
        """Return how many items are finished."""
        return int(self._bar.n)

    @property
    def total(self) -> int:
        """Return how many items there are, as far as is known."""
        return int(self._bar.total or 0)

    @property
    def line(self) -> str:
        """Return the bar as a person sees it now."""
        return str(self._bar)

    @property
    def _live_seconds(self) -> float:
        return max(time.monotonic() - self._live_since, 1e-9)

    def _notes(self) -> dict[str, str]:
        """Return what is shown behind the rate, the most important first."""
        shown = {}
        standing = self._standing
        if self._num_graded:
            shown["correct"] = f"{self._num_correct / self._num_graded:.1%}"
        if standing.paid is not None:
            shown["cost"] = self._cost(standing.paid)
        for reason, count in sorted(self._failures.items()):
            shown[reason] = f"{count:,}"
        if self._num_actions:
            num_ended = self._num_live + self._num_replayed
            shown["searches each"] = f"{self._num_actions / num_ended:.1f}"
        if self._num_tokens:
            shown["tokens"] = tqdm.format_sizeof(self._num_tokens)
            shown["tokens/s"] = tqdm.format_sizeof(self._num_tokens / self._live_seconds)
        counts = {
            "under way": standing.under_way,
            "from the journal": self._num_replayed,
            "waiting": standing.traffic.waiting,
            "retried": standing.traffic.retried,
            "refused": standing.traffic.refused,
        }
        for name, count in counts.items():
            if count:
                shown[name] = f"{count:,}"
        return shown

    def _cost(self, paid: float) -> str:
        """Write the cost so far, and what the whole run is expected to cost."""
        num_ended = self._num_live + self._num_replayed
        standing = self._standing
        so_far = f"${paid:,.2f}"
        if not num_ended or self._bar.total is None or standing.used is None:
            return so_far
        # What has begun is on average half done.
        each = standing.used / (num_ended + standing.under_way / 2)
        num_left = self._bar.total - num_ended - standing.under_way / 2
        expected = paid + max(num_left, 0) * each
        return f"{so_far} of ${expected:,.2f}" if num_left > 0 else so_far
