"""Install the environment of Argilla's server, once, from the pinned list of packages.

The list is annotate/embedded/server.lock. The server wants older versions of libraries that the
project uses too, so it gets an environment of its own, in a folder of the cache: the environment
variable `COA_CACHE`, or else the platform's place for caches.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from coa.errors import InputError, OutputError, ServiceError, writing_error

LOCK = Path(__file__).parent / "embedded/server.lock"
_COMPLETE = "complete"
"""A file that is written last: an environment without it is a broken installation."""


def pinned_version() -> str:
    """Return the version of Argilla's server that the project is made for."""
    found = re.search(r"^argilla-server==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{LOCK} pins no server"
    return found[1]


def cache_folder() -> Path:
    """Return the folder in which environments are kept."""
    chosen = os.environ.get("COA_CACHE")
    return Path(chosen) if chosen else user_cache_path("coa-toolkit")


def server_python() -> Path:
    """Return the interpreter of the server's environment.

    Where the environment is missing it is installed, a matter of seconds with uv.

    Raises:
        OutputError: the cache cannot be written.
        ServiceError: a package cannot be installed.
    """
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    python_version = f"py{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder() / f"argilla-{pinned_version()}-{python_version}-{digest}"
    python = folder / "bin/python"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not (folder / _COMPLETE).exists():
                print(f"installing Argilla's server into {folder} (once)", file=sys.stderr)
                shutil.rmtree(folder, ignore_errors=True)
                uv = shutil.which("uv")
                if uv:
                    _run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
                    install: tuple[str, ...] = (
                        uv,
                        "pip",
                        "install",
                        "--quiet",
                        "--python",
                        str(python),
                    )
                else:
                    _run(sys.executable, "-m", "venv", str(folder))
                    install = (str(python), "-m", "pip", "install", "--quiet")
                _run(*install, "-r", str(LOCK))
                (folder / _COMPLETE).touch()
    except OSError as error:
        if isinstance(error, OutputError | ServiceError | InputError):
            raise
        raise writing_error(folder, error) from error
    return python


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ServiceError(
            "cannot install Argilla's server",
            where=" ".join(command),
            got=done.stderr.strip()[-1500:],
            fix="see to the network or the package index, then run the same command again",
        )
