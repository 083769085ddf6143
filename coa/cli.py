"""How every command starts and ends: one summary line, readable errors, an exit status.

A stage's module ends with `if __name__ == "__main__": run(main, sys.argv[1:])`. Exit status: 0 done, 1 a CoaError,
130 interrupted.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from coa.errors import CoaError

INTERRUPTED = 130


def run(main: Callable[[Sequence[str]], str], arguments: Sequence[str]) -> NoReturn:
    """Call `main` with the arguments and exit; `main` returns the summary line that a person wants to read last."""
    # Only warnings: HTTP clients log every request.
    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    if {"-h", "--help"} & set(arguments):
        module = sys.modules[main.__module__]
        print((module.__doc__ or "").strip())
        sys.exit(0)
    try:
        summary = main(arguments)
    except CoaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "interrupted: finished calls are kept; run the same command again to go on",
            file=sys.stderr,
        )
        sys.exit(INTERRUPTED)
    print(summary)
    sys.exit(0)
