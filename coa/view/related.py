"""Find what belongs to a row: other answers to its question, its forks and pairs, its calls."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from coa.errors import CoaError
from coa.records.trajectory import Trajectory, is_imported
from coa.rollout.calls import Replay, find_calls
from coa.settings.params import Params
from coa.view.lookups import Related, rows_of_question
from coa.view.run_files import OF_TRAJECTORIES, FileKind, RunFile
from coa.view.shown import trajectory_of

_RELATIONS = (
    "The question",
    "It is in",
    "Its two sides",
    "It was forked from",
    "Its forks",
    "Pairs made of it",
    "Other rows of this question",
)


def side_by_side(
    related: Sequence[Related], left: str, right: str
) -> tuple[list[Related], tuple[Related | None, Related | None]]:
    """Choose two trajectories of a question to show beside each other, by address or id.

    Without a right one, it is the one that is least like the left in mode, model and grade.

    Returns:
        Each trajectory once, and the two.
    """
    rows = [row for row in related if row.file.kind in OF_TRAJECTORIES]
    once: dict[tuple[object, ...], Related] = {}
    for row in rows:
        known = once.get(row.identity)
        # The row that says the most: a graded one rather than a sampled one.
        if known is None or known.file.kind is FileKind.SAMPLED:
            once[row.identity] = row
    table = list(once.values())
    one = _find(rows, left) or next(iter(table), None)
    other = _find(rows, right)
    if other is None and one is not None:
        others = [row for row in table if row.identity != one.identity]
        other = min(others, key=partial(_likeness, one), default=None)
    return table, (one, other)


def _find(rows: Sequence[Related], wanted: str) -> Related | None:
    for row in rows:
        if wanted in (row.address, row.row_id):
            return row
    return None


def _likeness(row: Related, other: Related) -> int:
    """Count in how many ways that matter two trajectories are alike."""
    names = ("mode", "model", "grade")
    return sum(row.values.get(name) == other.values.get(name) for name in names)


def behind(
    files: Mapping[str, RunFile],
    file: RunFile,
    row: Any,
    row_id: str,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """Collect what is behind a row: the files that hold it, its parent, its forks, pairs and calls.

    `settings` override params.yaml, where the row was made otherwise.
    """
    trajectory = trajectory_of(row)
    question_id = row.question_id if trajectory is None else trajectory.question_id
    sides = {getattr(row, name, "") for name in ("trajectory_id", "chosen_id", "rejected_id")}
    related = rows_of_question(files, question_id)
    itself = next(it for it in related if it.file == file and it.row_id == row_id)
    parts: dict[str, list[Related]] = {title: [] for title in _RELATIONS}
    for other in related:
        if other.identity == itself.identity and other.file.kind is not FileKind.QUESTIONS:
            parts["It is in"].append(other)
        else:
            parts[_relation(other, row_id, sides)].append(other)
    found, note = find_calls_of(trajectory, file.path, settings)
    return {
        "question_id": question_id,
        "found": found,
        "note": note,
        "parts": {title: others for title, others in parts.items() if others},
        "trajectory": trajectory,
    }


def find_calls_of(
    trajectory: Trajectory | None, file: Path, settings: Sequence[str] = ()
) -> tuple[Replay, str]:
    """Find the calls behind a trajectory in the journal, and say how sure it is that they are."""
    found = Replay((), is_same=False)
    if trajectory is None:
        return found, "only trajectories have calls"
    if is_imported(trajectory):
        return found, "it was imported: no call of this project made it"
    try:
        found = find_calls(trajectory, Params.load("view", settings), file)
    except CoaError as error:
        return found, f"the calls are not known: {error.what}"
    if found.is_same:
        return found, "their replies give this trajectory again, character by character"
    return found, (
        "the journal here does not give this trajectory: another journal, other settings, or a"
        " call that was not kept"
    )


def _relation(other: Related, row_id: str, sides: Collection[str]) -> str:
    """Name how another row of the question belongs to a row with this id."""
    is_pair = other.file.kind is FileKind.PAIRS
    is_within = other.row_id.startswith(f"{row_id}/")
    is_around = row_id.startswith(f"{other.row_id}/")
    if other.file.kind is FileKind.QUESTIONS:
        return "The question"
    if is_pair and (is_within or is_around):
        return "Pairs made of it"
    if other.row_id in sides:
        return "Its two sides"
    if is_around:
        return "It was forked from"
    return "Its forks" if is_within else "Other rows of this question"
