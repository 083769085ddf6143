"""Name and read files under results/."""

from pathlib import Path
from typing import TypeVar

import msgspec

from coa.errors import ConfigError, InputError

Record = TypeVar("Record")


def file_name(name: str, fallback: str, key: str) -> str:
    """Return the name of a result: `name`, or the last part of `fallback`.

    Raises:
        ConfigError: it cannot be a file's name.
    """
    name = name or Path(fallback).name
    if not name:
        raise ConfigError(
            "neither a model nor a name is given", expected=f"model=data/train/sft2, or {key}=..."
        )
    if name != Path(name).name or name.startswith("."):
        raise ConfigError(
            "the result's name is not a file name", expected=f"{key}=sft2_react", got=repr(name)
        )
    return name


def read_json(path: Path, record: type[Record], *, command: str) -> Record:
    """Read a record back; for messages, `command` makes the file again.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=record)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"cannot read {path}", got=error, fix=f"make it again: {command}"
        ) from error
