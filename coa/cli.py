"""Run a command from its start to its end: one summary line, readable errors, an exit status.

A command's module ends with `run(main, sys.argv[1:])`, for where it is started. Exit status: 0 for
done, 1 for a CoaError, 130 for control-C, 143 for SIGTERM, 141 where the reader of the output has
gone, as in `... | head`. What is printed may quote a model or the web, so characters that would act
on the terminal are spelled out.
"""

import logging
import os
import re
import runpy
import select
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from coa.errors import CoaError
from coa.interruption import INTERRUPTED, Interrupted
from coa.terminal import printable

READER_GONE = 141
"""The status that a shell gives for SIGPIPE."""
HELP = ("-h", "--help")
"""The only flags: everything else is written key=value."""
FLAG = re.compile("--?[A-Za-z]")
_SPINS = "10000"
"""How often a thread of OpenMP looks for work before it sleeps; some 20 microseconds."""


class _Printable(logging.Formatter):
    """A formatter whose log lines cannot act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def run(main: Callable[[Sequence[str]], str], arguments: Sequence[str]) -> NoReturn:
    """Call `main` with the arguments, print the summary line that it returns, and exit."""
    _limit_spinning()
    # Only warnings: HTTP clients log every request.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Printable("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        print(_output_of(main, arguments), flush=True)
    except CoaError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as error:
        print(
            "interrupted: finished calls are kept; run the same command again to resume",
            file=sys.stderr,
        )
        sys.exit(error.status if isinstance(error, Interrupted) else INTERRUPTED)
    except BrokenPipeError:
        if not _is_closed(sys.stdout):
            raise
        # Who reads us has seen enough, as in `... | head`. Python flushes the output at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_GONE)
    sys.exit(0)


def _limit_spinning() -> None:
    """Let torch's threads sleep soon where they wait, unless the user says how they wait.

    On a busy machine threads that spin keep the processors from those that they wait for: 60 steps
    of pre-training beside another training took 97 s, and take 34 s so. Alone it costs nothing.
    libgomp reads the variable when torch loads it, which is later.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def _output_of(main: Callable[[Sequence[str]], str], arguments: Sequence[str]) -> str:
    """Return what a command prints at its end: its summary, or its help where that is asked for."""
    asks_help = any(argument in HELP for argument in arguments)
    if not asks_help and not any(FLAG.match(argument) for argument in arguments):
        return printable(main(arguments))
    module = sys.modules[main.__module__]
    if module.__spec__ is None or module.__name__ != "__main__":
        return (module.__doc__ or "").strip() if asks_help else printable(main(arguments))
    # `python -m synth.sample --help` is `coa synth.sample --help`, a program that ends by itself.
    sys.argv = ["coa", module.__spec__.name.removesuffix(".__main__"), *arguments]
    runpy.run_module("coa", run_name="__main__", alter_sys=True)
    return ""


def _is_closed(stream: TextIO) -> bool:
    """Return whether nobody reads a stream any more."""
    watched = select.poll()
    watched.register(stream.fileno(), 0)
    return bool(watched.poll(0))
