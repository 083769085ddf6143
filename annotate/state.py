"""Keep everything of the server on this machine in one folder: database, secret, the owner's key.

Only this user can read it.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from coa.errors import ConfigError, InputError, writing_error
from coa.store.whole_files import PRIVATE, write_file

DATABASE = "argilla.db"
_SECRET = "secret"
_KEY = "owner.key"
_VERSION = "version"
_ADDRESS = "address"
_LOCK = "lock"
_LEAST_SECRET_CHARS = 32
"""With an empty or a short secret anybody could sign a session."""


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
                fix="copy it from a backup, or name another folder: annotate.serve.state",
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

    def check_version(self, pinned: str) -> None:
        """Refuse a folder that another version of Argilla wrote.

        Raises:
            ConfigError: the versions differ.
        """
        path = self.folder / _VERSION
        found = path.read_text(encoding="utf-8") if path.exists() else ""
        if self.has_accounts() and found != pinned:
            raise ConfigError(
                "the state folder belongs to another version of Argilla",
                where=self.folder,
                expected=pinned,
                got=found or "no version file",
                fix="pull the reviews with the version that wrote it, "
                "then name another folder: annotate.serve.state",
            )
        self._write(_VERSION, pinned)
