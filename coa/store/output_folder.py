"""Replace an output folder that the same command made, wholly or not at all.

Such a folder is recognised by the names of its files. A marker file would change the hash under
which DVC keeps the folder, and folders of earlier versions of this project have none.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coa.errors import CoaError, OutputError, writing_error
from coa.store.files import DATA

_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """The files that a command writes into its output folder."""

    command: str
    """The command as a person types it."""
    always: str
    """The path, inside the folder, of a file that every such folder has."""
    names: str
    """A regular expression for the path of every file that the command may write there."""
    mark: str = ""
    """A text in the file `always` that marks the command's own among others of its name."""


def check_own_folder(out: Path, own: OwnFolder) -> None:
    """Refuse a folder that must not be replaced; a missing or empty one may be.

    Raises:
        OutputError: It is a link or a file, or it holds other files or this project.
    """
    try:
        fault = _fault(out, own)
    except OSError as error:
        raise writing_error(out, error) from error
    if fault:
        raise OutputError(
            f"{out} is in the way: nothing was deleted",
            where=out.absolute(),
            expected=f"a new folder, an empty one, or one that `{own.command}` made",
            got=fault,
            fix="name another folder with out=, or move what is there away yourself",
        )


def _fault(out: Path, own: OwnFolder) -> str:
    """Say why a folder must not be replaced; empty where it may be."""
    here = Path.cwd()
    target = out.resolve()
    if out.is_symlink():
        return f"a link to {target}"
    if target == here or target in here.parents:
        return "the folder that this command runs in, or one around it"
    if target == DATA.resolve():
        return f"{DATA}/, which holds the files of every stage"
    if not out.exists():
        return ""
    if not out.is_dir():
        return "a file"
    found = sorted(_names(out))
    foreign = [name for name in found if not re.fullmatch(own.names, name)]
    if foreign:
        num_more = len(foreign) - _MAX_SHOWN
        more = f" and {num_more:,} more" if num_more > 0 else ""
        return f"files that it does not write: {', '.join(foreign[:_MAX_SHOWN])}{more}"
    if found and own.always not in found:
        return f"a folder without {own.always}, such as {found[0]}"
    if found and own.mark and own.mark.encode() not in (out / own.always).read_bytes():
        return f"a {own.always} that it did not write"
    return ""


def _names(folder: Path) -> Iterator[str]:
    """List the paths in a folder: files, links and empty folders."""
    for place, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if Path(place, name).is_symlink()]
        for name in (*files, *links):
            yield Path(place, name).relative_to(folder).as_posix()
        is_empty = not folders and not files
        if is_empty and Path(place) != folder:
            yield Path(place).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def replace_folder(out: Path, own: OwnFolder, keeps: str = "") -> Iterator[Path]:
    """Give a folder to write into, which replaces `out` when the block ends without an error.

    What killed processes left beside `out` is removed, but for the `unfinished_folder` of the key
    `keeps`.

    Raises:
        OutputError: `out` must not be replaced, or cannot be written.
    """
    check_own_folder(out, own)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    try:
        remove_leftovers(out, keeps)
        partial.mkdir(parents=True)
        yield partial
        _sync_folder(partial)
        check_own_folder(out, own)  # Somebody may have put a file there meanwhile.
        if out.exists():
            out.rename(old)
        try:
            partial.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
        _sync(out.parent)
        shutil.rmtree(old, ignore_errors=True)
    except CoaError:
        raise
    except OSError as error:
        raise writing_error(out, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that this user alone can read and that goes when the block ends.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(
            ".partial", f".{out.name}.{os.getpid()}.", out.parent, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise writing_error(out, error) from error
    with folder as name:
        yield Path(name)


@contextmanager
def unfinished_folder(out: Path, key: str, is_of_use: Callable[[Path], bool]) -> Iterator[Path]:
    """Give a folder beside `out` for long work, which continues where a stopped run left it.

    Only a run with the same key, a word for what `out` is made from, continues. A folder whose
    block ended in an error is kept for the next run where it `is_of_use`.

    Raises:
        OutputError: It cannot be made.
    """
    folder = out.with_name(f".{out.name}.{os.getpid()}.{key}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, leftover_key in _leftovers(out):
            if leftover_key == key and not folder.exists():
                path.rename(folder)
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise writing_error(out, error) from error
    is_kept = False
    try:
        yield folder
    except BaseException:
        is_kept = is_of_use(folder)
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(out: Path, keeps: str = "") -> None:
    """Remove the folders that killed processes left beside `out`, but for those of the key `keeps`.

    The folders of a process that still runs stay.
    """
    for path, key in _leftovers(out):
        if not key or key != keeps:
            shutil.rmtree(path, ignore_errors=True)


def _leftovers(out: Path) -> Iterator[tuple[Path, str]]:
    """List the folders that processes left beside `out` which no longer run, with their keys."""
    form = re.compile(rf"\.{re.escape(out.name)}\.(\d+)(?:\.(\w+))?\.(?:partial|old)")
    for path in sorted(out.parent.glob(".*")):
        leftover = form.fullmatch(path.name)
        if leftover and not _is_running(int(leftover[1])):
            yield path, leftover[2] or ""


def _is_running(process: int) -> bool:
    """Return whether another process has this id.

    Our own id does not count: a folder with it was left by an older process, as in a container,
    where every run may be process 1.
    """
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
