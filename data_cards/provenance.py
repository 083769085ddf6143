"""Read from the working tree what a published version says of itself.

That is the commit of the code, DVC's lock, and the remote that holds the bytes.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from coa.code_hashes import STAGE as CODE_STAGE
from coa.code_hashes import write_code
from coa.errors import InputError
from coa.store.dvc_lock import LOCK, check_lock, read_stages
from coa.store.shipped import ROOT

RECORDS = Path("publications.jsonl")
"""A line for each publication: the revisions of the Hub, code, lock and remote that go together."""
CODE = (
    "coa",
    "synth",
    "curate",
    "annotate",
    "data_cards",
    "train",
    "evaluation",
    "conf",
    "params.yaml",
    "dvc.yaml",
    "dvc.lock",
    "pyproject.toml",
    "constraints.txt",
)
"""The paths that decide what the pipeline makes.

Documents, tests and notes may change without a new version.
"""
_MAX_SHOWN = 5


class Code(NamedTuple):
    """The code as git sees it."""

    commit: str
    """The last commit that touched `CODE`; empty where there is none."""
    changed: tuple[str, ...]
    """Paths among `CODE` that differ from it or are not known to git; dvc.lock, which the run
    itself writes, is not code."""
    tool: str = ""
    """In a project beside the tool: the tool's commit, or its version where no git keeps it."""


def code_state(tool: Path = ROOT) -> Code:
    """Ask git for the commit and for what is not committed, the user's own modules included.

    The commit is empty where the folder is in no git repository.
    """
    code = _state_of(Path.cwd())
    if tool.samefile(Path.cwd()):
        return code
    of_tool = _state_of(tool)
    try:
        name = of_tool.commit or version("coa-toolkit")
    except PackageNotFoundError:
        name = "unknown"
    changed = [f"{path} of the tool" for path in of_tool.changed]
    return Code(code.commit, (*code.changed, *changed), name)


def _state_of(folder: Path) -> Code:
    git = ("git", "-C", str(folder))
    known = [path for path in CODE if (folder / path).exists()]
    known += [path.name for path in sorted(folder.glob("*.py"))]
    commit = _output(*git, "log", "-1", "--format=%H", "--", *known)
    written = [path for path in known if path != str(LOCK)]
    status = _output(*git, "status", "--porcelain", "--untracked-files=all", "--", *written)
    if commit is None or status is None:
        return Code("", ())
    return Code(commit.strip(), tuple(line[3:] for line in status.splitlines()))


def stale_stages(stage: str) -> tuple[str, ...]:
    """Return the stages up to `stage` whose code, settings or files differ from dvc.lock.

    Raises:
        InputError: dvc.yaml cannot be read, or DVC cannot tell.
    """
    check_lock()
    write_code()  # DVC compares what the files in .code/ say
    command = (sys.executable, "-m", "dvc", "status", "--json", "--with-deps", stage)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return tuple(sorted(set(json.loads(done.stdout)) - {CODE_STAGE}))
    except json.JSONDecodeError:
        said = (done.stderr.strip() or done.stdout.strip())[-300:]
        raise InputError(
            "`dvc status` failed", where=LOCK, got=said, fix=f"dvc repro {stage}"
        ) from None


class Lock(NamedTuple):
    """The files that dvc.lock says were read and made."""

    sha256: str
    """The hash of dvc.lock itself."""
    outs: dict[str, dict[str, str]]
    """For each stage: the MD5 under which DVC keeps an output, by the output's path."""
    deps: dict[str, dict[str, str]]
    """For each stage: the MD5 that a file had when the stage read it, by the file's path."""


def read_lock() -> Lock:
    """Read dvc.lock; its parameters, which may hold addresses of servers, are left out.

    Without a dvc.lock everything is empty.
    """
    stages = read_stages()
    if not LOCK.exists():
        return Lock("", {}, {})

    def md5_by_path(files: Iterable[Mapping[str, str]]) -> dict[str, str]:
        # What lies elsewhere, such as a URL, has no MD5.
        return {file["path"]: file["md5"] for file in files if "md5" in file}

    outs = {}
    deps = {}
    for name, stage in stages.items():
        made = md5_by_path(stage.get("outs", ()))
        if made:
            outs[name] = made
        deps[name] = md5_by_path(stage.get("deps", ()))
    return Lock(hashlib.sha256(LOCK.read_bytes()).hexdigest(), outs, deps)


def md5_of(path: Path) -> str:
    """Compute the MD5 by which DVC knows a file or a folder; empty where nothing is there."""
    if path.is_dir():
        entries = []
        for file in sorted(path.rglob("*")):
            if file.is_file():
                entries.append({"md5": md5_of(file), "relpath": file.relative_to(path).as_posix()})
        entries.sort(key=lambda entry: entry["relpath"])
        return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"
    if not path.is_file():
        return ""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def lock_commit() -> str:
    """Return the commit that holds dvc.lock as it is here; empty where it is not committed."""
    status = _output("git", "status", "--porcelain", "--", str(LOCK))
    if status != "":
        return ""
    commit = _output("git", "log", "-1", "--format=%H", "--", str(LOCK)) or ""
    return commit.strip()


def dvc_remote() -> str:
    """Return the default DVC remote without user name and password; empty where there is none."""
    dvc_config = (sys.executable, "-m", "dvc", "config")
    name = (_output(*dvc_config, "core.remote") or "").strip()
    if not name:
        return ""
    return without_user((_output(*dvc_config, f"remote.{name}.url") or "").strip())


def without_user(url: str) -> str:
    """Remove user name, password, query and fragment from a URL; leave any other text as it is."""
    parts = urlsplit(url)
    if not parts.netloc:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def shown(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    first = ", ".join(names[:_MAX_SHOWN])
    num_more = len(names) - _MAX_SHOWN
    if num_more <= 0:
        return first
    return f"{first} and {num_more:,} more"


def _output(*command: str) -> str | None:
    """Return what a command prints; None where it fails or is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
