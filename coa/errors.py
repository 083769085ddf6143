"""Define every error that a person is meant to read.

CoaError                what happened, where, what was expected and found, what to do next
├── ConfigError         a setting is unknown, malformed or out of range (a ValueError)
├── InputError          a file or a row of it cannot be used (a ValueError)
├── OutputError         a result cannot be written: disk full, no permission (an OSError)
├── ServiceError        a server cannot be reached or refuses us (a ConnectionError)
├── CapError            a limit on what a run may spend is reached (a RuntimeError)
└── MissingExtraError   an optional dependency is not installed (an ImportError)

A bad rollout is not an error: it is a row with a stop reason. To add an exception, derive it from
`CoaError` and from the standard exception that it refines, and draw it above.
"""

import errno
import os
from difflib import get_close_matches
from pathlib import Path


class CoaError(Exception):
    """The base class of all errors that a person is meant to read."""

    def __init__(
        self,
        what: str,
        *,
        where: object = "",
        expected: object = "",
        got: object = "",
        fix: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.details = {
            "where": str(where),
            "expected": str(expected),
            "got": str(got),
            "what to do": fix,
        }

    def __str__(self) -> str:
        lines = [self.what]
        for name, text in self.details.items():
            if text:
                lines.append(f"  {name}: {text}")
        return "\n".join(lines)


class ConfigError(CoaError, ValueError):
    """A setting is unknown, malformed or out of range."""


class InputError(CoaError, ValueError):
    """A file, or a row of it, cannot be used."""


class OutputError(CoaError, OSError):
    """A result cannot be written."""


class ServiceError(CoaError, ConnectionError):
    """A server that the run needs cannot be reached or refuses us."""


class CapError(CoaError, RuntimeError):
    """A limit on what a run may spend is reached."""


class MissingExtraError(CoaError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"the package {package!r} is not installed", fix=f"pip install -e '.[{extra}]'"
        )


def most_similar(name: object, known: object) -> str:
    """Return the most similar of the known names; empty where none is similar."""
    names = [str(item) for item in known]  # type: ignore[attr-defined]
    return next(iter(get_close_matches(str(name), names, n=1)), "")


def closest(name: object, known: object) -> str:
    """Return the question whether the most similar of the known names was meant.

    It is empty where none is similar.
    """
    similar = most_similar(name, known)
    return f"did you mean {similar}?" if similar else ""


def unknown_name(kind: str, name: object, known: object, *, where: object = "") -> ConfigError:
    """Return the error for a name that is not among the known ones, an iterable of names."""
    names = sorted(str(item) for item in known)  # type: ignore[attr-defined]
    return ConfigError(
        f"unknown {kind} {str(name)!r}",
        where=where,
        expected=f"one of {', '.join(names)}",
        got=repr(name),
        fix=closest(name, names),
    )


def check_no_folder(path: Path) -> None:
    """Refuse a folder where a file is expected.

    Raises:
        InputError: `path` is a folder.
    """
    if path.is_dir():
        raise InputError(
            f"{path} is a folder", expected="a file", fix="name a file in it, or move it away"
        )


def writing_error(path: os.PathLike[str] | str, error: OSError) -> OutputError:
    """Return the error to raise for an operating-system error while writing `path`."""
    said = str(error).lower()
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    is_full = is_full or any(text in said for text in ("no space left", "disk is full", "quota"))
    remedy = "free some space" if is_full else "make the folder writable, or choose another"
    return OutputError(
        f"cannot write {os.fspath(path)}",
        got=error.strerror or str(error),
        fix=f"{remedy}, then run the same command again: finished calls are kept",
    )
