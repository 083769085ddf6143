"""Read the files that shards leave, and check that they can be merged."""

import hashlib
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from coa.errors import InputError
from coa.journal import Row
from coa.journal_file import JOURNALS

SHARDS = JOURNALS / "shards"
"""The folder with a folder for each work that is done in shards, named after its journal."""
JOURNAL = "journal.sqlite"
JUDGED = "judge.sqlite"
"""The journal of a shard's judge."""
PROGRESS = "progress.json"
FINISHED = "finished.json"
_FOLDER = re.compile(r"(\d+)-of-(\d+)")
RUN_THEM = "run each with its argument, such as shard=2/4, and then merge again"
_MAX_SHOWN = 5
_ELSEWHERE = {
    "api_key_env",
    "base_url",
    "batch_size",
    "concurrency",
    "device",
    "max_requests_per_minute",
    "max_tokens_per_minute",
    "patience_minutes",
    "timeout_seconds",
    "url",
}
"""Settings that say where a shard finds its servers and how fast it asks them. They may differ."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of a stage's work a process does."""

    number: int = 1
    """From 1 to `count`."""
    count: int = 1
    is_merge: bool = False
    """Whether it is the run that puts the shards together."""

    def __str__(self) -> str:
        return f"shard {self.number} of {self.count}"


class Standing(msgspec.Struct):
    """How far a shard is."""

    done: int
    total: int
    dollars: float
    """What it paid, where there are prices."""


class Finished(msgspec.Struct):
    """What a shard leaves when it is over."""

    settings: dict[str, Any]
    """The settings that decide what is written, by their dotted names."""
    work: str
    """The hash of all items of the stage, those of other shards included."""
    num_items: int
    summary: str
    host: str
    counts: Any = None
    """What it counted, of a stage whose shards are put together without running it again."""


class Mirror(NamedTuple):
    """Where a shard writes that a launcher runs on another machine, and whom it tells."""

    folder: Path
    """In place of `SHARDS`."""
    on_call: Callable[[str, Row], None]
    """Told of each call: the name of its journal in the shard's folder, and the call."""
    on_file: Callable[[str, bytes], None]
    """Told of each small file: its name and its content."""
    on_part: Callable[[str, int, bytes], None]
    """Told of each part of a large file: its name, where the part begins, and its content."""


MIRROR: ContextVar[Mirror | None] = ContextVar("mirror", default=None)
"""Set by a launcher."""


def folder_name(shard: Shard) -> str:
    """Return the name of a shard's folder."""
    return f"{shard.number}-of-{shard.count}"


def whole_name(name: str, journal: str) -> str:
    """Return the name of the journal that a shard's goes into at the merge.

    Args:
        name: The name of the stage's journal.
        journal: The file in the shard's folder.
    """
    return f"{name}-judge" if journal == JUDGED else name


def shards_in(folder: Path) -> list[Shard]:
    """List the shards that have a folder here."""
    found: list[Shard] = []
    for path in sorted(folder.glob("*-of-*")):
        numbers = _FOLDER.fullmatch(path.name)
        if numbers:
            found.append(Shard(int(numbers[1]), int(numbers[2])))
    return found


def read_finished(folder: Path, shard: Shard) -> Finished | None:
    """Read what a shard left; None where it is not over."""
    path = folder / folder_name(shard) / FINISHED
    try:
        return msgspec.json.decode(path.read_bytes(), type=Finished)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise InputError(f"{path} cannot be read", got=error, fix=RUN_THEM) from error


def read_standing(folder: Path, shard: Shard) -> Standing:
    """Read how far a shard is."""
    path = folder / folder_name(shard) / PROGRESS
    try:
        return msgspec.json.decode(path.read_bytes(), type=Standing)
    except (FileNotFoundError, msgspec.DecodeError):
        return Standing(0, 0, 0.0)


def check_shards(folder: Path, expected: Finished, count: int) -> None:
    """Refuse to merge shards that are not all there, or not of the same run.

    Raises:
        InputError: It names the shards that are missing or not over, or what differs.
    """
    missing: list[str] = []
    for number in range(1, count + 1):
        shard = Shard(number, count)
        finished = read_finished(folder, shard)
        if finished is None:
            has_begun = (folder / folder_name(shard)).exists()
            missing.append(f"{number} ({'not over' if has_begun else 'not there'})")
            continue
        differences = _differences(expected, finished)
        if differences:
            raise InputError(
                f"{shard} ran with other settings, or on other items",
                where=folder / folder_name(shard),
                got="; ".join(differences),
                fix="merge with the settings of the shards, or run this one again: finished calls "
                "are kept",
            )
    if missing:
        raise InputError(
            f"{len(missing)} of {count} shards cannot be merged yet",
            where=folder,
            got=f"shard {', '.join(missing[:_MAX_SHOWN])}{', ...' * (len(missing) > _MAX_SHOWN)}",
            fix=RUN_THEM,
        )


def _differences(expected: Finished, found: Finished) -> list[str]:
    differences: list[str] = []
    for name in sorted(expected.settings.keys() | found.settings.keys()):
        here = expected.settings.get(name)
        there = found.settings.get(name)
        if here != there:
            differences.append(f"{name} is {there!r} there and {here!r} here")
    if expected.work != found.work and not differences:
        items = f"{found.num_items:,} there and {expected.num_items:,} here"
        differences.append(f"the items of the stage are others ({items})")
    return differences[:_MAX_SHOWN]


def flat_settings(values: Any, name: str) -> dict[str, Any]:
    """Return the settings below `name` by dotted names, without those that may differ."""
    if name.rpartition(".")[2] in _ELSEWHERE:
        return {}
    if isinstance(values, str) and values.endswith(".txt") and Path(values).is_file():
        content = hashlib.sha256(Path(values).read_bytes()).hexdigest()
        return {name: f"{values} ({content[:8]})"}  # a prompt is what it says
    if not isinstance(values, Mapping) or not values:
        return {name: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat_settings(value, f"{name}.{key}")
    return found
