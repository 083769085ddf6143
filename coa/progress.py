"""The progress of a long command: one bar on stderr with rate and time left, and what a person wants to watch."""

import sys
from typing import Self

from tqdm import tqdm


class Progress:
    """A bar over a known number of items; shows tokens per second and the share that is correct where it is told them.

    On a terminal it redraws itself; in a log file it adds a line now and then, so that a log stays readable.
    """

    def __init__(self, title: str, total: int | None, unit: str) -> None:
        interval = 0.2 if sys.stderr.isatty() else 10.0
        self._bar = tqdm(
            total=total,
            desc=title,
            unit=f" {unit}",
            mininterval=interval,
            smoothing=0.05,
            file=sys.stderr,
        )
        self._num_tokens = self._num_graded = self._num_correct = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._bar.total = (
                self._bar.n
            )  # a total may be an upper bound; what is done is all there was
            self._bar.set_postfix(self._postfix(), refresh=False)
        self._bar.close()

    def add(self, items: int = 1, *, tokens: int = 0, is_correct: bool | None = None) -> None:
        """Count finished items, the tokens they cost, and whether they were right."""
        self._num_tokens += tokens
        if is_correct is not None:
            self.grade(is_correct=is_correct)
        if self._bar.update(items):
            self._bar.set_postfix(self._postfix(), refresh=False)

    def end(self, tokens: int) -> None:
        """Count a rollout that is over; whether it was right may be told later."""
        self.add(tokens=tokens)

    def grade(self, *, is_correct: bool) -> None:
        """Say of an item that is counted, or will be, whether it was right."""
        self._num_graded += 1
        self._num_correct += is_correct

    def _postfix(self) -> dict[str, str]:
        shown = {}
        if self._num_tokens:
            shown["tokens"] = tqdm.format_sizeof(self._num_tokens)
            shown["tokens/s"] = tqdm.format_sizeof(
                self._num_tokens / max(self._bar.format_dict["elapsed"], 1e-9)
            )
        if self._num_graded:
            shown["correct"] = f"{self._num_correct / self._num_graded:.1%}"
        return shown
