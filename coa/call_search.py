"""Find the calls behind a trajectory of this run, as its settings say: the journal, the policy.

`find_calls` opens what the requests were made with, and runs the rollout again from the journal.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import yaml

from coa.calls import Replay, fork_point, replay
from coa.factory import PolicyKind, TeacherParams, open_policy, template_of
from coa.files import EVALUATED
from coa.forking import BranchParams, family_of, forking_policy, load_prompts
from coa.microworld.factory import MicroworldParams
from coa.model_files import evaluation_journal
from coa.outputs import journal_name
from coa.pairs import Arm
from coa.params import Params
from coa.policy import Encoder
from coa.policy.local.model import load_encoders
from coa.policy.react import SUFFIX, react_encoder
from coa.prices import CostParams
from coa.prompts import Prompt, PromptParams
from coa.rollout import Limits, RolloutContext
from coa.runtime import JOURNALS
from coa.shard_files import JOURNAL
from coa.tools.factory import ToolsParams, own_tools
from coa.trajectory import Trajectory


class Maker(NamedTuple):
    """What made a trajectory, as the settings say."""

    policy: TeacherParams
    limits: Limits
    journal: Path


def find_calls(trajectory: Trajectory, params: Params, file: Path | None = None) -> Replay:
    """Find the calls of a trajectory that was not imported, and what they cost.

    Args:
        trajectory: The trajectory.
        params: The settings of the run.
        file: Where it stands: evaluations and shards have journals of their own.

    Raises:
        ConfigError: the settings are wrong.
        InputError: the journal is damaged.
    """
    maker = _maker_of(trajectory, params, file)
    encoders = _open_encoders(maker.policy, params)
    if trajectory.model.endswith(SUFFIX):
        encoders = [react_encoder(encoder) for encoder in encoders]
    return _replay_with(encoders, trajectory, params, maker)


def _maker_of(trajectory: Trajectory, params: Params, file: Path | None) -> Maker:
    """Tell what made a trajectory; a model in a folder here is named by the trajectory itself."""
    if file is None:
        file = Path()
    beside = file.parent / JOURNAL
    is_of_shard = beside.exists()
    # The folder above a shard's is named after the journal of the whole work.
    work = file.parent.parent.name.partition("-")[0] if is_of_shard else file.parent.name
    if work == EVALUATED.name:
        policy = params.section(TeacherParams, "evaluate.policy")
        limits = params.section(Limits, "evaluate.limits")
        model = trajectory.model.removesuffix(SUFFIX)
        if Path(model).is_dir():
            local = replace(policy.local, model=model)
            policy = replace(policy, policy=PolicyKind.LOCAL, local=local)
        journal = JOURNALS / f"{evaluation_journal(file.stem, model)}.sqlite"
    else:
        policy = policy_of(trajectory, params)
        limits = params.section(Limits, "rollout")
        journal = journal_of(trajectory, params)
    return Maker(policy, limits, beside if is_of_shard else journal)


def policy_of(trajectory: Trajectory, params: Params) -> TeacherParams:
    """Return the settings of the policy that wrote a trajectory: forks may have one of their own.

    Raises:
        ConfigError: the settings are wrong.
    """
    if fork_point(trajectory.trajectory_id):
        return forking_policy(params)
    return params.section(TeacherParams, "teacher")


def prompts_of(trajectory: Trajectory, params: Params) -> PromptParams:
    """Return the prompts of the policy that wrote a trajectory."""
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


def _open_encoders(teacher: TeacherParams, params: Params) -> Sequence[Encoder]:
    """Open what the teacher's requests were made with; of a local model, only the tokenizer."""
    if teacher.policy is PolicyKind.LOCAL:
        return load_encoders(teacher.local)
    return [open_policy(teacher, params.section(MicroworldParams, "microworld"))]


def _replay_with(
    encoders: Sequence[Encoder], trajectory: Trajectory, params: Params, maker: Maker
) -> Replay:
    """Replay a trajectory with each encoder and return the first replay that gives it again.

    Where none does, the one with the most calls is returned.
    """
    opening = _opening_prompt(trajectory, params)
    prices = params.section(CostParams, "costs")
    family = family_of(maker.policy)
    tools = tool_names(params)
    best = Replay((), is_same=False)
    for encoder in encoders:
        search = trajectory.search_fingerprint
        run = RolloutContext(encoder, trajectory.sampling, maker.limits, search)
        prompt = opening.for_policy(encoder).fill(trajectory.question) if opening else ""
        found = replay(trajectory, run, maker.journal, tools, family, prompt, prices)
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
