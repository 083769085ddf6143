"""Run a command from its start to its end: one summary line, readable errors, an exit status.

A stage's module ends with `if __name__ == "__main__": run(main, sys.argv[1:])`. Exit status: 0 for
done, 1 for a CoaError, 130 for control-C, 143 for SIGTERM. What is printed may quote a model or the
web, so characters that would act on the terminal are spelled out.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from coa.errors import CoaError
from coa.interruption import Interrupted
from coa.terminal import printable

INTERRUPTED = 130


class _Printable(logging.Formatter):
    """A formatter whose log lines cannot act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def run(main: Callable[[Sequence[str]], str], arguments: Sequence[str]) -> NoReturn:
    """Call `main` with the arguments, print the summary line that it returns, and exit."""
    # Only warnings: HTTP clients log every request.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    if {"-h", "--help"} & set(arguments):
        module = sys.modules[main.__module__]
        print((module.__doc__ or "").strip())
        sys.exit(0)
    try:
        summary = main(arguments)
    except CoaError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as error:
        print(
            "interrupted: finished calls are kept; run the same command again to go on",
            file=sys.stderr,
        )
        sys.exit(error.status if isinstance(error, Interrupted) else INTERRUPTED)
    print(printable(summary))
    sys.exit(0)
