"""Name the metrics file and the journal of a stage's output after the output's path.

No two outputs share a name: the parts of the path are joined by a sign, and a sign inside a part is
doubled.

    data/sample             metrics/sample_coa.json         .journal/sample-coa.sqlite
    data/student/sample     metrics/student_sample_coa.json .journal/student-sample-coa.sqlite
    data/my_run             metrics/my__run_coa.json        .journal/my_run-coa.sqlite
"""

import re
from pathlib import Path

from coa.errors import ConfigError

_PART = re.compile(r"[^\W_](.*[^\W_])?")
"""A part with letters or digits at both ends: a sign there could be taken for a joining one."""
_FILE = ".parquet"
_OWN_FILES = {"grade.parquet": "grade", "analyse.parquet": "analyse"}
"""A file with its stage's name is named without its suffix."""


def metrics_name(out: str, *also: str) -> str:
    """Return the name of an output's metrics; `also` are further parts, such as a mode.

    Raises:
        ConfigError: The output is not under data/, or its path allows no unique name.
    """
    return _joined("_", out, also)


def journal_name(out: str, *also: str) -> str:
    """Return the name of an output's journal, without the file's suffix.

    Raises:
        ConfigError: The output is not under data/, or its path allows no unique name.
    """
    return _joined("-", out, also)


def check_folder(out: str) -> None:
    """Refuse the path of a file for an output that is a folder.

    Raises:
        ConfigError: The path names a file.
    """
    if Path(out).suffix == _FILE:
        fix = "name the folder: the files in it have names of their own"
        raise ConfigError("out is a folder", expected="out=data/student", got=f"out={out}", fix=fix)


def check_file(out: str) -> None:
    """Refuse the path of a folder for an output that is a file.

    Raises:
        ConfigError: The path does not name a parquet file.
    """
    if Path(out).suffix != _FILE:
        raise ConfigError("out is a parquet file", expected=f"out={out}{_FILE}", got=f"out={out}")


def _joined(sign: str, out: str, also: tuple[str, ...]) -> str:
    parts = (*_parts(out), *also)
    return sign.join(part.replace(sign, 2 * sign) for part in parts)


def _parts(out: str) -> tuple[str, ...]:
    """Split an output's path below data/ into its parts."""
    data, *folders = Path(out).parts or ("",)
    if data != "data" or not folders:
        raise ConfigError(
            "an output of a data stage must be under data/",
            expected="out=data/student/...",
            got=f"out={out}",
        )
    for folder in folders:
        if not _PART.fullmatch(folder):
            raise ConfigError(
                f"{folder!r} cannot name an output",
                expected="letters or digits at both ends of each folder's name",
                got=f"out={out}",
            )
    *folders, last = folders
    return (*folders, _OWN_FILES.get(last, last))
