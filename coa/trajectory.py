"""The record that flows through everything: one trajectory, step by step, with who wrote each character.

A trajectory's text is its prompt followed by its steps, joined as they are. Every step has one author, recorded when
its text was made; masks, exports and reviews derive from that and never search the text (docs/data_model.md).
"""

from dataclasses import dataclass
from enum import StrEnum

SCHEMA_VERSION = 1
"""Raised with every change of a column; stored in each file."""


class Author(StrEnum):
    """Who wrote a span of text."""

    POLICY = "policy"
    """The model that was sampled. Only its text is trained (but for the world model of SFT stage 3)."""
    ENVIRONMENT = "environment"
    """A tool's observation."""
    SCAFFOLD = "scaffold"
    """The runtime: the prompt, an inserted trigger, the marker that forces an answer."""


class StepKind(StrEnum):
    """What a step is."""

    THOUGHT = "thought"
    """Reasoning inside `think`."""
    ACTION = "action"
    """A call of a tool, opening tag to closing tag."""
    OBSERVATION = "observation"
    """What the tool returned, with its tags."""
    ANSWER = "answer"
    """From the end of the thinking on (or from the forced answer's marker on)."""
    MARKER = "marker"
    """Text that the scaffold inserted to make the policy act or answer."""


class Mode(StrEnum):
    """Whether the tools are offered."""

    COT = "cot"
    """Chain of thought: reasoning only, no tool."""
    COA = "coa"
    """Chain of action: the policy may act."""


class Outcome(StrEnum):
    """What became of an action."""

    OK = "ok"
    """The tool answered."""
    EMPTY = "empty"
    """The tool answered that it found nothing."""
    INVALID = "invalid"
    """The policy's arguments cannot be used (an empty or overlong query); the observation says so."""
    ERROR = "error"
    """The tool itself failed; no observation was shown."""
    SIMULATED = "simulated"
    """No tool was asked: the policy itself wrote what it would have returned (AutoCoA's RL stage 1)."""


class StopReason(StrEnum):
    """Why a rollout ended."""

    ANSWERED = "answered"
    """The policy closed its thinking, answered and ended."""
    ACTION_BUDGET = "action_budget"
    """The actions were used up; the policy answered after the scaffold's marker."""
    CONTEXT_BUDGET = "context_budget"
    """The context was used up; the policy answered after the scaffold's marker."""
    NO_ANSWER = "no_answer"
    """The policy ended without closing its thinking."""
    TRUNCATED = "truncated"
    """The answer itself ran into its limit."""
    FORBIDDEN_ACTION = "forbidden_action"
    """The policy acted where no tool was offered."""
    MALFORMED = "malformed"
    """The policy broke the tags so that the loop cannot go on: a closing tag without its opening one, or an action
    after the end of the thinking."""
    TOOL_ERROR = "tool_error"
    """A tool failed after its retries. The failed call is not kept: a re-run tries again."""
    POLICY_ERROR = "policy_error"
    """The policy's server refused this one request, or failed at it alone until the patience ended.
    The failed call is not kept: a re-run tries again."""


FORCED_STOPS = frozenset({StopReason.ACTION_BUDGET, StopReason.CONTEXT_BUDGET})
"""The rollouts whose answer was forced."""
FAILED_STOPS = frozenset({StopReason.TOOL_ERROR, StopReason.POLICY_ERROR})
"""The rollouts that a tool or the policy's server failed; the policy is not to blame."""


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
    """Actions: what stands between the tags, stripped."""
    outcome: Outcome | None = None
    """Observations: what became of the action."""
    passages: tuple[str, ...] = ()
    """Observations: ids of the passages shown, in order."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the policy was sampled."""

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
    """Which rollout of this question and mode, from 0."""
    question: str
    """As asked; tags in it are neutralised in the prompt only."""
    prompt: str
    """What the policy was given before its first own token, verbatim."""
    steps: tuple[Step, ...]
    stop_reason: StopReason
    model: str
    """The policy's name, as its server knows it."""
    sampling: Sampling
    prompt_hash: str
    """SHA-256 of the prompt's file inside its chat template, before a question is filled in; first 16 hex digits."""
    search_fingerprint: str
    """Corpus, engine and settings that answered; empty where no tool was offered."""
    num_prompt_tokens: int
    """What was there before the first own token: the prompt, and in a fork its prefix."""
    num_policy_tokens: int
    """Written in this rollout; in a fork without its prefix."""
    num_environment_tokens: int
    """Read in this rollout; in a fork without its prefix."""
    num_calls: int
    """Requests to the policy in this rollout."""
    num_actions: int
    """Actions among the steps, in a fork with those of its prefix: they count against the budget."""
    error: str = ""
    """What a failing tool or server said, for the two error stops."""


def trajectory_id(question_id: str, mode: Mode, index: int) -> str:
    """The id of a rollout: `{question_id}/{mode}/{index}`."""
    return f"{question_id}/{mode}/{index}"


def fork_id(parent_id: str, point: int, arm: str, k: int) -> str:
    """The id of the k-th continuation of one arm at a point: `{parent_id}/{point}/{arm}/{k}`."""
    return f"{parent_id}/{point}/{arm}/{k}"
