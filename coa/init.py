"""Make a project of your own beside the tool: settings, pipeline, git and DVC in one folder.

    coa init my-project                        # with examples of questions, passages and settings
    coa init my-project conf/hotpotqa.yaml     # with shipped profiles, or copies of yours
    coa init --demo build/demo                 # the invented world, with its training

`dvc repro` runs in there. Questions, settings, sets and their history belong to the git repository
that the folder gets, or in which it lies already. Nothing that is there is overwritten; after a
kill, the same command completes the folder.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path

from coa.errors import ConfigError, InputError
from coa.params import main as write_settings
from coa.pipeline import FOLDER
from coa.plan import Plan
from coa.settings.params import (
    DEFAULT_PROFILE,
    PARAMS_FILE,
    Params,
    merge_profiles,
    shipped_profiles,
)
from coa.store import tables
from coa.store.files import AGREEMENT, REVIEWS
from coa.store.reviews import Agreement, Review
from coa.store.whole_files import write_file

_DEMO = "demo=true"
_BEGINNING = FOLDER / "project"
"""The files that a project begins with."""
_EXAMPLES = ("mine.yaml", "data/raw/questions.jsonl", "data/raw/passages.jsonl")
"""Those of them that a project has unless profiles are named."""
_MAY_BE_THERE = (".git", ".dvc", ".dvcignore", "data")
"""A repository, files of the user's to read, and what an earlier run made before it was killed."""
_DVC_SETTINGS = "[core]\n    analytics = false\n    check_update = false\n"


def make_project(folder: Path, profiles: Sequence[Path] = ()) -> None:
    """Make a project with these profiles, or with the examples.

    The folder is missing or empty, but a git repository and `data` may be in it. Profiles of the
    user's are copied into it.

    Raises:
        ConfigError: the folder holds something else, or a profile is missing or wrong.
        InputError: git is not installed, or git or DVC fails.
        OutputError: a file cannot be written.
    """
    files = {".gitignore": (_BEGINNING / "gitignore").read_bytes()}
    heading = f"# {folder.resolve().name}\n".encode()
    files["README.md"] = heading + (_BEGINNING / "README.md").read_bytes().partition(b"\n")[2]
    if not profiles:
        files |= {name: (_BEGINNING / name).read_bytes() for name in _EXAMPLES}
    Plan(Params.of(merge_profiles(profiles or [_BEGINNING / _EXAMPLES[0]]).values, folder))
    shipped = shipped_profiles().values()
    names: list[str] = []
    for profile in profiles:
        if profile.as_posix() in shipped:
            names.append(profile.as_posix())
        else:
            names.append(profile.name)
            files[profile.name] = profile.read_bytes()
    _check_folder(folder, files)
    for name, content in files.items():
        write_file(folder / name, content)
    with chdir(folder):
        _start_git_and_dvc()
        if not REVIEWS.exists():
            tables.write_table(REVIEWS, Review, [])
        if not AGREEMENT.exists():
            tables.write_table(AGREEMENT, Agreement, [])
        write_settings(names or _EXAMPLES[:1])


def _check_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Refuse a folder that is a project already, or that holds anything else."""
    if (folder / PARAMS_FILE).exists():
        raise ConfigError(
            f"{folder} is a project already",
            where=folder,
            fix=f"cd {folder}; `coa params PROFILE...` gives it other settings, `coa params` "
            "writes its dvc.yaml after an update of the tool, `dvc repro` runs it",
        )
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file", expected="a folder that is missing or empty")
    others: list[str] = []
    for path in sorted(folder.glob("*")):
        if path.name not in _MAY_BE_THERE and path.name not in files:
            others.append(path.name)
    for name, content in files.items():
        path = folder / name
        if path.exists() and path.read_bytes() != content:
            others.append(name)
    if others:
        raise ConfigError(
            f"{folder} is not empty",
            where=folder,
            expected="a folder that is missing or empty; a git repository and `data` may be in it",
            got=", ".join(others[:9]),
            fix="name another folder, and move into it what you need",
        )


def _start_git_and_dvc() -> None:
    """Give the current folder a git repository, unless another one keeps it, and DVC.

    A folder that a repository ignores, such as build/demo, is kept by none.
    """
    top = _output("git", "rev-parse", "--show-toplevel")
    if top is None or _output("git", "check-ignore", str(Path.cwd())) is not None:
        _require("git", "init", "--quiet")
        top = str(Path.cwd())
    if not Path(".dvc/config").exists():
        part = [] if Path(top.strip()).samefile(".") else ["--subdir"]
        _require(sys.executable, "-m", "dvc", "init", "--quiet", *part)
        write_file(Path(".dvc/config"), _DVC_SETTINGS)
        _require("git", "add", ".dvc/config")  # as the files that DVC itself has staged


def _require(*command: str) -> None:
    if _output(*command) is None:
        raise InputError(
            f"`{' '.join(command)}` failed",
            where=Path.cwd(),
            fix="run it by hand to see why, then the same `coa init` again",
        )


def _output(*command: str) -> str | None:
    """Return what a command prints; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise InputError(f"{command[0]} is not installed", fix="install it") from error
    return done.stdout if done.returncode == 0 else None


def main(arguments: Sequence[str]) -> str:
    """Make a project and return the summary line."""
    named = [Path(argument) for argument in arguments if argument != _DEMO]
    is_demo = len(named) < len(arguments)
    if not named or (is_demo and len(named) > 1):
        raise ConfigError(
            "name the folder of the project",
            expected="coa init FOLDER [PROFILE...], or coa init --demo FOLDER",
            got=" ".join(arguments),
        )
    folder, *profiles = named
    make_project(folder, [DEFAULT_PROFILE] if is_demo else profiles)
    return f"{folder} is a project of your own; next: cd {folder} && dvc repro"


if __name__ == "__main__":
    from coa.cli import run

    # The one flag of the toolkit: what is typed before the folder has to read well.
    typed = ["demo=true" if argument == "--demo" else argument for argument in sys.argv[1:]]
    run(main, typed)
