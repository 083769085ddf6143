"""Record finished calls of policies and tools, so that a killed run resumes and pays nothing twice.

The key of a call is the hash of everything that its reply depends on. Once a call is recorded,
every later run takes its reply from the journal. The journal lies outside DVC's outputs, which
`dvc repro` deletes.

It is an SQLite file in WAL mode rather than JSON lines, for three reasons: a SIGKILL in the middle
of a write leaves no torn line to repair, a look-up needs no index in memory that grows with the
run, and triggers keep rows from being changed or deleted. With `synchronous=NORMAL` every committed
row survives the process; a power cut may cost the last few rows, never the file. The disk must be a
local one, because SQLite's WAL does not work over a network.
"""

import asyncio
import errno
import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import msgspec
from filelock import FileLock, Timeout

from coa.errors import InputError, OutputError, writing_error

logger = logging.getLogger(__name__)

JOURNAL_VERSION = 1
"""The version of the table; raised with every change of it."""

_APPLICATION_ID = 0x436F414A
"""The letters CoAJ in the file's header: it tells a journal from any other SQLite file."""
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE calls (
    key TEXT NOT NULL UNIQUE CHECK (length(key) = 32), kind TEXT NOT NULL, who TEXT NOT NULL,
    reply TEXT NOT NULL, seconds REAL NOT NULL, finished_at TEXT NOT NULL
);
CREATE TRIGGER never_updated BEFORE UPDATE ON calls
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER never_deleted BEFORE DELETE ON calls
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
-- INSERT OR REPLACE would delete a row without firing the trigger above.
CREATE TRIGGER first_stays BEFORE INSERT ON calls
    WHEN EXISTS (SELECT 1 FROM calls WHERE key = NEW.key)
    BEGIN SELECT RAISE(IGNORE); END;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {JOURNAL_VERSION};
COMMIT;
"""
_RUNS = """
CREATE TABLE IF NOT EXISTS runs (
    finished_at TEXT NOT NULL, seconds REAL NOT NULL, made INTEGER NOT NULL,
    replayed INTEGER NOT NULL, rollouts INTEGER NOT NULL
);
CREATE TRIGGER IF NOT EXISTS runs_never_updated BEFORE UPDATE ON runs
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS runs_never_deleted BEFORE DELETE ON runs
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""
"""The times of runs. The version stays: older journals get the table when they are opened."""
_ENCODER = msgspec.json.Encoder(order="deterministic")
OTHER_VERSION = (
    "use the version of this project that wrote it, "
    "or move the journal away and pay for its calls again"
)
_OTHER_RUN = (
    "wait for that run, or stop it (a killed run may have left it behind), "
    "then run the same command again"
)


class CallKind(StrEnum):
    """The kind of a call."""

    POLICY = "policy"
    """A policy continued a context."""
    TOOL = "tool"
    """A tool answered an action."""


def request_key(*parts: object) -> str:
    """Return the key of a call.

    It is the first 32 hex digits of the SHA-256 of the parts as JSON, with mappings sorted by key.
    """
    return hashlib.sha256(to_json(parts)).hexdigest()[:32]


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
        with ExitStack() as stack, _translate_errors(self.path):
            address = f"file:{quote(str(self.path))}?{manner}"
            self._connection = sqlite3.connect(address, uri=True)
            stack.callback(self._connection.close)
            _check(self._connection, self.path)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def calls(self) -> Iterator[Call]:
        """Yield all calls that were paid."""
        query = "SELECT kind, who, seconds, CAST(reply AS BLOB) FROM calls"
        with _translate_errors(self.path):
            for row in self._connection.execute(query):
                yield Call(*row)

    def get(self, key: str) -> bytes | None:
        """Return the reply recorded under `key`, as JSON; None when there is none."""
        query = "SELECT CAST(reply AS BLOB) FROM calls WHERE key = ?"
        with _translate_errors(self.path):
            row = self._connection.execute(query, (key,)).fetchone()
        return row[0] if row else None

    def runs(self) -> Runs:
        """Add up the runs; none in a journal from before they were recorded."""
        with _translate_errors(self.path):
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

    def __init__(self, path: str | os.PathLike[str], *, wait_seconds: float = 60.0) -> None:
        self.path = Path(path)
        self.num_replayed = 0
        """Look-ups that the journal answered since it was opened."""
        self.num_recorded = 0
        """Calls added since it was opened."""
        self.in_flight: dict[str, asyncio.Task[Any]] = {}
        """Calls under way in the event loop, by key: all wrappers of one journal share them."""
        self._wait_seconds = wait_seconds
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
            _acquire(self._lock, self.path, self._wait_seconds)
            stack.callback(self._lock.release)
            with _translate_errors(self.path):
                connection = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
                stack.callback(connection.close)
                _prepare(connection, self.path)
            self._connection = connection
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection = None
        self._opened.close()

    def get(self, key: str) -> bytes | None:
        """Return the reply recorded under `key`, as JSON; None when there is none."""
        query = "SELECT CAST(reply AS BLOB) FROM calls WHERE key = ?"
        row = self._execute(query, (key,)).fetchone()
        if row is None:
            return None
        self.num_replayed += 1
        reply: bytes = row[0]
        return reply

    def find(self, key: str) -> Finished | None:
        """Return the whole record under `key`, to trace where a text comes from.

        It is not counted as replayed.
        """
        query = "SELECT CAST(reply AS BLOB), who, seconds, finished_at FROM calls WHERE key = ?"
        row = self._execute(query, (key,)).fetchone()
        return Finished(*row) if row else None

    def put(self, key: str, reply: bytes, *, kind: CallKind, who: str, seconds: float) -> None:
        """Record a finished call; it is committed when this returns.

        If the key is recorded already, the first record stays.

        Raises:
            OutputError: The disk is full or cannot be written; earlier records are untouched.
        """
        # This runs on the event loop's own thread: handing a commit to another thread would take
        # about as long as the commit.
        finished_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = (key, kind, who, reply.decode(), seconds, finished_at)
        inserted = self._execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", row)
        self.num_recorded += inserted.rowcount

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
        with self._guard, _translate_errors(self.path):
            return self._connection.execute(statement, values)


def _acquire(lock: FileLock, path: Path, wait_seconds: float) -> None:
    """Take the lock, and name the process that holds it while waiting.

    The pid of the holder is in a file beside the lock file.
    """
    pid_file = Path(f"{path}.pid")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = _name_holder(pid_file)
            logger.warning("%s is open in %s; waiting up to %g s", path, holder, wait_seconds)
            lock.acquire(timeout=wait_seconds, poll_interval=0.1)
        pid_file.write_text(str(os.getpid()))
    except Timeout as error:
        raise OutputError(
            f"the journal is open in {_name_holder(pid_file)}",
            where=path,
            expected=f"to be free within {wait_seconds:g} s",
            fix=_OTHER_RUN,
        ) from error
    except OSError as error:
        lock.release()
        raise writing_error(path, error) from error


def _name_holder(pid_file: Path) -> str:
    pid = pid_file.read_text() if pid_file.exists() else ""
    if pid == str(os.getpid()):
        return "this very process"
    return f"process {pid or '(not yet known)'}"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set up a new journal, or check that an existing one has this version.

    Any other file is refused before it is changed.
    """
    is_new = not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    is_new = is_new and application == 0
    if not is_new:
        _check(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if is_new:
        connection.executescript(_SCHEMA)
    connection.executescript(_RUNS)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Check that a file is a journal of this version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise InputError(
            "the file is not a journal", where=path, got="another database", fix="name another path"
        )
    if version != JOURNAL_VERSION:
        raise InputError(
            "the journal has a version that is not known here",
            where=path,
            expected=JOURNAL_VERSION,
            got=version,
            fix=OTHER_VERSION,
        )


@contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as errors of this project."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_NOTADB":
            raise InputError(
                "the file is not a journal", where=path, got=error, fix="name another path"
            ) from error
        if name.startswith("SQLITE_CORRUPT"):
            fix = (
                f"move it away and save what can be saved: sqlite3 MOVED .recover | sqlite3 {path}"
            )
            raise InputError("the journal is damaged", where=path, got=error, fix=fix) from error
        is_full = name.startswith(("SQLITE_FULL", "SQLITE_IOERR"))
        code = errno.ENOSPC if is_full else errno.EACCES
        raise writing_error(path, OSError(code, f"{error} ({name})")) from error
