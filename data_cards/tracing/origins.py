"""Write the lines of a lineage that need the settings: the prompt's file and the calls."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import yaml

from coa.errors import CoaError
from coa.factory import PolicyKind, TeacherParams, open_policy, template_of
from coa.files import RECORDED
from coa.forking import BranchParams, family_of, forking_policy, load_prompts
from coa.journal import CallKind
from coa.microworld.factory import MicroworldParams
from coa.outputs import journal_name
from coa.pairs import Arm
from coa.params import Params
from coa.policy import Encoder
from coa.policy.local.model import load_encoders
from coa.prompts import Prompt, PromptParams
from coa.rollout import Limits, RolloutContext
from coa.runtime import JOURNALS
from coa.tools.factory import ToolsParams, own_tools
from coa.trajectory import Mode, Step, StepKind, Trajectory, is_imported
from data_cards import rows
from data_cards.facts import collect, scan
from data_cards.tracing.calls import RecordedCall, Replay, fork_point, replay


class NamedFact(NamedTuple):
    """A name and what belongs to it."""

    name: str
    value: str


def prompt_line(trajectory: Trajectory, params: Params) -> str:
    """Name the prompt's file, if its hash is the trajectory's, and the hash."""
    files = _prompts_of(trajectory, params)
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


def policy_of(trajectory: Trajectory, params: Params) -> TeacherParams:
    """Return the settings of the policy that wrote a trajectory: forks may have one of their own.

    Raises:
        ConfigError: the settings are wrong.
    """
    if fork_point(trajectory.trajectory_id):
        return forking_policy(params)
    return params.section(TeacherParams, "teacher")


def _prompts_of(trajectory: Trajectory, params: Params) -> PromptParams:
    own = None
    if fork_point(trajectory.trajectory_id):
        own = params.section(BranchParams, "branch").prompts
    return own or params.section(PromptParams, "prompts")


def journal_of(trajectory: Trajectory, params: Params) -> Path:
    """Return the journal that holds a trajectory's calls; each stage that samples has its own."""
    if fork_point(trajectory.trajectory_id):
        forks = params.section(BranchParams, "branch").out
        return JOURNALS / f"{journal_name(forks)}.sqlite"
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
    prompt = Prompt.load(path, template_of(params.section(TeacherParams, "teacher")))
    others = [name for name in prompt.shown_tools if name not in own]
    return (*own, *others)


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
    found = _replay_with(_open_encoders(writer, params), trajectory, params, journal)
    who = writer_of(trajectory)
    for call in found.calls:
        yield _call_line(call, who)
    for number, step in enumerate(_observations(trajectory), 1):
        passages = ", ".join(step.passages) or "nothing"
        yield NamedFact(
            f"result {number}", f"{step.outcome}: {passages}, by {trajectory.search_fingerprint}"
        )
    yield NamedFact("journal", f"{journal}: {_verdict(found, journal, writer)}")


def _open_encoders(teacher: TeacherParams, params: Params) -> Sequence[Encoder]:
    """Open what the teacher's requests were made with; of a local model, only the tokenizer."""
    if teacher.policy is PolicyKind.LOCAL:
        return load_encoders(teacher.local)
    return [open_policy(teacher, params.section(MicroworldParams, "microworld"))]


def _replay_with(
    encoders: Sequence[Encoder], trajectory: Trajectory, params: Params, journal: Path
) -> Replay:
    """Replay a trajectory with each encoder and return the first replay that gives it again.

    Where none does, the one with the most calls is returned.
    """
    limits = params.section(Limits, "rollout")
    opening = _opening_prompt(trajectory, params)
    best = Replay((), is_same=False)
    for encoder in encoders:
        run = RolloutContext(encoder, trajectory.sampling, limits, trajectory.search_fingerprint)
        family = family_of(policy_of(trajectory, params))
        prompt = opening.for_policy(encoder).fill(trajectory.question) if opening else ""
        found = replay(trajectory, run, journal, tool_names(params), family, prompt)
        if found.is_same:
            return found
        if len(found.calls) > len(best.calls):
            best = found
    return best


def _opening_prompt(trajectory: Trajectory, params: Params) -> Prompt | None:
    """Load the prompt without tools under which a fork may have begun; None for other rows."""
    if not fork_point(trajectory.trajectory_id):
        return None
    return load_prompts(params)[Arm.THINK]


def _call_line(call: RecordedCall, who: str) -> NamedFact:
    when = f"{call.finished_at or 'not in this journal'}, {call.seconds:.2f} s, key {call.key}"
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
