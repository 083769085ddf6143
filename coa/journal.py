"""Finished calls of policies and tools into rows that outlive the process: a killed run resumes, paying nothing twice.

A call is known by the hash of everything that its reply depends on; once recorded, every later run is answered from the
journal. It lies outside DVC's outputs, which `dvc repro` deletes.

SQLite in WAL mode rather than JSON lines: a SIGKILL in the middle of a write leaves no torn line to repair, a look-up
needs no index in memory, which would grow with the run, and the file itself sees to it that rows stay. With
`synchronous=NORMAL` every committed row outlives the process; a power cut may cost the last few, never the file. The
disk must be a local one: SQLite's WAL does not work over a network.
"""

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import msgspec
from filelock import FileLock, Timeout

from coa.errors import InputError, OutputError, writing_error
from coa.policy import BatchPolicy, Completion, Policy, Request
from coa.tools import Tool, ToolReply
from coa.trajectory import Outcome

logger = logging.getLogger(__name__)

JOURNAL_VERSION = 1
"""Raised with every change of the table."""

_APPLICATION_ID = 0x436F414A  # "CoAJ" in the file's header tells a journal from any other SQLite file
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
_OTHER_VERSION = "use the version of this project that wrote it, or move the journal away and pay for its calls anew"
_OTHER_RUN = "wait for that run, or stop it (a killed run may have left it behind), then run the same command again"

_Reply = TypeVar("_Reply", bound=Completion | ToolReply)
_Inner = TypeVar("_Inner", bound=Policy | BatchPolicy)


class Kind(StrEnum):
    """What was called."""

    POLICY = "policy"
    """A policy continued a context."""
    TOOL = "tool"
    """A tool answered an action."""


def request_key(*parts: object) -> str:
    """The key of a call: the first 32 hex digits of SHA-256 over the parts as JSON, mappings sorted by key."""
    return hashlib.sha256(_json(parts)).hexdigest()[:32]


def _json(value: object) -> bytes:
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        # Web pages hold lone surrogates, which no UTF-8 encoder takes; the policy is never shown them either.
        return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, sort_keys=True).encode(errors="replace")


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
        self._lock = FileLock(f"{self.path}.lock", thread_local=False)  # one thread may open it, another close it
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
                connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
                stack.callback(connection.close)
                _prepare(connection, self.path)
            self._connection, self._opened = connection, stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection = None
        self._opened.close()

    def get(self, key: str) -> bytes | None:
        """The reply recorded under `key`, as JSON; None when there is none."""
        row = self._execute("SELECT CAST(reply AS BLOB) FROM calls WHERE key = ?", (key,)).fetchone()
        self.num_replayed += row is not None
        return row[0] if row else None

    def put(self, key: str, reply: bytes, *, kind: Kind, who: str, seconds: float) -> None:
        """Record a finished call, committed when this returns; under a key that is recorded already the first stays.

        Raises:
            OutputError: the disk is full or cannot be written; what was recorded before is untouched.
        """
        # On the event loop's own thread: a commit takes about as long as handing it to another one.
        row = (key, kind, who, reply.decode(), seconds, datetime.now(UTC).isoformat(timespec="milliseconds"))
        self.num_recorded += self._execute("INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?)", row).rowcount

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
            logger.warning("%s is open in %s; waiting up to %g s", path, _named(holder), wait_seconds)
            lock.acquire(timeout=wait_seconds, poll_interval=0.1)
        holder.write_text(str(os.getpid()))
    except Timeout as error:
        what, limit = f"the journal is open in {_named(holder)}", f"to be free within {wait_seconds:g} s"
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
        raise InputError("the file is not a journal", where=path, got="another database", fix="name another path")
    if not is_new and version != JOURNAL_VERSION:
        what = "the journal has a version that is not known here"
        raise InputError(what, where=path, expected=JOURNAL_VERSION, got=version, fix=_OTHER_VERSION)
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
            raise InputError("the file is not a journal", where=path, got=error, fix="name another path") from error
        if name.startswith("SQLITE_CORRUPT"):
            fix = f"move it away, then save what can be saved: sqlite3 MOVED .recover | sqlite3 {path}"
            raise InputError("the journal is damaged", where=path, got=error, fix=fix) from error
        raise writing_error(path, OSError(0, f"{error} ({name})")) from error


class _Calls(Generic[_Reply]):
    """The calls of one policy or tool, as the journal knows them."""

    def __init__(self, journal: Journal, reply_type: type[_Reply], kind: Kind, who: str) -> None:
        self._journal, self._kind, self._who = journal, kind, who
        self._decoder: msgspec.json.Decoder[_Reply] = msgspec.json.Decoder(reply_type)

    def find(self, key: str) -> _Reply | None:
        recorded = self._journal.get(key)
        return None if recorded is None else self._read(key, recorded)

    def record(self, key: str, reply: _Reply, seconds: float) -> _Reply:
        """The reply as every later run will read it; a failure is not recorded, so that a re-run tries again."""
        if isinstance(reply, ToolReply) and reply.outcome is Outcome.ERROR:
            return reply
        recorded = _json(reply)
        self._journal.put(key, recorded, kind=self._kind, who=self._who, seconds=seconds)
        return self._read(key, recorded)

    async def once(self, key: str, call: Callable[[], Awaitable[_Reply]]) -> _Reply:
        """The recorded reply, or that of the same call under way, or of `call`, which is then recorded."""
        found = self.find(key)
        if found is not None:
            return found
        task: asyncio.Task[_Reply] | None = self._journal.in_flight.get(key)
        if task is None:
            task = self._journal.in_flight[key] = asyncio.create_task(self._make(key, call))
            task.add_done_callback(lambda done: self._forget(key, done))
        # A caller that is cancelled does not cancel the call: it is paid for, so its reply is kept.
        return await asyncio.shield(task)

    async def _make(self, key: str, call: Callable[[], Awaitable[_Reply]]) -> _Reply:
        started = time.perf_counter()
        reply = await call()
        return self.record(key, reply, time.perf_counter() - started)

    def _forget(self, key: str, task: asyncio.Task[_Reply]) -> None:
        del self._journal.in_flight[key]
        if not task.cancelled():
            task.exception()  # seen here, because every caller may have been cancelled meanwhile

    def _read(self, key: str, recorded: bytes) -> _Reply:
        try:
            return self._decoder.decode(recorded)
        except msgspec.DecodeError as error:
            where = f"{self._journal.path}, key {key}"
            raise InputError("a recorded reply cannot be read", where=where, got=error, fix=_OTHER_VERSION) from error


class _Journaled(Generic[_Inner]):
    """A policy's name and tokens, passed through."""

    def __init__(self, policy: _Inner, journal: Journal) -> None:
        self._policy: _Inner = policy
        self._calls = _Calls(journal, Completion, Kind.POLICY, policy.name)
        self.name, self.encode, self.count_tokens = policy.name, policy.encode, policy.count_tokens

    def _key(self, request: Request) -> str:
        return request_key(Kind.POLICY, self.name, request)


class JournaledPolicy(_Journaled[Policy]):
    """A policy that is asked only what the journal cannot answer; the same request twice in flight is made once."""

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context; errors are the policy's own and are not recorded."""
        return await self._calls.once(self._key(request), lambda: self._policy.complete(request))


class JournaledBatchPolicy(_Journaled[BatchPolicy]):
    """A batch policy that is asked only what the journal cannot answer, as one batch, each request once."""

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""
        keys = [self._key(request) for request in requests]
        replies = {key: found for key in dict.fromkeys(keys) if (found := self._calls.find(key))}
        missing = {key: request for key, request in zip(keys, requests, strict=True) if key not in replies}
        started = time.perf_counter()
        completions = self._policy.complete_batch(list(missing.values())) if missing else []
        share = (time.perf_counter() - started) / max(len(missing), 1)
        for key, completion in list(zip(missing, completions, strict=True)):
            replies[key] = self._calls.record(key, completion, share)
        return [replies[key] for key in keys]


class JournaledTool:
    """A tool that is called only where the journal has no answer; the same call twice in flight is made once."""

    def __init__(self, tool: Tool, journal: Journal) -> None:
        self._tool, self.name, self.fingerprint = tool, tool.name, tool.fingerprint
        self._calls = _Calls(journal, ToolReply, Kind.TOOL, tool.fingerprint)

    async def call(self, argument: str) -> ToolReply:
        """Answer one action; a reply with outcome ERROR is not recorded, and errors are the tool's own."""
        key = request_key(Kind.TOOL, self.name, self.fingerprint, argument)
        return await self._calls.once(key, lambda: self._tool.call(argument))
