"""Run a part of a stage's work, with a journal of its own, and put the parts together again.

    coa sample mode=coa shard=2/4        # the second of four shards, from 1 to 4
    coa merge stage=sample mode=coa        # all of them are over: one output

The items of a stage (questions, or points to fork) are dealt out by their number, so which shard
has which follows from the settings alone. A shard keeps all its files in
.journal/shards/{journal}/2-of-4/: the journal, its own parquet files, how far it is, and, when it
is over, what it ran with and the hashes of its files. The merge compares those, takes over the
calls of all journals and runs the stage from them, so the output is that of one process, byte for
byte (docs/scaling.md).

A stage that handles each row of a file by itself (grade, analyse, filter, screen) has ranges of
rows as its shards, and the merge joins the tables that they wrote.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from filelock import FileLock, Timeout

from coa.errors import ConfigError, InputError
from coa.interruption import run_interruptible
from coa.settings.params import Params
from coa.shards.files import (
    JOURNAL,
    JUDGED,
    PROGRESS,
    RUN_AGAIN,
    RUN_THEM,
    SHARDS,
    Finished,
    Shard,
    Standing,
    begin_again,
    check_shards,
    flat_settings,
    hash_files,
    shards_in,
    split,
    whole_name,
    write_finished,
)
from coa.store import tables
from coa.store.journal import Journal, to_json
from coa.store.journal_file import JOURNALS
from coa.store.whole_files import write_file

MERGED = "shard=merged"
"""The argument of a stage that merges its shards."""
_ARGUMENT = re.compile(r"([1-9]\d*)/([1-9]\d*)")
_LOCAL = "local"
"""A kind of policy, whose module is not imported: the filter does not depend on policies."""
_ROLLED_OUT = ("search", "tools", "microworld")
_READ_ALSO = {
    "sample": ("teacher", "rollout", "prompts", *_ROLLED_OUT),
    "branch": ("teacher", "rollout", "prompts", "judge", *_ROLLED_OUT),
    "evaluate": ("judge", *_ROLLED_OUT),
    "grade": ("judge", "microworld"),
    "analyse": ("index",),
}
"""The sections that decide what is written, beside the stage's own."""
_TOLD_EVERY_ROWS = 1000
_WAIT_SECONDS = 120.0
"""For the journal of a shard that starts again: the lock of a lost node stays for its lease, which
is 90 s with NFS."""
_Item = TypeVar("_Item")


class Launcher(StrEnum):
    """What starts the shards of a stage."""

    NONE = "none"
    """Nobody: a stage is one process, or shards are started by hand."""
    RAY = "ray"
    """Ray, on this machine or on a cluster."""


@dataclass(frozen=True, slots=True)
class ShardsParams:
    """How many shards the stages run as that `coa merge` knows."""

    num_shards: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Parts of a stage that run at the same time, each with `teacher.concurrency` rollouts; 1: the
    stage is one process. Limits (`costs`, requests and tokens a minute) are divided by it."""
    launcher: Launcher = Launcher.NONE
    """Who starts them: none or ray."""
    ray_address: str = ""
    """Of a Ray cluster that runs already, such as `auto`; empty: one is started on this machine."""


class Asked(Protocol):
    """The settings of a policy, such as `coa.rollout.factory.TeacherParams`."""

    @property
    def policy(self) -> str:
        """Return the kind of the policy."""


def take_shard(arguments: Sequence[str]) -> tuple[Shard, list[str]]:
    """Part `shard=` from the other arguments of a stage; without it the shard is all of the work.

    Raises:
        ConfigError: It is not such as `shard=2/4`.
    """
    rest = [argument for argument in arguments if not argument.startswith("shard=")]
    given = [argument for argument in arguments if argument.startswith("shard=")]
    if not given:
        return Shard(), rest
    if given[-1] == MERGED:
        return Shard(is_merge=True), rest
    numbers = _ARGUMENT.fullmatch(given[-1].removeprefix("shard="))
    if not numbers or int(numbers[1]) > int(numbers[2]):
        raise ConfigError(
            "there is no such shard",
            expected="shard=1/4 to shard=4/4 for the four shards of a stage",
            got=given[-1],
        )
    return Shard(int(numbers[1]), int(numbers[2])), rest


def open_stage(module: str, arguments: Sequence[str]) -> "ShardRun":
    """Read a stage's settings, and which part of its work this process is to do.

    The last part of the module's name is that of the section.

    Raises:
        ConfigError: An argument is wrong, or params.yaml is.
    """
    shard, rest = take_shard(arguments)
    stage = module.rpartition(".")[2]
    return ShardRun(shard, stage, Params.load(stage, rest), module, tuple(rest))


@dataclass(slots=True)
class ShardRun:
    """A run of a stage over its whole work, over a shard of it, or over all shards' journals."""

    shard: Shard
    stage: str
    """The name of the stage's section."""
    params: Params
    module: str = ""
    """The module of the stage's command."""
    arguments: tuple[str, ...] = ()
    """The command's arguments, without `shard=`."""
    journal_name: str = ""
    """Of the journal of the whole work; `launch` sets it."""
    num_items: int = 0
    """Items of the whole work, once they were chosen."""
    paid_before: float = 0.0
    """Dollars in earlier journals, which every shard knows of."""
    merged: Sequence[Path] = ()
    """The folders of the shards that are merged, in their order."""
    _absorbed: set[Path] = field(default_factory=set)
    """The folders of shards whose calls the journal of the whole work took over."""
    _finished: Sequence[Finished] = ()
    """What the shards left that are merged."""
    _earlier: set[Path] = field(default_factory=set)
    """The journals that a shard looks into beside its own."""
    _digest: Any = field(default_factory=hashlib.sha256)
    _has_begun: bool = False

    @property
    def is_part(self) -> bool:
        """Tell whether other processes do the rest of the work."""
        return self.shard.count > 1

    @property
    def settings(self) -> ShardsParams:
        """Return the section `shards`."""
        return self.params.section(ShardsParams, "shards")

    @property
    def all_shards(self) -> Path:
        """Return the folder of all shards of this work."""
        return SHARDS / self.journal_name

    @property
    def folder(self) -> Path:
        """Return the folder of this shard."""
        return self.all_shards / self.shard.folder

    def out(self, path: Path) -> Path:
        """Return where an output is written: a shard's is among its own files."""
        return self.folder / path.name if self.is_part else path

    def launch(self, journal_name: str, *policies: Asked | None) -> None:
        """Name the work; where the settings name Ray, run all its shards and continue as the merge.

        A stage whose policy is a model in its own process stays one process: shards would load the
        model several times, and share out its batches in another way.

        Raises:
            ConfigError: There are shards and nobody to start them, or Ray is not installed.
            CoaError: A shard failed; the others were stopped.
        """
        self.journal_name = journal_name
        settings = self.settings
        is_local = any(policy and policy.policy == _LOCAL for policy in policies)
        if self.is_part or self.shard.is_merge or settings.num_shards == 1 or is_local:
            return
        by_hand = (
            f"start each by hand: coa {self.stage} ... shard=1/{settings.num_shards}, and "
            f"then coa merge stage={self.stage}"
        )
        if settings.launcher is Launcher.NONE:
            raise ConfigError(
                f"the stage has {settings.num_shards} shards and nobody starts them",
                where="shards.launcher",
                expected="ray; or shards.num_shards=1",
                fix=f"or {by_hand}",
            )
        from coa.shards.ray_launcher import run_on_ray

        shards = split(settings.num_shards)
        for shard in shards:
            begin_again(self.all_shards / shard.folder)
        address = settings.ray_address
        run_interruptible(run_on_ray(self.all_shards, shards, self.module, self.arguments, address))
        self.shard = Shard(is_merge=True)

    def choose(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items of this shard: every n-th, beginning with its number."""
        for index, item in enumerate(items):
            self._digest.update(to_json(item))
            self.num_items += 1
            if index % self.shard.count == self.shard.number - 1:
                yield item

    def rows(self, count: int) -> range:
        """Return which of `count` rows this shard has: as many as the others, side by side."""
        number, shards = self.shard.number, self.shard.count
        return range(count * (number - 1) // shards, count * number // shards)

    def begin_rows(self, *files: Path, also: object = None) -> None:
        """Begin a stage whose items are rows of parquet files; their footers identify them.

        `also` is a record, or a sequence of them, that the stage reads too.

        Raises:
            InputError: A file is missing or truncated, or shards cannot be merged.
        """
        for file in files:
            self._digest.update(tables.footer(file))
            self.num_items += tables.count_rows(file)
        if also is not None:
            self._digest.update(to_json(also))
        self.begin()

    def begin(self) -> None:
        """Prepare the run, once; all items were chosen before.

        Raises:
            InputError: Shards are missing, are not over, or are not those of this work.
        """
        if self._has_begun:
            return
        self._has_begun = True
        if self.is_part:
            begin_again(self.folder)
            return
        if self.shard.is_merge:
            shards = split(self._count())
            self._finished = check_shards(self.all_shards, self._describe(self.stage), shards)
            self.merged = [self.all_shards / shard.folder for shard in shards]
        for name in (JOURNAL, JUDGED):
            journals = self._journals(name)
            if journals:
                with Journal(self._whole(name)) as journal:
                    for path in journals:
                        journal.absorb(path)
            self._absorbed.update(path.parent for path in journals)

    def open_journal(self, name: str = JOURNAL) -> Journal:
        """Begin, and return the journal to open: the policy's, or the judge's (`JUDGED`).

        Raises:
            InputError: Shards are missing, are not over, or are not those of this work.
        """
        self.begin()
        whole = self._whole(name)
        if not self.is_part:
            return Journal(whole)
        earlier = [whole] if whole.exists() else []
        for path in self._journals(name):
            if not path.parent.name.endswith(f"-of-{self.shard.count}"):
                earlier.append(path)
        self._earlier.update(earlier)
        return Journal(
            self.folder / name,
            wait_seconds=_WAIT_SECONDS,
            earlier=earlier,
            is_alone=True,
            is_synced=bool(self.settings.ray_address),
        )

    def _whole(self, name: str) -> Path:
        return JOURNALS / f"{whole_name(self.journal_name, name)}.sqlite"

    def _journals(self, name: str) -> list[Path]:
        """Return the journals of this name of all shards that have one, of other counts too."""
        paths = [self.all_shards / shard.folder / name for shard in shards_in(self.all_shards)]
        return [path for path in paths if path.exists()]

    def _count(self) -> int:
        """Return how many shards are to be merged: as the settings say, or as many as lie there."""
        count = self.settings.num_shards
        if count > 1:
            return count
        counts = {shard.count for shard in shards_in(self.all_shards)}
        if len(counts) == 1:
            return counts.pop()
        shown = " and of ".join(str(count) for count in sorted(counts))
        raise InputError(
            "it is not clear which shards are to be merged" if counts else "there are no shards",
            where=self.all_shards,
            got=f"shards of {shown}" if counts else "no folder of a shard",
            fix="say how many with shards.num_shards=4" if counts else RUN_THEM,
        )

    def parts(self, ids: str, *names: str) -> list[Path]:
        """Return the files of all shards that are merged: one of each, then the next of each.

        The values of the column `ids`, dotted where it is inside of a record, are unique.

        Raises:
            InputError: Two of the files have a row in common.
        """
        parts = [folder / name for name in names for folder in self.merged]
        found = tables.find_shared_id(parts, ids)
        if found:
            raise InputError(
                f"the row {found.name!r} is in the tables of two shards",
                where=f"{found.first} and {found.last}",
                fix=f"{RUN_AGAIN}; the input may hold this row twice, too",
            )
        return parts

    def counts(self, kind: type[_Item]) -> list[_Item]:
        """Return what each shard that is merged counted, in the shards' order."""
        found: list[_Item] = []
        for finished in self._finished:
            # Counters are no type that msgspec knows.
            counts = msgspec.convert(finished.counts, kind, dec_hook=lambda own, read: own(read))
            found.append(counts)
        return found

    def finish(self, summary: str, counts: object = None) -> str:
        """Leave what the merge needs, or remove what is merged; return the line to be shown.

        A shard leaves its counts where the merge does not run the stage again.
        """
        if self.is_part:
            finished = self._describe(f"{self.shard} of {self.stage}")
            finished.files = hash_files(self.folder)
            finished.counts = counts
            write_finished(self.folder, finished)
            return f"{self.shard}: {summary}"
        for folder in {*self.merged, *self._absorbed}:
            # A shard that somebody has started again meanwhile keeps its folder.
            with suppress(Timeout), ExitStack() as locks:
                for journal in folder.glob("*.sqlite"):
                    locks.enter_context(FileLock(f"{journal}.lock", timeout=0))
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            self.all_shards.rmdir()
        return summary

    def _describe(self, shard: str) -> Finished:
        values = self.params.values()
        settings: dict[str, Any] = {}
        for section in (self.stage, *_READ_ALSO.get(self.stage, ())):
            settings |= flat_settings(values[section], section)
        return Finished(
            shard=shard,
            settings=settings,
            work=self._digest.hexdigest(),
            num_items=self.num_items,
            files={},
            earlier=sorted(path.as_posix() for path in self._earlier),
        )

    def tell(self, done: int, total: int, dollars: float) -> None:
        """Write down how far this shard is."""
        if self.is_part:
            standing = Standing(done, total, dollars - self.paid_before)
            write_file(self.folder / PROGRESS, msgspec.json.encode(standing))

    def tell_row(self, done: int, total: int, dollars: float = 0.0) -> None:
        """Write down how far this shard is, every thousand rows."""
        if done == total or done % _TOLD_EVERY_ROWS == 0:
            self.tell(done, total, dollars)
