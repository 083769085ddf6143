"""Record finished calls of policies and tools, so that a killed run resumes and pays nothing twice.

The key of a call is the hash of everything that its reply depends on. Once a call is recorded,
every later run takes its reply from the journal. The journal lies outside DVC's outputs, which
`dvc repro` deletes.

It is an SQLite file in WAL mode rather than JSON lines, for three reasons: a SIGKILL in the middle
of a write leaves no torn line to repair, a look-up needs no index in memory that grows with the
run, and triggers keep rows from being changed or deleted. With `synchronous=NORMAL` every committed
row survives the process; a power cut may cost the last few rows, never the file. The disk must be a
local one, because SQLite's WAL does not work over a network. The journal of a shard is open to its
own process alone, which needs no such disk (docs/scaling.md).
"""

import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Generic, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec
from filelock import FileLock, Timeout

from coa.store.journal_file import (
    acquire,
    check_journal,
    prepare,
    read_text,
    translate_errors,
)
from coa.store.under_way import CallUnderWay

logger = logging.getLogger(__name__)

_Reply = TypeVar("_Reply")
_ENCODER = msgspec.json.Encoder(order="deterministic")
_ALL_CALLS = "SELECT kind, who, CAST(seconds AS REAL), CAST(reply AS BLOB) FROM calls"
_FIND = (
    "SELECT CAST(reply AS BLOB), who, CAST(seconds AS REAL), finished_at FROM calls WHERE key = ?"
)
_PUT = "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)"


class CallKind(StrEnum):
    """The kind of a call."""

    POLICY = "policy"
    """A policy continued a context."""
    TOOL = "tool"
    """A tool answered an action."""
    LOST = "lost"
    """A reply was paid that could not be used; only its cost is recorded."""


def request_key(*parts: object) -> str:
    """Return the key of a call.

    It is the first 32 hex digits of the SHA-256 of the parts as JSON, with mappings sorted by key.
    """
    return hashlib.sha256(to_json(parts)).hexdigest()[:32]


def key_again(key: str) -> str:
    """Return the key under which a call is made again, because its recorded reply is unreadable.

    The journal is append-only, so the reply that cannot be read stays where it is.
    """
    return request_key("again", key)


def to_json(value: object) -> bytes:
    """Encode a record as JSON, equal records as the same bytes.

    Lone surrogates, which JSON in UTF-8 cannot hold, are replaced.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        # Some web pages hold lone surrogates. The policy is never shown them either.
        plain = msgspec.to_builtins(value)
        text = json.dumps(plain, ensure_ascii=False, sort_keys=True)
        return text.encode(errors="replace")


class Finished(NamedTuple):
    """A recorded call."""

    reply: bytes
    """The reply as JSON."""
    who: str
    """Who answered: a policy's name or a tool's fingerprint."""
    seconds: float
    """The time that the call took."""
    finished_at: str
    """The time of its end: UTC, ISO 8601."""


class Call(NamedTuple):
    """A recorded call, as costs are counted."""

    kind: str
    """A value of `CallKind`."""
    who: str
    seconds: float
    reply: bytes


class Row(NamedTuple):
    """A recorded call as the table holds it."""

    key: str
    kind: str
    who: str
    reply: str
    seconds: float
    finished_at: str


class Runs(NamedTuple):
    """The sums over the runs of a journal; a run that was killed with SIGKILL is not among them."""

    number: int = 0
    seconds: float = 0.0
    """Of the runs that made a call."""
    made: int = 0
    replayed: int = 0
    """Calls that the journal answered."""
    rollouts: int = 0
    """Rollouts that needed a call."""


class Readable(NamedTuple, Generic[_Reply]):
    """What a journal holds of a call, in a form that can be read."""

    key: str
    """Where the reply is, or belongs."""
    finished: Finished | None = None
    reply: _Reply | None = None


def find_readable(
    journal: "Journal | JournalReader", key: str, decoder: msgspec.json.Decoder[_Reply]
) -> Readable[_Reply]:
    """Find the reply to a call; one that cannot be read is named, and taken for none."""
    while found := journal.find(key):
        try:
            return Readable(key, found, decoder.decode(found.reply))
        except (ValueError, RecursionError) as error:
            warn_of_unreadable(journal.path, key, str(error))
            key = key_again(key)
    return Readable(key)


@cache
def warn_of_unreadable(path: Path, key: str, reason: str) -> None:
    """Say once which recorded reply cannot be read."""
    logger.warning("%s, key %s: the recorded reply cannot be read (%s)", path, key, reason)


def add_runs(some: Runs, others: Runs) -> Runs:
    """Add up the runs of two journals."""
    return Runs(
        some.number + others.number,
        some.seconds + others.seconds,
        some.made + others.made,
        some.replayed + others.replayed,
        some.rollouts + others.rollouts,
    )


def is_open(path: Path) -> bool:
    """Tell whether a process has a journal open."""
    try:
        with FileLock(f"{path}.lock", timeout=0):
            return False
    except Timeout:
        return True


class JournalReader:
    """A journal that is only read, also while a run has it open; a context manager."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Open the journal.

        Raises:
            InputError: The file is missing, is not a journal, or is damaged.
        """
        # Where nothing is left to be merged, nobody writes. SQLite then leaves no files behind.
        is_merged = not Path(f"{self.path}-wal").exists()
        manner = "immutable=1" if is_merged else "mode=ro"
        with ExitStack() as stack, translate_errors(self.path):
            address = f"file:{quote(str(self.path))}?{manner}"
            self._connection = sqlite3.connect(address, uri=True)
            stack.callback(self._connection.close)
            self._connection.text_factory = read_text
            check_journal(self._connection, self.path)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def calls(self) -> Iterator[Call]:
        """Yield all calls that were paid."""
        with translate_errors(self.path):
            for row in self._connection.execute(_ALL_CALLS):
                yield Call(*row)

    def find(self, key: str) -> Finished | None:
        """Return the whole record under `key`."""
        with translate_errors(self.path):
            row = self._connection.execute(_FIND, (key,)).fetchone()
        return Finished(*row) if row else None

    def replies(self, kind: CallKind) -> Iterator[tuple[str, str, bytes]]:
        """Yield the key, who answered and the reply as JSON of all calls of a kind."""
        query = "SELECT key, who, CAST(reply AS BLOB) FROM calls WHERE kind = ?"
        with translate_errors(self.path):
            yield from self._connection.execute(query, (kind,))

    def who(self) -> list[str]:
        """Return who answered: each policy's name and each tool's fingerprint once, sorted."""
        query = "SELECT DISTINCT who FROM calls ORDER BY who"
        with translate_errors(self.path):
            return [who for (who,) in self._connection.execute(query)]

    def get(self, key: str) -> bytes | None:
        """Return the reply recorded under `key`, as JSON; None when there is none."""
        found = self.find(key)
        return found.reply if found else None

    def runs(self) -> Runs:
        """Add up the runs; none in a journal from before they were recorded."""
        with translate_errors(self.path):
            tables = "SELECT 1 FROM sqlite_master WHERE name = 'runs'"
            if not self._connection.execute(tables).fetchone():
                return Runs()
            query = (
                "SELECT COUNT(*), TOTAL(CASE WHEN made > 0 THEN seconds END), "
                "COALESCE(SUM(made), 0), COALESCE(SUM(replayed), 0), COALESCE(SUM(rollouts), 0) "
                "FROM runs"
            )
            return Runs(*self._connection.execute(query).fetchone())


class Journal:
    """An append-only record of finished calls; a context manager.

    One process at a time may have it open and use it from any of its threads. Entering the block
    creates the file and its folders, and waits up to `wait_seconds` while another process has it
    open. When that process dies, however it dies, the kernel frees its lock.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        wait_seconds: float = 60.0,
        earlier: Sequence[Path] = (),
        is_alone: bool = False,
        is_synced: bool = False,
    ) -> None:
        """Name the file.

        Args:
            path: The file.
            wait_seconds: How long another process may have it open.
            earlier: Journals that are looked into where this one has no reply.
            is_alone: Nobody else can read the file while it is open; for shards.
            is_synced: Each call is on the disk when it is recorded, which takes milliseconds; for
                shards on machines whose memory may be lost.
        """
        self.path = Path(path)
        self.num_replayed = 0
        """Calls that the journal answered since it was opened."""
        self.num_recorded = 0
        """Calls added since it was opened."""
        self.in_flight: dict[str, CallUnderWay] = {}
        """Calls under way in the event loop, by key: all wrappers of one journal share them."""
        self._wait_seconds = wait_seconds
        self._earlier_paths = earlier
        self.earlier: list[JournalReader] = []
        """The earlier journals, while it is open."""
        self._is_alone = is_alone
        self._is_synced = is_synced
        # One thread may open it and another close it.
        self._lock = FileLock(f"{self.path}.lock", thread_local=False)
        self._guard = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Open the journal.

        Raises:
            InputError: The file is not a journal, is damaged or has an unknown version.
            OutputError: It cannot be written, or another process still has it open after
                `wait_seconds`.
        """
        with ExitStack() as stack:
            acquire(self._lock, self.path, self._wait_seconds)
            stack.callback(self._lock.release)
            with translate_errors(self.path):
                connection = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
                stack.callback(connection.close)
                connection.text_factory = read_text
                prepare(connection, self.path, is_alone=self._is_alone, is_synced=self._is_synced)
            self.earlier = [
                stack.enter_context(JournalReader(path)) for path in self._earlier_paths
            ]
            self._connection = connection
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection = None
        self._opened.close()

    def get(self, key: str) -> bytes | None:
        """Return the reply recorded under `key`, as JSON; None when there is none."""
        found = self.find(key)
        return found.reply if found else None

    def find(self, key: str) -> Finished | None:
        """Return the whole record under `key`; None when there is none."""
        row = self._execute(_FIND, (key,)).fetchone()
        if row:
            return Finished(*row)
        for journal in self.earlier:
            found = journal.find(key)
            if found is not None:
                return found
        return None

    def calls(self) -> Iterator[Call]:
        """Yield all calls that were paid, those of earlier journals too."""
        with translate_errors(self.path):
            for row in self._execute(_ALL_CALLS, ()):
                yield Call(*row)
        for journal in self.earlier:
            yield from journal.calls()

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table."""
        with translate_errors(self.path):
            for row in self._execute("SELECT * FROM calls", ()):
                yield Row(*row)

    def put(self, key: str, reply: bytes, *, kind: CallKind, who: str, seconds: float) -> None:
        """Record a finished call; it is committed when this returns.

        If the key is recorded already, the first record stays.

        Raises:
            OutputError: The disk is full or cannot be written; earlier records are untouched.
        """
        # This runs on the event loop's own thread: handing a commit to another thread would take
        # about as long as the commit.
        finished_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = Row(key, kind, who, reply.decode(), seconds, finished_at)
        inserted = self._execute(_PUT, row)
        self.num_recorded += inserted.rowcount

    def put_lost(self, cost: bytes, *, who: str) -> None:
        """Record what a reply cost that could not be used, so that caps hold over all runs.

        Raises:
            OutputError: The disk is full or cannot be written.
        """
        finished_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        key = request_key(CallKind.LOST, who, finished_at, os.urandom(16).hex())
        row = Row(key, CallKind.LOST, who, cost.decode(), 0.0, finished_at)
        self._execute(_PUT, row)

    def put_rows(self, rows: Iterable[Row]) -> None:
        """Record calls that another process made; those that are here already stay."""
        assert self._connection, "the journal is not open: use it in a `with` statement"
        with self._guard, translate_errors(self.path):
            self._connection.execute("BEGIN")
            self._connection.executemany(_PUT, rows)
            self._connection.execute("COMMIT")

    def absorb(self, other: Path) -> None:
        """Take over the calls and the runs of another journal; those that are here already stay.

        Raises:
            InputError: The other file is not a journal, or is damaged.
            OutputError: Another process has it open.
        """
        with Journal(other, wait_seconds=0, is_alone=True) as journal:
            self.put_rows(journal.rows())
            runs = journal._execute("SELECT * FROM runs", ()).fetchall()
        for run in runs:
            is_new = "WHERE NOT EXISTS (SELECT 1 FROM runs WHERE finished_at = ? AND seconds = ?)"
            self._execute(f"INSERT INTO runs SELECT ?, ?, ?, ?, ? {is_new}", (*run, *run[:2]))

    def put_run(self, seconds: float, num_rollouts: int) -> None:
        """Record how long a run took, and what it made and replayed; for costs alone.

        Args:
            seconds: From its start to its end.
            num_rollouts: The rollouts that needed a call.
        """
        finished_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = (finished_at, seconds, self.num_recorded, self.num_replayed, num_rollouts)
        self._execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?)", row)

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        assert self._connection, "the journal is not open: use it in a `with` statement"
        with self._guard, translate_errors(self.path):
            return self._connection.execute(statement, values)
