"""Say which setting is responsible for a training set, and read its rows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coa.errors import InputError
from coa.store import tables
from coa.store.files import ASSEMBLED, STUDENT_ASSEMBLED

SETTINGS = {(ASSEMBLED / name).as_posix(): f"num_{name}" for name in ("cot_a", "coa", "cot", "rl")}
"""The folder of a set to the setting of `assemble` that says how large it is; 0: not built."""


def read_split(folder: str, split: str, record: type[Any]) -> Iterator[Any]:
    """Read the rows of one split of a set.

    Raises:
        InputError: the file is missing, broken or lacks a column, or there is nothing to train on;
            says which setting is responsible.
    """
    path = Path(folder) / f"{split}.parquet"
    if not path.is_file():
        raise InputError(f"{path} is missing", fix=how_to_make(folder))
    row = None
    for row in tables.read_table(path, record):
        yield row
    if row is None and split == "train":
        raise InputError(f"{path} has no row", fix=how_to_make(folder))


def how_to_make(folder: str) -> str:
    """Say what to do where a set is missing or empty."""
    setting = SETTINGS.get(Path(folder).as_posix())
    if setting:
        return (
            f"the set is built where assemble.{setting} is above 0 and there are rows for it "
            f"(metrics/assemble.json): see to both, or take {folder} out of the section `train`; "
            f"then make the sets: dvc repro assemble"
        )
    if Path(folder) == STUDENT_ASSEMBLED / "cot_a":
        return (
            "metrics/student_branch.json has the outcome of the student's points, "
            "metrics/student_branch_pairs.json which pairs were left out: raise "
            "pipeline.student_questions or pipeline.student_continuations, or let "
            "train.sft1.pairs name another set; then make the set: dvc repro student_pairs"
        )
    if Path(folder).is_relative_to(STUDENT_ASSEMBLED):
        return (
            f"metrics/student_grade.json says how often the student was right, "
            f"metrics/student_assemble.json what was left out: raise pipeline.student_questions, "
            f"choose a better pipeline.student, or take {folder} out of train.rft.trajectories; "
            f"then make the set: dvc repro student_assemble"
        )
    return "name a folder with train.parquet and validation.parquet"
