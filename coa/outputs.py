"""Name what belongs to a stage's output after its path: figures in metrics/, calls in .journal/.

No two outputs share a name: the parts of the path are joined by a sign, and doubled is that sign
where it stands inside a part.

    data/sample             metrics/sample_coa.json         .journal/sample-coa.sqlite
    data/student/sample     metrics/student_sample_coa.json .journal/student-sample-coa.sqlite
    data/my_run             metrics/my__run_coa.json        .journal/my_run-coa.sqlite
"""

import re
from pathlib import Path

from coa.errors import ConfigError

_PART = re.compile(r"[^\W_](.*[^\W_])?")
"""Letters or digits at both ends: a sign there could be taken for one that joins two parts."""
_FILE = ".parquet"
_OWN_FILES = {"grade.parquet": "grade"}
"""A file that bears its stage's name is called without its suffix."""


def metrics_name(out: str, *also: str) -> str:
    """Return what the figures of an output are called; `also` are further parts, such as a mode.

    Raises:
        ConfigError: the output is not under data/, or its path cannot be told from others.
    """
    return _joined("_", out, also)


def journal_name(out: str, *also: str) -> str:
    """Return what the journal of an output is called, without its suffix.

    Raises:
        ConfigError: as `metrics_name`.
    """
    return _joined("-", out, also)


def check_folder(out: str) -> None:
    """Refuse the path of a file where a folder is written.

    Raises:
        ConfigError: it is one.
    """
    if Path(out).suffix == _FILE:
        fix = "name the folder: the files in it have names of their own"
        raise ConfigError("out is a folder", expected="out=data/student", got=f"out={out}", fix=fix)


def check_file(out: str) -> None:
    """Refuse the path of a folder where one file is written.

    Raises:
        ConfigError: it is one.
    """
    if Path(out).suffix != _FILE:
        raise ConfigError("out is a parquet file", expected=f"out={out}{_FILE}", got=f"out={out}")


def _joined(sign: str, out: str, also: tuple[str, ...]) -> str:
    return sign.join(part.replace(sign, 2 * sign) for part in (*_parts(out), *also))


def _parts(out: str) -> tuple[str, ...]:
    data, *folders = Path(out).parts or ("",)
    if data != "data" or not folders:
        raise ConfigError(
            "an output of a data stage stands under data/",
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
