"""Open the SQLite file of a journal: its lock, its tables, and errors that a person can read."""

import errno
import logging
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from coa.errors import InputError, OutputError, writing_error

logger = logging.getLogger(__name__)

JOURNALS = Path(".journal")
"""The folder of all journals. It lies beside data/ and not in it, because DVC deletes a stage's
outputs before it runs the stage again."""
JOURNAL_VERSION = 1
"""The version of the table; raised with every change of it."""

_MAX_HOLDER = 300
"""So many bytes name a process and its machine."""
_APPLICATION_ID = 0x436F414A
"""The letters CoAJ in the file's header: they mark a journal among SQLite files."""
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
OTHER_VERSION = (
    "use the version of this project that wrote it, "
    "or move the journal away and pay for its calls again"
)
_OTHER_RUN = (
    "wait for that run, or stop it (a killed run may have left it behind), "
    "then run the same command again"
)


def acquire(lock: FileLock, path: Path, wait_seconds: float) -> None:
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
        pid_file.write_text(f"{os.getpid()} {socket.gethostname()}")
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
    """Name the process, and its machine where that is another one."""
    written = pid_file.read_bytes()[:_MAX_HOLDER] if pid_file.is_file() else b""
    pid, _, host = written.decode("utf-8", "replace").partition(" ")
    is_elsewhere = host not in ("", socket.gethostname())
    if is_elsewhere:
        return f"process {pid} on {host}"
    if pid == str(os.getpid()):
        return "this very process"
    return f"process {pid or '(not yet known)'}"


def read_text(text: bytes) -> str:
    """Read a text of the table; damaged characters are replaced: they cost one call, not all."""
    return text.decode("utf-8", "replace")


def prepare(
    connection: sqlite3.Connection, path: Path, *, is_alone: bool = False, is_synced: bool = False
) -> None:
    """Set up a new journal, or check that an existing one has this version.

    Any other file is refused before it is changed. With `is_alone` nobody else can read it while
    it is open, and SQLite needs no memory that processes share, which a network disk has not. With
    `is_synced` each commit is on the disk before it returns.
    """
    if is_alone:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    is_new = not connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    is_new = is_new and application == 0
    if not is_new:
        check_journal(connection, path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
    if is_new:
        connection.executescript(_SCHEMA)
    connection.executescript(_RUNS)


def check_journal(connection: sqlite3.Connection, path: Path) -> None:
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
def translate_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as errors of this project."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_NOTADB":
            raise InputError(
                "the file is not a journal", where=path, got=error, fix="name another path"
            ) from error
        # SQLITE_ERROR: a table is missing, or has other columns.
        if name.startswith("SQLITE_CORRUPT") or name == "SQLITE_ERROR":
            fix = (
                f"move it away and save what can be saved: sqlite3 MOVED .recover | sqlite3 {path}"
            )
            raise InputError("the journal is damaged", where=path, got=error, fix=fix) from error
        is_full = name.startswith(("SQLITE_FULL", "SQLITE_IOERR"))
        code = errno.ENOSPC if is_full else errno.EACCES
        raise writing_error(path, OSError(code, f"{error} ({name})")) from error
