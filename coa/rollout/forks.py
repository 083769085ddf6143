"""Say how trajectories are forked: by which policy, with which prompts, and in which way.

`coa branch` forks by this, and `coa lineage` follows a fork back by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from coa.errors import ConfigError
from coa.policy import Turns
from coa.policy.chat.families import FAMILIES, ChatFamily, ForkWay
from coa.policy.chat.record import begun_thought, rebuild_messages
from coa.policy.prompts import Prompt, PromptParams
from coa.records.graded import RightBy
from coa.records.pairs import Arm, PairKind
from coa.records.trajectory import Step
from coa.rollout.factory import PolicyKind, TeacherParams, template_of
from coa.settings.params import Params
from coa.store.files import ANALYSED, BRANCHED, GRADED


class PointChoice(StrEnum):
    """The way in which the points of a trajectory are chosen."""

    CUE = "cue"
    """Before an action, or at the end of a sentence with the cue; among those by the seed."""
    BLAME = "blame"
    """By what the analysis blames, the policy's own doubt, and spread."""
    RANDOM = "random"
    """Before an action, or at the end of any sentence, by the seed: the control."""


class ArmChoice(StrEnum):
    """The arms of which continuations are made."""

    OTHER = "other"
    """The one that the trajectory did not take; the trajectory itself is the sample of its own."""
    BOTH = "both"
    """Both, until it is clear which is better, or the budget is spent."""


@dataclass(frozen=True, slots=True)
class BranchParams:
    """Where and how often to fork, and who writes the forks."""

    max_parents: dict[PairKind, int] = field(
        default_factory=lambda: {PairKind.ACT_IS_BETTER: 3000, PairKind.THINK_IS_BETTER: 3000}
    )
    """Trajectories to fork in the hope of each kind of pair, spread evenly over those that acted
    and those that did not. Acting helps more often than it harms, so the second kind needs more
    parents."""
    points_per_trajectory: int = 1
    """Points forked in each of them, where it has so many."""
    points: PointChoice = PointChoice.CUE
    """How points are chosen: `cue`, `blame` or `random`."""
    arms: ArmChoice = ArmChoice.OTHER
    """The arms of which continuations are made: `other` or `both`."""
    num_continuations: int = 1
    """Continuations of an arm at each point; with both arms the most that it may get."""
    first_continuations: int = 4
    """With both arms: continuations of each before the first look; every further look comes after
    as many more of each."""
    search_price: float = 0.0
    """With both arms: what one search takes from the worth of acting, in shares of a right
    answer."""
    min_worth: float = 0.3
    """With both arms: a pair is kept where acting is worth at least so much, either way."""
    confidence: float = 0.9
    """With both arms: a pair is kept where an interval of this confidence excludes zero; 0: where
    `min_worth` is reached, whatever the interval."""
    cue: str = (
        r"(?i)\b(need|find|look|search|check|sure|remember|recall|maybe|perhaps|wonder|"
        r"who|when|where|which)\b"
    )
    """Regular expression: a sentence with it is a place where a policy that reasoned on might have
    acted."""
    tool_cues: dict[str, str] = field(default_factory=dict)
    """For tools beside search, a regular expression each: at the end of a sentence with it the tool
    in question is this one."""
    seed: int = 0
    """Chooses trajectories and points."""
    right_by: RightBy = RightBy.EXACT_MATCH
    """What decides that a side of a pair is right: `exact_match`, `cover_match` or `judge`. A row
    of which no judge could tell is not forked, and is no side of a pair."""
    policy: TeacherParams | None = None
    """The policy that writes the forks, as in the section `teacher`; null: the teacher itself. Keys
    that are left out have the defaults of the code."""
    prompts: PromptParams | None = None
    """Its prompt files; null: those of the section `prompts`."""
    graded: str = GRADED.as_posix()
    """The trajectories to fork, with their grades."""
    analysed: str = ANALYSED.as_posix()
    """Why each of them failed; read where points are chosen by blame."""
    out: str = BRANCHED.as_posix()
    """The folder under data/ that gets pairs, forks and points; it names the metrics and the
    journal too."""


def forking_policy(params: Params) -> TeacherParams:
    """Return the settings of the policy that writes forks."""
    own = params.section(BranchParams, "branch").policy
    return own or params.section(TeacherParams, "teacher")


def load_prompts(params: Params) -> dict[Arm, Prompt]:
    """Load the prompt of each arm for the policy that writes forks: with the tool or without.

    Raises:
        ConfigError: A file is missing, or the policy writes tags and the prompts show none.
    """
    own = params.section(BranchParams, "branch")
    policy = forking_policy(params)
    files = own.prompts or params.section(PromptParams, "prompts")
    template = template_of(policy)
    prompts = {
        Arm.ACT: Prompt.load(Path(files.coa), template),
        Arm.THINK: Prompt.load(Path(files.cot), template),
    }
    writes_tags = policy.policy is not PolicyKind.CHAT
    if own.policy and writes_tags and not prompts[Arm.ACT].shown_tools:
        raise ConfigError(
            "the prompts show no tags, which the policy that writes the forks needs",
            where=f"branch.policy, with {files.coa}",
            fix="branch.prompts={coa: synth/prompts/coa.txt, cot: synth/prompts/cot.txt}",
        )
    return prompts


def family_of(policy: TeacherParams) -> ChatFamily | None:
    """Return what is known of a chat policy's server; None for other policies."""
    return FAMILIES[policy.chat.family] if policy.policy is PolicyKind.CHAT else None


def way_to(arm: Arm, family: ChatFamily | None) -> ForkWay | None:
    """Return the way in which a policy takes an arm; None where it cannot.

    Continuing inside a thought comes first, because both sides of a pair then share the thought. A
    policy that continues text has no family.
    """
    if family is None:
        return ForkWay.TEXT
    between_turns = ForkWay.FORCED_CALL if arm is Arm.ACT else ForkWay.TOOLS_WITHHELD
    for way in (ForkWay.PREFIX, between_turns):
        if way in family.forks:
            return way
    return None


def first_turns(
    prefix: Sequence[Step], arm: Arm, way: ForkWay, family: ChatFamily, tool: str = "search"
) -> Turns:
    """Return what a chat policy is sent with the first request of a fork after `prefix`.

    Raises:
        UnforkableError: The record does not hold all that must be sent.
    """
    turns = Turns((tool,) if arm is Arm.ACT else (), rebuild_messages(prefix, family))
    if way is ForkWay.FORCED_CALL:
        return Turns(turns.tools, turns.messages, must_call=tool)
    thought = begun_thought(prefix)
    if thought:
        return Turns(turns.tools, turns.messages, begun=thought)
    return turns


def require_budget(settings: BranchParams) -> None:
    """Refuse numbers of continuations and a confidence with which nothing could be decided.

    Raises:
        ConfigError: A number is below 1, or the confidence is not from 0 to below 1.
    """
    numbers = {
        "points_per_trajectory": settings.points_per_trajectory,
        "num_continuations": settings.num_continuations,
        "first_continuations": settings.first_continuations,
    }
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(
                "nothing can be forked so seldom",
                where=f"branch.{name}",
                expected="at least 1",
                got=number,
            )
    if not 0 <= settings.confidence < 1:
        raise ConfigError(
            "no interval has this confidence",
            where="branch.confidence",
            expected="from 0 to below 1, such as 0.9",
            got=settings.confidence,
        )


def require_forks(policy: TeacherParams, arms: ArmChoice = ArmChoice.OTHER) -> None:
    """Refuse a policy that cannot fork, and a chat policy that could only at another address.

    Raises:
        ConfigError: It renders its own format, continues a thought only elsewhere, or can take
            one arm alone where both are to be tried.
    """
    if policy.policy is PolicyKind.NATIVE:
        raise ConfigError(
            "a native policy cannot fork: no record has its own format's ids",
            where="teacher.policy, or that of branch.policy",
            fix="fork by raw completions on the same server (branch.policy, docs/teachers.md), or "
            "build no pairs: assemble.num_cot_a=0",
        )
    family = family_of(policy)
    for arm in Arm if arms is ArmChoice.BOTH else ():
        if way_to(arm, family) is None:
            raise ConfigError(
                f"the family {policy.chat.family} has no way to take the arm {arm}",
                where="branch.arms, for the policy of branch.policy, or teacher",
                expected="a policy that can be made to act and to think at the same point",
                got="branch.arms=both",
                fix="set branch.arms=other, or fork by raw completions (branch.policy, "
                "docs/teachers.md)",
            )
    if family is None or not family.prefix_address:
        return
    for address in policy.server.addresses:
        if not address.endswith(family.prefix_address):
            raise ConfigError(
                f"the family {policy.chat.family} continues inside a thought only at an address "
                f"that ends with {family.prefix_address}, and so it forks only there",
                where="the server of branch.policy, or of teacher",
                got=address,
                fix="set its base_url to that address: it answers all else, too, and no finished "
                "call is paid again; or fork by raw completions (branch.policy, docs/teachers.md)",
            )
