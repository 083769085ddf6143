"""Run a part of a stage's work, with a journal of its own, and put the parts together again.

    python -m synth.sample mode=coa shard=2/4        # the second of four shards, from 1 to 4
    python -m coa.merge stage=sample mode=coa        # all of them are over: one output

The items of a stage (questions, or points to fork) are dealt out by their number, so which shard
has which follows from the settings alone. A shard keeps all its files in
.journal/shards/{journal}/2-of-4/: the journal, its own parquet files, how far it is, and, when it
is over, the settings that it ran with. The merge compares those, takes over the calls of all
journals and runs the stage from them, so the output is that of one process, byte for byte
(docs/shards.md).

A stage that handles each row of a file by itself (grade, analyse, filter, screen) has ranges of
rows as its shards, and the merge joins the tables that they wrote.
"""

import hashlib
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from coa.errors import ConfigError, InputError
from coa.journal import Journal, to_json
from coa.journal_file import JOURNALS
from coa.params import Params
from coa.shard_files import (
    FINISHED,
    JOURNAL,
    JUDGED,
    MIRROR,
    PROGRESS,
    RUN_THEM,
    SHARDS,
    Finished,
    Shard,
    Standing,
    check_shards,
    flat_settings,
    folder_name,
    read_finished,
    shards_in,
    whole_name,
)
from coa.tables import count_rows, footer
from coa.whole_files import write_file

MERGED = "shard=merged"
"""The argument of a stage that merges its shards."""
_ARGUMENT = re.compile(r"([1-9]\d*)/([1-9]\d*)")
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
_PART_BYTES = 16_000_000
"""Of a file that is sent to a launcher on another machine."""
_Item = TypeVar("_Item")


class Launcher(StrEnum):
    """What starts the shards of a stage."""

    NONE = "none"
    """Nobody: a stage is one process, or shards are started by hand."""
    PROCESSES = "processes"
    """The stage's own command, as processes of this machine."""
    RAY = "ray"
    """The stage's own command, on the nodes of a Ray cluster."""


@dataclass(frozen=True, slots=True)
class ShardsParams:
    """How many shards the stages run as that `python -m coa.merge` knows."""

    num_shards: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Parts of a stage that run at the same time, each with `teacher.concurrency` rollouts; 1: the
    stage is one process. Limits (`costs`, requests and tokens a minute) are divided by it."""
    launcher: Launcher = Launcher.NONE
    """Who starts them: none, processes of this machine, or ray."""
    ray_address: str = ""
    """Of a Ray cluster that runs already, such as `auto`; empty: one is started on this machine."""


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


@dataclass(slots=True)
class ShardRun:
    """A run of a stage over its whole work, over a shard of it, or over all shards' journals."""

    shard: Shard
    stage: str
    """The name of the stage's section."""
    journal_name: str
    """Of the journal of the whole work."""
    params: Params
    num_items: int = 0
    """Items of the whole work, once they were chosen."""
    paid_before: float = 0.0
    """Dollars in earlier journals, which every shard knows of."""
    merged: Sequence[Path] = ()
    """The folders of shards that were put together."""
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
        """Return the folder of all shards of this work, as this machine has it."""
        return SHARDS / self.journal_name

    @property
    def folder(self) -> Path:
        """Return the folder of this shard."""
        mirror = MIRROR.get()
        above = mirror.folder / self.journal_name if mirror else self.all_shards
        return above / folder_name(self.shard)

    def out(self, path: Path) -> Path:
        """Return where an output is written: a shard's is among its own files."""
        return self.folder / path.name if self.is_part else path

    def choose(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield the items of this shard: every n-th, beginning with its number."""
        for index, item in enumerate(items):
            self._digest.update(to_json(item))
            self.num_items += 1
            if index % self.shard.count == self.shard.number - 1:
                yield item

    def read(self, *files: Path) -> None:
        """Take the rows of parquet files as items, by their footers.

        Raises:
            InputError: A file is missing or truncated.
        """
        for file in files:
            self._digest.update(footer(file))
            self.num_items += count_rows(file)

    def note(self, inputs: object) -> None:
        """Take something else that the stage reads as an item; a record, or a sequence of them."""
        self._digest.update(to_json(inputs))

    def rows(self, count: int) -> range:
        """Return which of `count` rows this shard has: as many as the others, side by side."""
        number, shards = self.shard.number, self.shard.count
        return range(count * (number - 1) // shards, count * number // shards)

    def begin(self) -> None:
        """Prepare the run, once; all items were chosen before.

        Raises:
            InputError: Shards are missing, are not over, or ran with other settings.
        """
        if self._has_begun:
            return
        self._has_begun = True
        if self.is_part:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / FINISHED).unlink(missing_ok=True)
            return
        if self.shard.is_merge:
            count = self._count()
            check_shards(self.all_shards, self._finished(""), count)
            self.merged = [self.all_shards / folder_name(Shard(i + 1, count)) for i in range(count)]
        for name in (JOURNAL, JUDGED):
            journals = self._journals(name)
            if journals:
                with Journal(self._whole(name)) as journal:
                    for path in journals:
                        journal.absorb(path)
            self.merged = sorted({*self.merged, *(path.parent for path in journals)})

    def open_journal(self, name: str = JOURNAL) -> Journal:
        """Begin, and return the journal to open: the policy's, or the judge's (`JUDGED`).

        Raises:
            InputError: Shards are missing, are not over, or ran with other settings.
        """
        self.begin()
        whole = self._whole(name)
        if not self.is_part:
            return Journal(whole)
        mirror = MIRROR.get()
        on_call = partial(mirror.on_call, name) if mirror else None
        earlier = [whole] if whole.exists() else []
        earlier += [path for path in self._journals(name) if self._is_of_other_split(path)]
        return Journal(self.folder / name, earlier=earlier, on_put=on_call, is_alone=True)

    def _whole(self, name: str) -> Path:
        return JOURNALS / f"{whole_name(self.journal_name, name)}.sqlite"

    def _journals(self, name: str) -> list[Path]:
        return sorted(self.all_shards.glob(f"*-of-*/{name}"))

    def _is_of_other_split(self, journal: Path) -> bool:
        return not journal.parent.name.endswith(f"-of-{self.shard.count}")

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

    def parts(self, name: str) -> list[Path]:
        """Return a file of each shard that is merged, in the shards' order."""
        return [self.all_shards / folder_name(shard) / name for shard in self._merged_shards()]

    def counts(self, kind: type[_Item]) -> list[_Item]:
        """Return what each shard that is merged counted, in the shards' order."""
        found: list[_Item] = []
        for shard in self._merged_shards():
            finished = read_finished(self.all_shards, shard)
            assert finished is not None, "begin() found all shards"
            # Counters are no type that msgspec knows.
            counts = msgspec.convert(finished.counts, kind, dec_hook=lambda own, read: own(read))
            found.append(counts)
        return found

    def _merged_shards(self) -> list[Shard]:
        count = self._count()
        return [Shard(number, count) for number in range(1, count + 1)]

    def finish(self, summary: str, counts: object = None) -> str:
        """Leave what the merge needs, or remove what is merged; return the line to be shown.

        Args:
            summary: The line that the stage shows.
            counts: What a shard counted, where the merge does not run the stage again.
        """
        if not self.is_part:
            for folder in self.merged:
                # A shard that somebody has started again meanwhile keeps its folder.
                with suppress(Timeout), ExitStack() as locks:
                    for journal in folder.glob("*.sqlite"):
                        locks.enter_context(FileLock(f"{journal}.lock", timeout=0))
                    shutil.rmtree(folder, ignore_errors=True)
            with suppress(OSError):
                self.all_shards.rmdir()
            return summary
        if counts is not None:
            self._send_files()
        finished = self._finished(summary)
        finished.counts = counts
        self.write(FINISHED, finished)
        return f"{self.shard}: {summary}"

    def _send_files(self) -> None:
        """Send the files that the merge reads to a launcher on another machine."""
        mirror = MIRROR.get()
        for path in sorted(self.folder.iterdir()) if mirror else ():
            if mirror and path.is_file() and ".sqlite" not in path.name:
                with path.open("rb") as file:
                    while part := file.read(_PART_BYTES):
                        mirror.on_part(path.name, file.tell() - len(part), part)

    def _finished(self, summary: str) -> Finished:
        values = self.params.values()
        settings: dict[str, Any] = {}
        for section in (self.stage, *_READ_ALSO.get(self.stage, ())):
            settings |= flat_settings(values[section], section)
        work = self._digest.hexdigest()[:16]
        return Finished(settings, work, self.num_items, summary, socket.gethostname())

    def tell(self, done: int, total: int, dollars: float) -> None:
        """Write down how far this shard is."""
        if self.is_part:
            self.write(PROGRESS, Standing(done, total, dollars - self.paid_before))

    def tell_row(self, done: int, total: int, dollars: float = 0.0) -> None:
        """Write down how far this shard is, every thousand rows."""
        if done == total or done % _TOLD_EVERY_ROWS == 0:
            self.tell(done, total, dollars)

    def write(self, name: str, record: object) -> None:
        """Write a small file of this shard, and tell a launcher of it."""
        content = msgspec.json.encode(record)  # what was counted keeps its order
        write_file(self.folder / name, content)
        mirror = MIRROR.get()
        if mirror:
            mirror.on_file(name, content)
