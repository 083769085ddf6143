"""Warn while a server fails or is silent, so that nobody waits for it without knowing."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Watch:
    """Watches the requests of one event loop, and logs a warning now and then."""

    def __init__(self, name: str, timeout_seconds: float, warning_seconds: float) -> None:
        self._name = name
        self._timeout_seconds = timeout_seconds
        self._warning_seconds = warning_seconds
        self._loop = asyncio.get_running_loop()
        self._warned_at = float("-inf")
        self._num_waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answered_at = 0.0

    @property
    def answered_at(self) -> float:
        """Return the time of the last reply, or of the first request that waits."""
        return self._answered_at

    def answered(self) -> None:
        """Note that a request was answered."""
        self._answered_at = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Watch for silence of the server while any request waits."""
        if not self._num_waiting:
            self.answered()
            self._look_later(self._warning_seconds)
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1
            if not self._num_waiting and self._timer is not None:
                self._timer.cancel()

    def warn_of_retry(self, url: str, reason: object, seconds_left: float) -> None:
        """Warn of a request that fails and is repeated."""
        self._warn(
            f"the {self._name} does not answer a request ({url}: {reason}); "
            f"it is asked again for up to {_span(seconds_left)}"
        )

    def _look_later(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self._warn_of_silence)

    def _warn_of_silence(self) -> None:
        silent = time.monotonic() - self._answered_at
        longest = self._warning_seconds
        if silent >= longest:
            self._warn(
                f"the {self._name} has answered nobody for {_span(silent)}; requests that wait: "
                f"{self._num_waiting:,}, each for up to {_span(self._timeout_seconds)}"
            )
        self._look_later(longest - silent if silent < longest else longest)

    def _warn(self, message: str) -> None:
        now = time.monotonic()
        if now - self._warned_at >= self._warning_seconds:
            self._warned_at = now
            logger.warning("%s", message)


def warn_of_rest(name: str, address: str, reason: object) -> None:
    """Warn of one of several servers that is left alone from now on."""
    logger.warning(
        "the %s at %s fails (%s); it is left alone for a while, and the others go on",
        name,
        address,
        reason,
    )


def _span(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"
