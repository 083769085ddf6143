"""Name the files of shards, and prove at the merge that they are whole and belong together."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from coa.errors import InputError, writing_error
from coa.store.journal import Journal, to_json
from coa.store.journal_file import JOURNALS
from coa.store.shipped import find_shipped
from coa.store.whole_files import write_file

SHARDS = JOURNALS / "shards"
"""The folder with a folder for each work that is done in shards, named after its journal."""
JOURNAL = "journal.sqlite"
JUDGED = "judge.sqlite"
"""The journal of a shard's judge."""
PROGRESS = "progress.json"
FINISHED = "finished.json"
LOG = "log.txt"
"""What a shard printed that a launcher runs."""
_FOLDER = re.compile(r"([1-9]\d*)-of-([1-9]\d*)")
RUN_THEM = "run each with its argument, such as shard=2/4, and then merge again"
RUN_AGAIN = "run this shard again, and then merge: the calls that are in its journal are kept"
_NO_TABLES = (PROGRESS, FINISHED, LOG, f"{JOURNAL}-", f"{JOURNAL}.", f"{JUDGED}-", f"{JUDGED}.")
_MAX_SHOWN = 5
_SEAL = "seal"
_UNREADABLE = (OSError, UnicodeDecodeError, RecursionError, msgspec.DecodeError)
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

    @property
    def folder(self) -> str:
        """Return the name of its folder."""
        return f"{self.number}-of-{self.count}"


class Standing(msgspec.Struct):
    """How far a shard is."""

    done: int
    total: int
    dollars: float
    """What it paid, where there are prices."""


class Finished(msgspec.Struct):
    """What a shard leaves when it is over, sealed by a hash."""

    shard: str
    """Which one it is, such as `shard 2 of 4 of sample`."""
    settings: dict[str, Any]
    """The settings that decide what is written, by their dotted names."""
    work: str
    """The hash of all items of the stage, those of other shards included."""
    num_items: int
    files: dict[str, str]
    """The hashes of its tables and of the calls in its journals, by their files' names."""
    earlier: list[str]
    """Other journals that it looked into."""
    counts: Any = None
    """What it counted, of a stage whose shards are put together without running it again."""


def whole_name(name: str, journal: str) -> str:
    """Return the name of the stage's journal that a file of a shard goes into at the merge."""
    return f"{name}-judge" if journal == JUDGED else name


def split(count: int) -> list[Shard]:
    """List all shards of a work."""
    return [Shard(number, count) for number in range(1, count + 1)]


def shards_in(folder: Path) -> list[Shard]:
    """List the shards that have a folder here, by count and number."""
    found: list[Shard] = []
    for path in _entries(folder):
        shard = _shard_of(path)
        if shard:
            found.append(shard)
    return sorted(found, key=lambda shard: (shard.count, shard.number))


def _entries(folder: Path) -> list[Path]:
    """List what is in a folder, but hidden files; nothing where there is no folder."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if not path.name.startswith(".")]


_MOST_DIGITS = 6
"""Folders that name more shards than a million are no shards."""


def _shard_of(path: Path) -> Shard | None:
    """Return the shard of a folder; None where it is none."""
    numbers = _FOLDER.fullmatch(path.name)
    if not numbers or not path.is_dir() or len(numbers[2]) > _MOST_DIGITS:
        return None
    if int(numbers[1]) > int(numbers[2]):
        return None
    return Shard(int(numbers[1]), int(numbers[2]))


def write_finished(folder: Path, finished: Finished) -> None:
    """Write what a shard leaves, with the hash of all that it says."""
    plain = msgspec.json.decode(msgspec.json.encode(finished))  # what was counted keeps its order
    plain[_SEAL] = _hash(plain)
    write_file(folder / FINISHED, msgspec.json.encode(plain))


def read_finished(folder: Path) -> Finished | None:
    """Read what a shard left in its folder; None where it is not over.

    Raises:
        InputError: The file cannot be read, or is not as the shard wrote it.
    """
    path = folder / FINISHED
    if not path.exists():
        return None
    try:
        plain = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        seal = plain.pop(_SEAL, "")
        finished = msgspec.convert(plain, Finished)
    except _UNREADABLE as error:
        fix = f"move it away, and {RUN_AGAIN}"
        raise InputError(f"{path} cannot be read", got=error, fix=fix) from error
    if seal != _hash(plain):
        raise InputError(f"{path} is not as the shard wrote it", fix=RUN_AGAIN)
    return finished


def begin_again(folder: Path) -> None:
    """Make a shard's folder, or remove from it what says that the shard is over.

    Raises:
        OutputError: Something else is in the way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (FINISHED, PROGRESS):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise writing_error(folder, error) from error


def _hash(plain: object) -> str:
    return hashlib.sha256(to_json(plain)).hexdigest()


def read_standing(folder: Path) -> Standing:
    """Read how far the shard of a folder is."""
    try:
        return msgspec.json.decode((folder / PROGRESS).read_bytes(), type=Standing)
    except _UNREADABLE:
        return Standing(0, 0, 0.0)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the hashes of a shard's tables, and of the calls in its journals, by file name."""
    hashes: dict[str, str] = {}
    for path in _entries(folder):
        if path.name in (JOURNAL, JUDGED):
            hashes[path.name] = _hash_journal(path)
        elif path.is_file() and not path.name.startswith(_NO_TABLES):
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def _hash_journal(path: Path) -> str:
    calls = hashlib.sha256()
    with Journal(path, wait_seconds=0, is_alone=True) as journal:
        for row in journal.rows():
            calls.update(to_json(row))
    return calls.hexdigest()


def check_shards(folder: Path, expected: Finished, shards: Sequence[Shard]) -> list[Finished]:
    """Return what shards left, if all are over, are of this run, and have the files they wrote.

    `expected` is what the merge itself would leave.

    Raises:
        InputError: It names the shards that are missing or not over, or what differs.
    """
    for path in _entries(folder):
        if not _shard_of(path):
            raise InputError(f"{path} is no folder of a shard", fix="move it away, and merge again")
    missing: list[str] = []
    found: list[Finished] = []
    for shard in shards:
        own = folder / shard.folder
        finished = read_finished(own)
        if finished is None:
            missing.append(f"{shard.number} ({'not over' if own.exists() else 'not there'})")
            continue
        differences = _differences(expected, finished, shard)
        if differences:
            raise InputError(
                f"{shard} is not of this run",
                where=own,
                got="; ".join(differences),
                fix="merge with the settings of the shards, or run this one again: finished calls "
                "are kept",
            )
        _check_files(own, finished, shard)
        found.append(finished)
    if missing:
        raise InputError(
            f"{len(missing)} of {len(shards)} shards cannot be merged yet",
            where=folder,
            got=f"shard {', '.join(missing[:_MAX_SHOWN])}{', ...' * (len(missing) > _MAX_SHOWN)}",
            fix=RUN_THEM,
        )
    return found


def _differences(expected: Finished, found: Finished, shard: Shard) -> list[str]:
    differences: list[str] = []
    if found.shard != f"{shard} of {expected.shard}":
        differences.append(f"the folder holds {found.shard}")
    for name in sorted(expected.settings.keys() | found.settings.keys()):
        here = expected.settings.get(name)
        there = found.settings.get(name)
        if here != there:
            differences.append(f"{name} is {there!r} there and {here!r} here")
    if expected.work != found.work and not differences:
        items = f"{found.num_items:,} there and {expected.num_items:,} here"
        differences.append(f"the items of the stage are others ({items})")
    return differences[:_MAX_SHOWN]


def _check_files(folder: Path, finished: Finished, shard: Shard) -> None:
    """Refuse a shard without a table or a journal that it wrote, or with another in its place."""
    hashes = hash_files(folder)
    wrong = [folder / name for name in finished.files if hashes.get(name) != finished.files[name]]
    wrong += [Path(name) for name in finished.earlier if not Path(name).is_file()]
    if wrong:
        raise InputError(
            f"a file of {shard} is missing, or is not the one that the shard left",
            where=wrong[0],
            fix="put it back; or run this shard again, which makes the calls that are in no "
            "journal, and then merge",
        )


def flat_settings(values: Any, name: str) -> dict[str, Any]:
    """Return the settings below `name` by dotted names, without those that may differ."""
    if name.rpartition(".")[2] in _ELSEWHERE:
        return {}
    if isinstance(values, str) and values.endswith(".txt") and find_shipped(values).is_file():
        content = hashlib.sha256(find_shipped(values).read_bytes()).hexdigest()
        return {name: f"{values} ({content[:8]})"}  # a prompt is what it says
    if not isinstance(values, Mapping) or not values:
        return {name: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat_settings(value, f"{name}.{key}")
    return found
