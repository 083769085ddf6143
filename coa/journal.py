"""Finished calls of policies and tools into rows that outlive the process: a killed run resumes, paying nothing twice.

A call is known by the hash of everything that its reply depends on; once recorded, every later run is answered from the
journal. It lies outside DVC's outputs, which `dvc repro` deletes.

SQLite in WAL mode rather than JSON lines: a SIGKILL in the middle of a write leaves no torn line to repair, a look-up
needs no index in memory, which would grow with the run, and the file itself sees to it that rows stay. With
`synchronous=NORMAL` every committed row outlives the process; a power cut may cost the last few, never the file. The
disk must be a local one: SQLite's WAL does not work over a network.
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

import msgspec
from filelock import FileLock, Timeout

from coa.errors import InputError, OutputError, writing_error

logger = logging.getLogger(__name__)

JOURNAL_VERSION = 1
"""Raised with every change of the table."""

_APPLICATION_ID = (
    0x436F414A  # "CoAJ" in the file's header tells a journal from any other SQLite file
)
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE calls (
    key TEXT NOT NULL UNIQUE CHECK (length(key) = 32), kind TEXT NOT NULL, who TEXT NOT NULL,
    reply TEXT NOT NULL, seconds REAL NOT NULL, finished_at TEXT NOT NULL
);
CREATE TRIGGER never_updated BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER never_deleted BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
-- INSERT OR REPLACE would delete a row without firing the trigger above.
CREATE TRIGGER first_stays BEFORE INSERT ON calls WHEN EXISTS (SELECT 1 FROM calls WHERE key = NEW.key)
    BEGIN SELECT RAISE(IGNORE); END;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {JOURNAL_VERSION};
COMMIT;
"""
_ENCODER = msgspec.json.Encoder(order="deterministic")
OTHER_VERSION = "use the version of this project that wrote it, or move the journal away and pay for its calls anew"
_OTHER_RUN = "wait for that run, or stop it (a killed run may have left it behind), then run the same command again"


class CallKind(StrEnum):
    """What was called."""

    POLICY = "policy"
    """A policy continued a context."""
    TOOL = "tool"
    """A tool answered an action."""


def request_key(*parts: object) -> str:
    """The key of a call: the first 32 hex digits of SHA-256 over the parts as JSON, mappings sorted by key."""
    return hashlib.sha256(to_json(parts)).hexdigest()[:32]


def to_json(value: object) -> bytes:
    """Records as JSON, the same bytes for equal records; lone surrogates, which JSON cannot hold, are replaced."""
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        # Web pages hold lone surrogates, which no UTF-8 encoder takes; the policy is never shown them either.
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, sort_keys=True).encode(
            errors="replace"
        )


class Finished(NamedTuple):
    """A recorded call."""

    reply: bytes
    """As JSON."""
    who: str
    """Who answered: the policy's name, the tool's fingerprint."""
    seconds: float
    """How long it took."""
    finished_at: str
    """UTC, ISO 8601."""


class Journal:
    """An append-only record of finished calls; a context manager, for one process at a time and any of its threads.

    Entering creates the file and its folders, and waits up to `wait_seconds` while another process has it open; the
    kernel frees the lock when that process dies, however it dies.
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
        self._lock = FileLock(
            f"{self.path}.lock", thread_local=False
        )  # one thread may open it, another close it
        self._guard = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Open the journal.

        Raises:
            InputError: the file is not a journal, is damaged, or has a version that is not known here.
            OutputError: it cannot be written, or another process still has it open after `wait_seconds`.
        """
        with ExitStack() as stack:
            _acquire(self._lock, self.path, self._wait_seconds)
            stack.callback(self._lock.release)
            with _translated(self.path):
                connection = sqlite3.connect(
                    self.path, isolation_level=None, check_same_thread=False
                )
                stack.callback(connection.close)
                _prepare(connection, self.path)
            self._connection, self._opened = connection, stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection = None
        self._opened.close()

    def get(self, key: str) -> bytes | None:
        """The reply recorded under `key`, as JSON; None when there is none."""
        row = self._execute(
            "SELECT CAST(reply AS BLOB) FROM calls WHERE key = ?", (key,)
        ).fetchone()
        self.num_replayed += row is not None
        return row[0] if row else None

    def find(self, key: str) -> Finished | None:
        """The whole record under `key`, for those who ask where a text comes from; counts as no look-up."""
        asked = "SELECT CAST(reply AS BLOB), who, seconds, finished_at FROM calls WHERE key = ?"
        row = self._execute(asked, (key,)).fetchone()
        return Finished(*row) if row else None

    def put(self, key: str, reply: bytes, *, kind: CallKind, who: str, seconds: float) -> None:
        """Record a finished call, committed when this returns; under a key that is recorded already the first stays.

        Raises:
            OutputError: the disk is full or cannot be written; what was recorded before is untouched.
        """
        # On the event loop's own thread: a commit takes about as long as handing it to another one.
        row = (
            key,
            kind,
            who,
            reply.decode(),
            seconds,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self.num_recorded += self._execute(
            "INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", row
        ).rowcount

    def _execute(self, statement: str, values: tuple[object, ...]) -> sqlite3.Cursor:
        assert self._connection, "the journal is not open: use it in a `with` statement"
        with self._guard, _translated(self.path):
            return self._connection.execute(statement, values)


def _acquire(lock: FileLock, path: Path, wait_seconds: float) -> None:
    """Take the lock, naming who is waited for: the holder's pid stands in a file of its own beside the lock's."""
    holder = Path(f"{path}.pid")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.warning(
                "%s is open in %s; waiting up to %g s", path, _named(holder), wait_seconds
            )
            lock.acquire(timeout=wait_seconds, poll_interval=0.1)
        holder.write_text(str(os.getpid()))
    except Timeout as error:
        what, limit = (
            f"the journal is open in {_named(holder)}",
            f"to be free within {wait_seconds:g} s",
        )
        raise OutputError(what, where=path, expected=limit, fix=_OTHER_RUN) from error
    except OSError as error:
        lock.release()
        raise writing_error(path, error) from error


def _named(holder: Path) -> str:
    pid = holder.read_text() if holder.exists() else ""
    return "this very process" if pid == str(os.getpid()) else f"process {pid or '(not yet known)'}"


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Set up a new journal; all but an empty file or a journal of this version is refused before it is touched."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    is_new = application == 0 and not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    if not is_new and application != _APPLICATION_ID:
        raise InputError(
            "the file is not a journal", where=path, got="another database", fix="name another path"
        )
    if not is_new and version != JOURNAL_VERSION:
        what = "the journal has a version that is not known here"
        raise InputError(what, where=path, expected=JOURNAL_VERSION, got=version, fix=OTHER_VERSION)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    if is_new:
        connection.executescript(_SCHEMA)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
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
        code = errno.ENOSPC if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) else errno.EACCES
        raise writing_error(path, OSError(code, f"{error} ({name})")) from error
