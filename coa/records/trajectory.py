"""Define the record that every stage shares: one trajectory, step by step, with its authors.

A trajectory's text is its prompt followed by its steps, joined as they are. Every step has one
author, recorded when its text was made. Masks, exports and reviews derive from that author and
never search the text (docs/data_model.md).
"""

from dataclasses import dataclass, replace
from enum import StrEnum

SCHEMA_VERSION = 1
"""The version of the columns. It is raised with every change of one, and stored in each file. A
column that is added with a default leaves it as it is: files without the column are read."""


class Author(StrEnum):
    """The author of a span of text."""

    POLICY = "policy"
    """The model that was sampled. Only its text is trained (except in SFT stage 3, where the model
    also learns to predict observations)."""
    ENVIRONMENT = "environment"
    """A tool's observation."""
    SCAFFOLD = "scaffold"
    """The runtime: the prompt, an inserted trigger, the marker that forces an answer."""


class StepKind(StrEnum):
    """The kind of a step."""

    THOUGHT = "thought"
    """Reasoning inside `think`."""
    ACTION = "action"
    """A call of a tool, from the opening tag to the closing tag."""
    OBSERVATION = "observation"
    """What the tool returned, with its tags."""
    ANSWER = "answer"
    """All text after the end of the thinking, or after the marker that forced an answer."""
    MARKER = "marker"
    """Text that the scaffold inserted to make the policy act or answer."""


class Mode(StrEnum):
    """The mode of a rollout: whether tools are offered."""

    COT = "cot"
    """Chain of thought: reasoning only, no tool."""
    COA = "coa"
    """Chain of action: the policy may act."""


class Outcome(StrEnum):
    """The outcome of an action."""

    OK = "ok"
    """The tool answered."""
    EMPTY = "empty"
    """The tool answered that it found nothing."""
    INVALID = "invalid"
    """The policy's argument is unusable (an empty or overlong query); the observation says so."""
    ERROR = "error"
    """The tool itself failed; no observation was shown."""
    SIMULATED = "simulated"
    """No tool was asked: the policy itself wrote the reply (AutoCoA's RL stage 1)."""


class StopReason(StrEnum):
    """The reason why a rollout ended."""

    ANSWERED = "answered"
    """The policy closed its thinking, answered and ended."""
    ACTION_BUDGET = "action_budget"
    """The actions were used up; the policy answered after the scaffold's marker."""
    CONTEXT_BUDGET = "context_budget"
    """The context was used up; the policy answered after the scaffold's marker."""
    UNBOXED = "unboxed"
    """A turn ended without a boxed answer; the policy answered after the scaffold's marker."""
    NO_ANSWER = "no_answer"
    """The policy ended without closing its thinking."""
    TRUNCATED = "truncated"
    """The answer itself ran into its limit."""
    TURN_BUDGET = "turn_budget"
    """One turn of the policy had as many tokens as a turn may have."""
    FORBIDDEN_ACTION = "forbidden_action"
    """The policy acted where no tool was offered."""
    MALFORMED = "malformed"
    """The loop cannot continue: the policy wrote a closing tag without an opening one, or an action
    after the end of the thinking, or a native call that cannot be read (`error` says why)."""
    TOOL_ERROR = "tool_error"
    """A tool failed after its retries. The failed call is not kept: a re-run tries again."""
    POLICY_ERROR = "policy_error"
    """The policy's server refused this request, or kept failing at this one alone until the
    deadline. The failed call is not kept: a re-run tries again."""


BUDGET_STOPS = frozenset({StopReason.ACTION_BUDGET, StopReason.CONTEXT_BUDGET})
"""The reasons of rollouts whose answer was forced because a budget was used up."""
FORCED_STOPS = BUDGET_STOPS | {StopReason.UNBOXED}
"""The reasons of rollouts whose answer was forced."""
FAILED_STOPS = frozenset({StopReason.TOOL_ERROR, StopReason.POLICY_ERROR})
"""The reasons of rollouts in which a tool or the server failed; the policy is not to blame."""


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of the text with one kind and one author."""

    kind: StepKind
    author: Author
    text: str
    """Verbatim, tags included."""
    tool: str | None = None
    """Actions and observations: the tool's name."""
    argument: str | None = None
    """Actions: the text between the tags, stripped."""
    outcome: Outcome | None = None
    """Observations: the outcome of the action."""
    passages: tuple[str, ...] = ()
    """Observations: the ids of the passages shown, in order."""
    transcribed: str | None = None
    """The policy's own text where `text` was written by us after it, as for a chat policy: an
    action's arguments as JSON, an answer without our tags, a thought whose tags we broke, the
    reasoning of a thought to which we joined what was said beside the call. None where `text` is
    the policy's own to the character. A thought that is cut or continued later keeps that of the
    whole."""
    cut_calls: tuple[str, ...] = ()
    """Actions: further calls that the policy made in the same turn, as JSON; none was made."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """The settings with which the policy is sampled.

    In a record, temperature and top-p are -1 where the policy's server does not take them.
    """

    temperature: float = 0.6
    """Sampling temperature."""
    top_p: float = 1.0
    """Nucleus sampling: the share of probability that is kept."""
    seed: int = 0
    """The run's seed; each call derives its own from it, the trajectory's id and the turn."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One finished rollout of one question."""

    trajectory_id: str
    """`{question_id}/{mode}/{index}`; a fork appends `/{point}/{arm}/{k}` to its parent's."""
    question_id: str
    mode: Mode
    index: int
    """The number of this rollout among those of its question and mode, from 0."""
    question: str
    """The question as asked; tags in it are neutralised in the prompt only."""
    prompt: str
    """The text that the policy was given before its first own token, verbatim."""
    steps: tuple[Step, ...]
    stop_reason: StopReason
    model: str
    """The policy's name, as its server knows it."""
    sampling: Sampling
    prompt_hash: str
    """The first 16 hex digits of the SHA-256 of the prompt file inside its chat template, before a
    question is filled in."""
    search_fingerprint: str
    """The corpus, engine and settings that answered; empty where no tool was offered."""
    num_prompt_tokens: int
    """Tokens before the policy's first own token: the prompt, and in a fork its prefix."""
    num_policy_tokens: int
    """Tokens that the policy wrote in this rollout; a fork's prefix is not counted."""
    num_environment_tokens: int
    """Tokens of observations in this rollout; a fork's prefix is not counted."""
    num_calls: int
    """Requests to the policy in this rollout."""
    num_actions: int
    """Actions among the steps. Those of a fork's prefix are counted: they use up the budget."""
    error: str = ""
    """What the failing tool or server said, for the two error stops."""
    origin: str = ""
    """Imported trajectories: who published them; empty for those of this project's own runs."""
    license: str = ""
    """Imported trajectories: their licence; empty for those of this project's own runs."""


def is_imported(trajectory: Trajectory) -> bool:
    """Tell whether a trajectory was read from a file of others (`coa ingest`).

    Such files do not say how the policy was sampled, and the record has a seed below zero, too.
    """
    return trajectory.sampling.temperature < 0 and trajectory.sampling.seed < 0


def describe_sampling(sampling: Sampling) -> str:
    """Say in a line how a policy was sampled."""
    temperature = "not sent" if sampling.temperature < 0 else f"{sampling.temperature:g}"
    top_p = "not sent" if sampling.top_p < 0 else f"{sampling.top_p:g}"
    return f"temperature {temperature}, top-p {top_p}, seed {sampling.seed}"


def count_actions(trajectory: Trajectory, tool: str) -> int:
    """Count the calls of one tool, those in a fork's prefix too."""
    count = 0
    for step in trajectory.steps:
        if step.kind is StepKind.ACTION and step.tool == tool:
            count += 1
    return count


def trajectory_id(question_id: str, mode: Mode, index: int) -> str:
    """Return the id of a rollout: `{question_id}/{mode}/{index}`."""
    return f"{question_id}/{mode}/{index}"


def fork_id(parent_id: str, point: int, arm: str, k: int) -> str:
    """Return the id of the k-th continuation of one arm at a point.

    Its form is `{parent_id}/{point}/{arm}/{k}`.
    """
    return f"{parent_id}/{point}/{arm}/{k}"


def merge_thoughts(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Join a thought that was cut at the end of a fork's prefix with its continuation."""
    merged: list[Step] = []
    for step in steps:
        last = merged[-1] if merged else step
        is_thought = last.kind is step.kind is StepKind.THOUGHT
        if merged and is_thought and last.author is step.author:
            own = last.transcribed
            if own is None and step.transcribed is not None:
                own = last.text + step.transcribed
            merged[-1] = replace(last, text=last.text + step.text, transcribed=own)
        else:
            merged.append(step)
    return tuple(merged)
