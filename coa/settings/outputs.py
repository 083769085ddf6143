"""Say where each command writes, refuse the places of others, and name metrics and journals.

An output of a data stage is a file or a folder under data/ (`out=`). Its metrics file and its
journal are named after its path. No two outputs share a name: the parts of the path are joined by a
sign, and a sign inside a part is doubled.

    data/sample             metrics/sample_coa.json         .journal/sample-coa.sqlite
    data/student/sample     metrics/student_sample_coa.json .journal/student-sample-coa.sqlite
    data/my_run             metrics/my__run_coa.json        .journal/my_run-coa.sqlite
"""

import re
from pathlib import Path
from typing import NamedTuple

from coa.errors import ConfigError, InputError, OutputError
from coa.settings.params import Params
from coa.store.files import DATA
from coa.store.tables import TRIAL, open_parquet

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


class Place(NamedTuple):
    """Where a command writes."""

    command: str
    """Its module."""
    path: str
    """Below data/."""
    files: tuple[str, ...] = ()
    """The tables in a folder; empty for a file, and for a folder that is recognised otherwise
    (`coa.store.output_folder`)."""


_SAMPLED = ("cot.parquet", "coa.parquet")
_FILTERED = ("kept.parquet", "dropped.parquet")
_BRANCHED = ("pairs.parquet", "forks.parquet", "points.parquet", "excluded.parquet")
_SET = ("train.parquet", "validation.parquet")
PLACES = (
    Place("synth.fetch", "raw"),
    Place("coa.student.base_models", "raw"),
    Place("synth.microworld", "microworld"),
    Place("synth.ingest", "ingest"),
    Place("synth.questions", "questions.parquet"),
    Place("synth.questions", "questions_dropped.parquet"),
    Place("coa.search.index", "index"),
    Place("coa.search.embed", "vectors"),
    Place("synth.sample", "sample", _SAMPLED),
    Place("synth.sample", "student/sample", _SAMPLED),
    Place("curate.grade", "grade.parquet"),
    Place("curate.grade", "student/grade.parquet"),
    Place("curate.analyse", "analyse.parquet"),
    Place("curate.analyse", "student/analyse.parquet"),
    Place("curate.filter", "filter", _FILTERED),
    Place("curate.filter", "student/filter", _FILTERED),
    Place("curate.branch", "branch", _BRANCHED),
    Place("curate.branch", "student/branch", _BRANCHED),
    Place("curate.screen", "screen"),
    Place("annotate.pull", "reviews.parquet"),
    Place("annotate.pull", "agreement.parquet"),
    Place("curate.assemble", "assemble"),
    Place("curate.student_set", "student/assemble/coa", _SET),
    Place("curate.student_pairs", "student/assemble/cot_a", _SET),
    Place("lab.subset", "lab", _SET),
    Place("data_cards.render", "render"),
    Place("data_cards.models", "models"),
    Place("data_cards.export", "export"),
    Place("train.check", "train_check.json"),
    Place("train.run", "train"),
    Place("evaluation.evaluate", "evaluate"),
    Place("evaluation.table", "table"),
)
"""The places of the pipeline. The last one has no file in data/, but its metrics have the name."""
_SHARED = {"lab"}
"""A folder in which commands have folders of their own, so it is none's alone."""
_TABLES = {file for place in PLACES for file in place.files}
"""The names of tables that are in folders."""


def check_folder(out: str, command: str) -> None:
    """Refuse an output folder that is a file, or that is not the place of this command's module.

    Raises:
        ConfigError: The path names a file, or none that metrics can be named after.
        OutputError: The path, or what is there, is another command's.
    """
    path = Path(out)
    _parts(out)
    if path.suffix == _FILE:
        fix = "name the folder: the files in it have names of their own"
        raise ConfigError("out is a folder", expected="out=data/student", got=f"out={out}", fix=fix)
    check_place(out, command)
    own = {file for place in PLACES if place.command == command for file in place.files}
    others = [found.name for found in sorted(path.glob(f"*{_FILE}")) if found.name not in own]
    if path.with_name(f"{path.name}{_FILE}").exists():
        others.append(f"../{path.name}{_FILE}, which has the same metrics")
    if others:
        raise _in_the_way(out, f"what `python -m {command}` did not write: {', '.join(others)}")


def check_file(out: str, command: str) -> None:
    """Refuse an output file that is a folder, or that is not the place of this command's module.

    Raises:
        ConfigError: The path does not name a parquet file under data/.
        OutputError: The path, or what is there, is another command's.
    """
    path = Path(out)
    _parts(out)
    if path.suffix != _FILE:
        raise ConfigError("out is a parquet file", expected=f"out={out}{_FILE}", got=f"out={out}")
    check_place(out, command)
    if path.name in _TABLES:
        raise _in_the_way(out, f"{path.name}, a name that another command gives its tables")
    if path.with_suffix("").is_dir():
        raise _in_the_way(out, f"the folder {path.with_suffix('')}, which has the same metrics")


def check_place(out: str, command: str) -> None:
    """Refuse a path that is another command's, is within one of its folders, or holds one.

    A link counts as what it leads to.

    Raises:
        OutputError: It names the command whose place it is.
    """
    target = Path(out).resolve()
    own = [place.path for place in PLACES if place.command == command]
    for place in PLACES:
        if place.path in own or place.path in _SHARED:
            continue
        path = (DATA / place.path).resolve()
        has_its_name = str(target).removesuffix(_FILE) == str(path).removesuffix(_FILE)
        if has_its_name or path in target.parents or target in path.parents:
            raise _in_the_way(out, f"the place of `python -m {place.command}`: {DATA / place.path}")


def check_inputs(params: Params, out: str, *inputs: str) -> bool:
    """Refuse to replace the run's own output by that of other inputs.

    It is replaced where params.yaml names the inputs, or where the command line names the output,
    too, or where it is a trial (`coa.store.tables.TableWriter`) itself.

    `inputs` are the settings that name what the stage reads. Return whether the command line alone
    names one.

    Raises:
        OutputError: It does, and the output is there.
    """
    given = [name for name in inputs if params.is_overridden(name)]
    path = Path(out)
    if given and path.exists() and not params.is_given("out") and not _is_trial(path):
        raise OutputError(
            f"{out} is the run's own: nothing was overwritten",
            where="the command line",
            expected=f"{', '.join(given)} as in {params.path} for this output",
            got=f"another value of {', '.join(given)}",
            fix=f"change {params.path}, or move {out} away; where the command has `out`, name it",
        )
    return bool(given)


def _is_trial(path: Path) -> bool:
    try:
        return TRIAL in (open_parquet(path).schema_arrow.metadata or {})
    except InputError:
        return False


def _in_the_way(out: str, got: str) -> OutputError:
    return OutputError(
        f"{out} is in the way: nothing was overwritten",
        where=Path(out).absolute(),
        expected="a new place under data/, or one that this command wrote",
        got=got,
        fix="name another place with out=",
    )


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
