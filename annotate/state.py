"""Keep everything of the server on this machine in one folder: database, secret, the owner's key.

Only this user can read it. `backup` copies it while the server may be running; `reset` forgets all
but the backups.
"""

import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from coa.errors import ConfigError, InputError, writing_error
from coa.store.whole_files import PRIVATE, write_file

DATABASE = "argilla.db"
_SECRET = "secret"
_KEY = "owner.key"
_VERSION = "version"
_ADDRESS = "address"
_BACKUPS = "backups"
_LOCK = "lock"
_LEAST_SECRET_CHARS = 32
"""With an empty or a short secret anybody could sign a session."""

_OWN = (
    DATABASE,
    f"{DATABASE}-wal",
    f"{DATABASE}-shm",
    f"{DATABASE}-journal",
    _SECRET,
    _KEY,
    _VERSION,
    _ADDRESS,
    "server.log",
    "server_id.dat",
)
"""The files that the server and this module write; a folder that a person chose may hold others."""


@dataclass(frozen=True, slots=True)
class State:
    """A state folder."""

    folder: Path
    """The path of the folder."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder, as a running server does.

        Raises:
            InputError: another server uses it.
        """
        self._make()
        lock = FileLock(self.folder / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            fix = "stop that server, or name another folder: annotate.serve.state"
            raise InputError(f"a server is using {self.folder}", fix=fix) from None
        except OSError as error:
            raise writing_error(self.folder / _LOCK, error) from error
        try:
            yield
        finally:
            lock.release()

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise writing_error(self.folder, error) from error

    def secret(self) -> str:
        """Return the key that signs sessions; it is made once, so a restart signs nobody out."""
        return self._read_or_make(_SECRET)

    def owner_key(self) -> str:
        """Return the key with which the owner pushes and pulls; it is made once."""
        return self._read_or_make(_KEY)

    def _read_or_make(self, name: str) -> str:
        """Read a secret, or make a new one where it is missing or was cut off."""
        path = self.folder / name
        try:
            found = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        except OSError as error:
            fix = "make it yours to read, or remove it: another is made"
            raise InputError(f"cannot read {path}", got=error.strerror, fix=fix) from error
        if len(found) >= _LEAST_SECRET_CHARS:
            return found
        if name == _KEY and self.has_accounts():
            raise InputError(
                "the owner's key is lost: the owner's account was made with another",
                where=path,
                expected=f"at least {_LEAST_SECRET_CHARS} characters",
                got=f"{len(found)} characters",
                fix=f"copy it from a folder under {self.folder / _BACKUPS}, "
                "or python -m annotate.serve action=reset",
            )
        made = secrets.token_hex(_LEAST_SECRET_CHARS)
        self._write(name, made)
        return made

    def _write(self, name: str, text: str) -> None:
        self._make()
        write_file(self.folder / name, text, mode=PRIVATE)

    def has_accounts(self) -> bool:
        """Return whether a server has run here."""
        return (self.folder / DATABASE).exists()

    def note_address(self, url: str) -> None:
        """Remember where the server listens, for push and pull."""
        self._write(_ADDRESS, url)

    def address(self) -> str:
        """Return the address at which the server listened last; empty where none has."""
        path = self.folder / _ADDRESS
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def check_version(self, pinned: str, *, accepts_upgrade: bool) -> None:
        """Refuse a folder that another version of Argilla wrote.

        Args:
            pinned: The version that is to be run.
            accepts_upgrade: Back up a folder of another version and go on.

        Raises:
            ConfigError: the versions differ.
        """
        path = self.folder / _VERSION
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if self.has_accounts() and found != pinned:
            if not accepts_upgrade:
                raise ConfigError(
                    "the state folder belongs to another version of Argilla",
                    where=self.folder,
                    expected=pinned,
                    got=found or "no version file",
                    fix="pull the reviews with the version that wrote it; "
                    "then either run with accepts_upgrade=true, "
                    "which makes a backup and changes the database for good, "
                    "or name another annotate.serve.state",
                )
            self.backup()
        self._write(_VERSION, pinned)

    def backup(self) -> Path:
        """Copy the state into a new folder under `backups`, and return that folder.

        The copy of the database is that of one moment.

        Raises:
            InputError: there is nothing to copy.
            OutputError: the copy cannot be written.
        """
        if not self.has_accounts():
            raise InputError(
                f"{self.folder} holds no database",
                fix="start the server once: python -m annotate.serve",
            )
        copy = self.folder / _BACKUPS / datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
        try:
            copy.mkdir(parents=True, mode=0o700)
            for name in (_SECRET, _KEY, _VERSION, _ADDRESS):
                if (self.folder / name).exists():
                    shutil.copy2(self.folder / name, copy / name)
            self._copy_database(copy / DATABASE)
        except (OSError, sqlite3.Error) as error:
            cause = error if isinstance(error, OSError) else OSError(str(error))
            raise writing_error(copy, cause) from error
        return copy

    def _copy_database(self, to: Path) -> None:
        source = sqlite3.connect(self.folder / DATABASE)
        target = sqlite3.connect(to)
        try:
            source.backup(target)
        finally:
            source.close()
            target.close()

    def reset(self) -> Path:
        """Make one more backup, forget everything else, and return the backup's folder.

        Files that are not the server's stay.
        """
        with self.lock():
            copy = self.backup()
            for name in _OWN:
                (self.folder / name).unlink(missing_ok=True)
        return copy
