"""Read dvc.lock, in which DVC keeps the hashes of what each stage has read and made."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from coa.errors import InputError

LOCK = Path("dvc.lock")
_CONFLICT = re.compile(rb"^(<<<<<<<|=======|>>>>>>>)", re.MULTILINE)
_MAX_BYTES = 50_000_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The fast reader, where it was built: a lock may be long."""


def read_stages(lock: Path = LOCK) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of a lock by the names of their stages; none where there is no lock.

    Raises:
        InputError: It cannot be read, or holds the marks of a merge conflict.
    """
    try:
        if not lock.exists():
            return {}
        check_lock(lock)
        found = yaml.load(lock.read_bytes(), _LOADER)["stages"]
        for stage in found.values():
            for kind in ("deps", "outs"):
                for entry in stage.get(kind, ()):
                    str(entry["path"])
    except InputError:
        raise
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise _unreadable(lock, " ".join(str(error).split())[:200]) from error
    except (ValueError, RecursionError) as error:
        raise _unreadable(lock, type(error).__name__) from error
    return dict(found)


def check_lock(lock: Path = LOCK) -> None:
    """Refuse a lock with the marks of a merge conflict, of which DVC says nothing useful.

    Raises:
        InputError: It has some, or cannot be read.
    """
    if not lock.exists():
        return
    try:
        content = lock.read_bytes()
    except OSError as error:
        raise _unreadable(lock, error.strerror or str(error)) from error
    if _CONFLICT.search(content) or len(content) > _MAX_BYTES:
        raise _unreadable(lock, "the marks of a merge conflict, or a file that is far too large")


def _unreadable(lock: Path, got: str) -> InputError:
    return InputError(
        f"cannot read {lock}",
        got=got,
        fix=f"git checkout HEAD -- {lock} takes the last commit's (in a merge, your side); where "
        f"that is broken too, delete {lock}; then dvc repro, which finds again what is made",
    )
