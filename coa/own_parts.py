"""Load parts that the user wrote, such as a policy, a tool or a filter rule, as `module:name`.

The module is found as Python finds any: in the current folder, in PYTHONPATH, or installed.
"""

import hashlib
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import cache
from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import Any, Self

from coa.errors import ConfigError, closest


class PartKind(StrEnum):
    """The base of enums that name our own parts; any other value is an error, but `module:name`.

    Such a value becomes a member of its own, which is equal to its text.
    """

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str) or not names_own_part(value):
            return None
        member = str.__new__(cls, value)
        member._name_ = value
        member._value_ = value
        return member


def names_own_part(name: str) -> bool:
    """Tell whether a setting names a part of the user's, as `module:name`."""
    return ":" in name


def digest_of(function: Callable[..., Any]) -> str:
    """Return 8 hex digits that change with a function's source, not with what it calls."""
    try:
        source = getsource(function)
    except (OSError, TypeError):  # typed at a prompt, or written in another language
        source = repr(function)
    return hashlib.sha256(source.encode()).hexdigest()[:8]


@cache
def load_function(path: str, what: str) -> Callable[..., Any]:
    """Load a function once in a process.

    Raises:
        ConfigError: there is no such module or name, or it cannot be called.
    """
    function: Callable[..., Any] = load_part(path, what, ("__call__",))
    return function


def load_part(path: str, what: str, needs: Sequence[str] = ()) -> Any:
    """Load the part `module:name` with the attributes that it needs; a class is called.

    `what` is a policy, a tool and so on, for messages.

    Raises:
        ConfigError: there is no such module or name, or the part is none of its kind.
    """
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        # `python -m` looks into the current folder; an installed command does not.
        sys.path.append(here)
    try:
        module = import_module(module_name)
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"cannot import the {what} {path!r}",
            where=f"module {module_name!r}",
            expected="a module in the current folder, in PYTHONPATH, or installed",
            got=error,
            fix=f"run in the folder that holds {module_name.partition('.')[0]}.py, or add that "
            "folder to PYTHONPATH",
        ) from error
    if not hasattr(module, name):
        raise ConfigError(
            f"there is no {what} {path!r}",
            where=module.__file__ or module_name,
            expected="the name of a class or a function in this file",
            got=name,
            fix=closest(name, vars(module)),
        )
    part = getattr(module, name)
    if isinstance(part, type):
        part = part()
    missing = [attribute for attribute in needs if not hasattr(part, attribute)]
    if missing:
        raise ConfigError(
            f"{path!r} is no {what}",
            where=module.__file__ or module_name,
            expected=f"a class with {', '.join(needs)}",
            got=f"no {', no '.join(missing)}",
        )
    return part
