"""The working tree to what a published version says of itself: code commit, DVC's lock, the remote with the bytes."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import yaml

from coa.errors import InputError

LOCK = Path("dvc.lock")
RECORDS = Path("publications.jsonl")
"""Which revisions of the Hub, code, lock and remote belong together, a line for each publication."""
CODE = (
    "coa",
    "synth",
    "curate",
    "annotate",
    "data_cards",
    "train",
    "conf",
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "pyproject.toml",
    "constraints.txt",
)
"""The paths that decide what the pipeline makes; documents, tests and notes may change without a new version."""
_MAX_SHOWN = 5


class Code(NamedTuple):
    """The code as git sees it."""

    commit: str
    """The last commit that touched `CODE`; empty where there is none."""
    changed: tuple[str, ...]
    """Paths among `CODE` that differ from it or are not known to git."""


def code_state() -> Code:
    """The commit and what is not committed; no commit where the folder is in no git repository."""
    known = [path for path in CODE if Path(path).exists()]
    commit = _output("git", "log", "-1", "--format=%H", "--", *known)
    status = _output("git", "status", "--porcelain", "--untracked-files=all", "--", *known)
    if commit is None or status is None:
        return Code("", ())
    return Code(commit.strip(), tuple(line[3:] for line in status.splitlines()))


def stale_stages(stage: str) -> tuple[str, ...]:
    """The stages up to `stage` whose code, settings or files are others than those in dvc.lock.

    Raises:
        InputError: DVC cannot tell.
    """
    command = (sys.executable, "-m", "dvc", "status", "--json", "--with-deps", stage)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return tuple(sorted(json.loads(done.stdout)))
    except json.JSONDecodeError:
        said = (done.stderr.strip() or done.stdout.strip())[-300:]
        raise InputError(
            "`dvc status` failed", where=LOCK, got=said, fix=f"dvc repro {stage}"
        ) from None


class Lock(NamedTuple):
    """What dvc.lock says was made."""

    sha256: str
    """Of the file."""
    outs: dict[str, dict[str, str]]
    """Stage to output to the MD5 under which DVC keeps it."""
    deps: dict[str, dict[str, str]]
    """Stage to what it read to its MD5 then."""


NO_LOCK = Lock("", {}, {})
"""Where there is no dvc.lock."""


def read_lock() -> Lock:
    """Read dvc.lock; its parameters, which may hold addresses of servers, are left out.

    Raises:
        InputError: it is missing or broken.
    """
    try:
        content = LOCK.read_bytes()
        stages: dict[str, Any] = yaml.safe_load(content)["stages"]
        outs = {name: _md5_by_path(stage.get("outs", ())) for name, stage in stages.items()}
        read = {name: _with_md5(stage.get("deps", ())) for name, stage in stages.items()}
        deps = {name: _md5_by_path(files) for name, files in read.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read {LOCK}", got=repr(error)[:200], fix="make it with dvc repro"
        ) from error
    made = {name: paths for name, paths in outs.items() if paths}
    return Lock(hashlib.sha256(content).hexdigest(), made, deps)


def _md5_by_path(files: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {file["path"]: file["md5"] for file in files}


def _with_md5(files: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The files that lie here; others, such as a URL, are known by something else."""
    return [file for file in files if "md5" in file]


def md5_of(path: Path) -> str:
    """The MD5 by which DVC knows a file or a folder; empty where nothing is there."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        entries = [
            {"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()} for file in files
        ]
        entries.sort(key=lambda entry: entry["relpath"])
        return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def lock_commit() -> str:
    """The commit that holds dvc.lock as it is here; empty where it is not committed."""
    if _output("git", "status", "--porcelain", "--", str(LOCK)) != "":
        return ""
    return (_output("git", "log", "-1", "--format=%H", "--", str(LOCK)) or "").strip()


def stage_of(path: Path) -> str:
    """The stage that made a file or folder, as dvc.lock has it; empty where none did.

    Raises:
        InputError: dvc.lock is missing or broken.
    """
    return next((stage for stage, made in read_lock().outs.items() if path.as_posix() in made), "")


def dvc_remote() -> str:
    """The default DVC remote without user name and password; empty where there is none."""
    name = _setting("core.remote")
    return without_user(_setting(f"remote.{name}.url")) if name else ""


def _setting(key: str) -> str:
    """A setting of DVC, wherever it stands; empty where there is none."""
    return (_output(sys.executable, "-m", "dvc", "config", key) or "").strip()


def without_user(url: str) -> str:
    """A URL without user name, password, query and fragment; anything else as it is."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def shown(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _MAX_SHOWN:,} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(names[:_MAX_SHOWN]) + more


def _output(*command: str) -> str | None:
    """What a command prints; None where it fails or is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
