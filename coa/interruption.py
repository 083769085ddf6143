"""Stop a run in order at control-C, SIGTERM or SIGHUP; a second signal stops it at once.

The first signal cancels the run, so no further call is made; `coa/rollout/runtime.py` then waits
for the calls under way and keeps their replies, because they are paid for. SIGHUP comes when a
terminal is closed.
"""

import asyncio
import os
import signal
import stat
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

INTERRUPTED = 128 + signal.SIGINT
"""The exit status after control-C."""
_Result = TypeVar("_Result")
_DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)
"""The handlers that are replaced. A signal with another handler (`nohup` ignores some) keeps it."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number
        """The exit status that shells expect, such as 130 for control-C and 143 for SIGTERM."""


def run_interruptible(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run `work` as `asyncio.run` does, and end it in order at the first signal.

    Raises:
        Interrupted: a signal came; what had been finished by then is kept.
    """
    stop = _Stop()
    try:
        return asyncio.run(stop.supervise(work))
    except asyncio.CancelledError:
        if stop.number is None:
            raise
        raise Interrupted(stop.number) from None


class _Stop:
    """The signal handler of one run."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The number of the first signal that came."""
        is_main = threading.current_thread() is threading.main_thread()
        known = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if is_main else ()
        self._handled = [number for number in known if signal.getsignal(number) in _DEFAULTS]

    async def supervise(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait for `work` with the handlers in place."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        with self._handling():
            return await work

    @contextmanager
    def _handling(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._handle) for number in self._handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        # Not the event loop's own handlers: a model in this process may hold the loop for minutes,
        # and the second signal must stop that too.
        if number == signal.SIGHUP:
            _leave_terminal()
        if self.number is not None:
            if number == signal.SIGHUP:
                return  # the shell and the kernel both send it when a terminal is closed
            raise Interrupted(number)
        self.number = number
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task.cancel()
        tell("\nstopping; a second signal stops at once")


def _leave_terminal() -> None:
    """Write to nowhere what would go to a terminal that is gone, where every write is an error."""
    with Path(os.devnull).open("wb") as nowhere:
        for number in (1, 2):
            with suppress(OSError):
                if stat.S_ISCHR(os.fstat(number).st_mode):
                    os.dup2(nowhere.fileno(), number)


def tell(line: str) -> None:
    """Print a line on stderr; where nobody reads stderr any more, continue without it."""
    with suppress(OSError):  # a closed pipe, or a terminal that is gone
        print(line, file=sys.stderr, flush=True)
