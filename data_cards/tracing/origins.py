"""Write the lines of a lineage that need the settings: the prompt's file and the calls."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from coa.errors import CoaError
from coa.factory import PolicyKind, TeacherParams, open_policy
from coa.journal import CallKind
from coa.microworld.factory import MicroworldParams
from coa.outputs import journal_name
from coa.params import Params
from coa.prompts import Prompt, PromptParams
from coa.rollout import Limits, RolloutContext
from coa.runtime import JOURNALS
from coa.tools.factory import ToolsParams, own_tools
from coa.trajectory import Mode, Step, StepKind, Trajectory
from data_cards.tracing.calls import RecordedCall, Replay, fork_point, replay


class NamedFact(NamedTuple):
    """A name and what belongs to it."""

    name: str
    value: str


def prompt_line(trajectory: Trajectory, params: Params) -> str:
    """Name the prompt's file, if its hash is the trajectory's, and the hash."""
    files = params.section(PromptParams, "prompts")
    template = params.section(TeacherParams, "teacher").chat_template
    path = Path(files.cot if trajectory.mode is Mode.COT else files.coa)
    try:
        is_same = Prompt.load(path, template).prompt_hash == trajectory.prompt_hash
    except CoaError:
        is_same = False
    name = f"{path}" if is_same else f"another version of {path}"
    return f"{name}, hash {trajectory.prompt_hash}"


def journal_of(trajectory: Trajectory, params: Params) -> Path:
    """Return the journal that holds a trajectory's calls; each stage that samples has its own."""
    if fork_point(trajectory.trajectory_id):
        return JOURNALS / "branch.sqlite"
    out = yaml.safe_load(params.dump(["sample"]))["sample"]["out"]
    return JOURNALS / f"{journal_name(out, trajectory.mode)}.sqlite"


def tool_names(params: Params) -> tuple[str, ...]:
    """Return the tools that a run offers, as far as the settings say.

    The tools of an MCP server are those that the prompt shows.

    Raises:
        ConfigError: the settings are wrong.
    """
    tools = params.section(ToolsParams, "tools")
    own = ("search", *own_tools(tools))
    if not tools.mcp:
        return own
    path = Path(params.section(PromptParams, "prompts").coa)
    prompt = Prompt.load(path, params.section(TeacherParams, "teacher").chat_template)
    others = [name for name in prompt.shown_tools if name not in own]
    return (*own, *others)


def is_imported(trajectory: Trajectory) -> bool:
    """Return whether a trajectory was read from a file of other people's (`synth.ingest`).

    Such files do not say how the policy was sampled, and the record has a temperature below zero.
    """
    return trajectory.sampling.temperature < 0


def call_lines(trajectory: Trajectory, params: Params) -> Iterator[NamedFact]:
    """Yield every call of the teacher and of search, then whether they give the same trajectory.

    Raises:
        ConfigError: the teacher's settings are wrong.
    """
    if is_imported(trajectory):
        yield from _imported_lines(trajectory)
        return
    journal = journal_of(trajectory, params)
    teacher = params.section(TeacherParams, "teacher")
    if teacher.policy is PolicyKind.LOCAL:
        yield NamedFact(
            "not found",
            "a model in the process counts its own tokens; its calls are found while it is loaded",
        )
        found = Replay((), is_same=False)
    else:
        policy = open_policy(teacher, params.section(MicroworldParams, "microworld"))
        limits = params.section(Limits, "rollout")
        run = RolloutContext(policy, trajectory.sampling, limits, trajectory.search_fingerprint)
        found = replay(trajectory, run, journal, tool_names(params))
    for call in found.calls:
        yield _call_line(call)
    for number, step in enumerate(_observations(trajectory), 1):
        passages = ", ".join(step.passages) or "nothing"
        yield NamedFact(
            f"result {number}", f"{step.outcome}: {passages}, by {trajectory.search_fingerprint}"
        )
    yield NamedFact("journal", f"{journal}: {_verdict(found, journal)}")


def _call_line(call: RecordedCall) -> NamedFact:
    when = f"{call.finished_at or 'not in this journal'}, {call.seconds:.2f} s, key {call.key}"
    if call.kind is CallKind.POLICY:
        return NamedFact("teacher", f"{when}: {call.text[-80:]}")
    return NamedFact("search", f"{when}: {call.text}")


def _imported_lines(trajectory: Trajectory) -> Iterator[NamedFact]:
    yield NamedFact("imported", "from a file of other people's: no call of this project made it")
    for number, step in enumerate(_observations(trajectory), 1):
        titles = f"; the file names {', '.join(step.passages)}" if step.passages else ""
        yield NamedFact(
            f"result {number}",
            f"imported: what answered is not recorded and cannot be checked{titles}",
        )


def _observations(trajectory: Trajectory) -> list[Step]:
    return [step for step in trajectory.steps if step.kind is StepKind.OBSERVATION]


def _verdict(found: Replay, journal: Path) -> str:
    if found.is_same:
        return "its replies give this trajectory again, character by character"
    if not journal.exists():
        return "not here; calls stay where they were made"
    return (
        "does not give this trajectory: "
        "other settings, another journal, or a call that was not kept"
    )
