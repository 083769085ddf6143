"""Print one trajectory, pair or question in colour, each step in its author's.

    coa show mw-train-000008/coa/0
    coa show mw-train-000028/cot/0/42 file=data/branch/pairs.parquet

The row is looked for in all files of data/, and in one file alone where that is named. Colours are
left out where NO_COLOR is set or the output is not a terminal.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from coa.ask import styled
from coa.errors import ConfigError, InputError
from coa.records.question import Question
from coa.records.trajectory import Step
from coa.terminal import printable
from coa.view import shown
from coa.view.lookups import find_analysis, find_numbers, read_row
from coa.view.related import find_calls_of
from coa.view.run_files import FileKind, RunFile, find_files

_MOST_TELLING = (FileKind.DROPPED, FileKind.GRADED, FileKind.PAIRS)
"""A row that is in several files is shown from the first of these kinds."""


def find_row(files: Mapping[str, RunFile], row_id: str) -> tuple[RunFile, Any]:
    """Find a row by its id, in the file that says the most of it.

    Raises:
        InputError: No file has it.
    """
    others = [kind for kind in FileKind if kind not in _MOST_TELLING]
    order = [*_MOST_TELLING, *others]
    for file in sorted(files.values(), key=lambda file: order.index(file.kind)):
        numbers = find_numbers(file, "id", row_id)
        if numbers:
            return file, read_row(file, numbers[0])
    raise InputError(
        f"no file has a row {row_id!r}",
        where=", ".join(files),
        expected="the id of a trajectory, a pair or a question",
        fix="`coa view` lists the rows with their ids",
    )


def lines_of(file: RunFile, row: Any, row_id: str) -> Iterator[Text]:
    """Yield a row as lines for a terminal; characters that would act on it are spelled out."""
    yield _bold(f"{row_id}  ({file.name})")
    if isinstance(row, Question):
        yield Text(printable(row.question))
        yield from _facts([("accepted", " | ".join(row.gold_answers)), ("split", row.split)])
        return
    trajectory = shown.trajectory_of(row)
    if trajectory is None:
        yield Text(printable(row.question))
        yield from _facts(shown.pair_facts(row))
        yield from _steps("shared", row.prefix)
        yield from _steps(f"chosen: {row.chosen_id}", row.chosen)
        yield from _steps(f"rejected: {row.rejected_id}", row.rejected)
        return
    yield Text(printable(trajectory.question))
    found, note = find_calls_of(trajectory, file.path)
    cost = f", {found.cost.text}" if found.cost.text else ""
    calls = ("calls", f"{len(found.calls)} in the journal{cost}: {note}")
    yield from _facts([*_judgements(file, row), *shown.trajectory_facts(row), calls])
    yield from _steps("steps", trajectory.steps)


def _judgements(file: RunFile, row: Any) -> Iterator[tuple[str, str]]:
    """Yield what is said of a trajectory: its grade, why it was dropped, why it failed."""
    graded = shown.graded_of(row)
    if graded is not None:
        answer = graded.grade.prediction or "nothing"
        accepted = " | ".join(graded.gold_answers)
        yield "grade", f"{graded.grade.verdict}: {answer}; accepted: {accepted}"
    if hasattr(row, "reason"):
        yield "dropped", f"{row.reason}: {row.detail}"
    trajectory = shown.trajectory_of(row)
    analysis = find_analysis(file, trajectory) if trajectory is not None else None
    if analysis is not None and analysis.cause is not None:
        where = "" if analysis.step is None else f" at step {analysis.step + 1}"
        yield "cause", f"{analysis.cause}{where}: {analysis.evidence}"


def _bold(text: str) -> Text:
    return Text(printable(text), style="bold")


def _facts(facts: Iterable[tuple[str, str]]) -> Iterator[Text]:
    for name, value in facts:
        one_line = " ".join(value.split())
        yield Text.assemble((f"  {name:19}", "dim"), printable(one_line))


def _steps(title: str, steps: Sequence[Step]) -> Iterator[Text]:
    yield Text()
    yield _bold(f"── {title}")
    whole = Text()
    for step in steps:
        whole.append_text(styled(step))
    yield whole


def main(arguments: Sequence[str]) -> str:
    """Print a row and return the summary line."""
    ids = [argument for argument in arguments if not argument.startswith("file=")]
    names = [argument.removeprefix("file=") for argument in arguments if argument not in ids]
    if len(ids) != 1 or not ids[0].strip():
        raise ConfigError(
            "name one row",
            expected="coa show ROW_ID [file=PATH]",
            got=" ".join(ids) or "none",
        )
    file, row = find_row(find_files(names), ids[0])
    console = Console(highlight=False)
    for line in lines_of(file, row, ids[0]):
        console.print(line, soft_wrap=True)
    return f"\n{ids[0]} is a row of {file.name}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
