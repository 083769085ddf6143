"""Write the lines of a lineage that need the settings: the prompt's file and the calls."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from coa.call_search import find_calls, journal_of, policy_of, prompts_of
from coa.calls import RecordedCall, Replay, fork_point
from coa.errors import CoaError
from coa.factory import PolicyKind, TeacherParams, template_of
from coa.files import RECORDED
from coa.journal import CallKind
from coa.params import Params
from coa.prompts import Prompt
from coa.trajectory import Mode, Step, StepKind, Trajectory, is_imported
from data_cards import rows
from data_cards.facts import collect, scan


class NamedFact(NamedTuple):
    """A name and what belongs to it."""

    name: str
    value: str


def prompt_line(trajectory: Trajectory, params: Params) -> str:
    """Name the prompt's file, if its hash is the trajectory's, and the hash."""
    files = prompts_of(trajectory, params)
    writer = policy_of(trajectory, params)
    path = Path(files.cot if trajectory.mode is Mode.COT else files.coa)
    try:
        is_same = Prompt.load(path, template_of(writer)).prompt_hash == trajectory.prompt_hash
    except CoaError:
        is_same = False
    name = f"{path}" if is_same else f"another version of {path}"
    line = f"{name}, hash {trajectory.prompt_hash}"
    if is_imported(trajectory):
        return f"{line}, put before it here; what its model was asked with is not recorded"
    return line


def writer_of(trajectory: Trajectory) -> str:
    """Say who wrote a trajectory of this project's own runs: another policy may write the forks."""
    return "forked by" if fork_point(trajectory.trajectory_id) else "teacher"


def call_lines(trajectory: Trajectory, params: Params) -> Iterator[NamedFact]:
    """Yield every call of the policy and of search, then whether they give the same trajectory.

    Raises:
        ConfigError: the teacher's settings are wrong.
    """
    if is_imported(trajectory):
        yield from _imported_lines(trajectory)
        return
    journal = journal_of(trajectory, params)
    writer = policy_of(trajectory, params)
    found = find_calls(trajectory, params)
    who = writer_of(trajectory)
    for call in found.calls:
        yield _call_line(call, who)
    for number, step in enumerate(_observations(trajectory), 1):
        passages = ", ".join(step.passages) or "nothing"
        yield NamedFact(
            f"result {number}", f"{step.outcome}: {passages}, by {trajectory.search_fingerprint}"
        )
    if found.cost.text:
        yield NamedFact("cost", found.cost.text)
    yield NamedFact("journal", f"{journal}: {_verdict(found, journal, writer)}")


def _call_line(call: RecordedCall, who: str) -> NamedFact:
    cost = f"{call.cost.text}, " if call.cost.text else ""
    when = (
        f"{call.finished_at or 'not in this journal'}, {call.seconds:.2f} s, {cost}key {call.key}"
    )
    if call.kind is CallKind.POLICY:
        return NamedFact(who, f"{when}: {call.text[-80:]}")
    return NamedFact("search", f"{when}: {call.text}")


def _imported_lines(trajectory: Trajectory) -> Iterator[NamedFact]:
    yield NamedFact("imported", "from a file of other people's: no call of this project made it")
    yield NamedFact("stands in", _place(trajectory))
    for number, step in enumerate(_observations(trajectory), 1):
        titles = f"; the file names {', '.join(step.passages)}" if step.passages else ""
        yield NamedFact(
            f"result {number}",
            f"imported: what answered is not recorded and cannot be checked{titles}",
        )


def _place(trajectory: Trajectory) -> str:
    """Say in which file and line an imported trajectory stands, where that is known."""
    if not rows.is_in_run(trajectory):
        path = rows.run_file(trajectory)
        return f"not known: {path} is missing or does not hold this trajectory"
    frame = scan(RECORDED, ["trajectory_id", "file", "line"])
    found = collect(frame.filter(pl.col("trajectory_id") == trajectory.trajectory_id)).to_dicts()
    if not found:
        return f"not known: {RECORDED} does not name it"
    return f"{found[0]['file']}, line {found[0]['line']}"


def _observations(trajectory: Trajectory) -> list[Step]:
    return [step for step in trajectory.steps if step.kind is StepKind.OBSERVATION]


def _verdict(found: Replay, journal: Path, teacher: TeacherParams) -> str:
    if found.is_same:
        return "its replies give this trajectory again, character by character"
    if not journal.exists():
        return "not here; calls stay where they were made"
    if teacher.policy is PolicyKind.LOCAL:
        return f"the calls cannot be proven: {_local_doubt(teacher.local.model)}"
    return (
        "does not give this trajectory: "
        "other settings, another journal, or a call that was not kept"
    )


def _local_doubt(model: str) -> str:
    """Say why a local model's calls were not found; the key of a call holds the weights."""
    if not Path(model).is_dir():
        return f"the model's folder {model!r} is not here"
    return f"other weights than those now in {model!r}, other settings, or another journal"
