"""Read the questions that models will be evaluated on, against which rows are screened.

A file is one evaluation set, named by its stem. The validation and test questions of the project's
own are sets too, one for each source and split: `musique test`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from coa import tables
from coa.errors import InputError
from coa.question import Question, evaluation_set
from coa.sources import read_rows
from curate.overlap import EvaluationQuestion

_FORMATS = (".parquet", ".jsonl", ".csv")
_COLUMNS = ("question_id", "question")


def read_evaluation(
    own: Path, more: Path, columns: Mapping[str, str]
) -> Iterator[EvaluationQuestion]:
    """Read the validation and test questions of `own`, then those of `more`.

    Args:
        own: The project's questions.
        more: Evaluation sets of others, a file or a folder of files; every row counts, whatever its
            split. `own` means that there are none.
        columns: `question_id` and `question` to the names of these columns in `more`, where they
            differ.

    Raises:
        InputError: a file is missing, broken or empty, a folder holds none, or a row has no
            question.
        ConfigError: a file's format is unknown.
    """
    tables.require_columns(Path("screen.evaluation_columns"), _COLUMNS, columns)
    for row in tables.read_table(own, Question):
        if row.split != "train":
            yield EvaluationQuestion(evaluation_set(row), row.question_id, row.question)
    if more == own:
        return
    for path in _files(more, own):
        yield from _read_file(path, columns)


def _files(path: Path, own: Path) -> list[Path]:
    """List the files at a path."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix in _FORMATS)
    if not files:
        fix = f"put the files there, or set screen.evaluation to {own}, which adds none"
        raise InputError(
            f"{path} holds no evaluation set",
            expected=f"files ending in {', '.join(_FORMATS)}",
            fix=fix,
        )
    return files


def _read_file(path: Path, columns: Mapping[str, str]) -> Iterator[EvaluationQuestion]:
    position = 0
    names = {name: columns.get(name, name) for name in _COLUMNS}
    for position, (where, values) in enumerate(read_rows(path, names, ("question_id",)), start=1):
        question = values["question"]
        if not isinstance(question, str) or not question.strip():
            raise InputError(
                "an evaluation question is not text", where=where, got=repr(question)[:80]
            )
        row_id = values["question_id"]
        question_id = f"row {position}" if row_id is None else str(row_id)
        yield EvaluationQuestion(path.stem, question_id, question)
    if not position:
        raise InputError(
            f"{path} holds no question",
            fix="fill the file, or remove it: nothing is screened against it",
        )
