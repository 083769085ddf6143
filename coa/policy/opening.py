"""From the section `teacher` of params.yaml to the policy that it describes."""

from dataclasses import dataclass, field
from enum import StrEnum

from coa.microworld import MicroworldParams
from coa.policy import Policy
from coa.policy.completions import ServerSettings
from coa.trajectory import Sampling


class PolicyKind(StrEnum):
    """Which policy a section describes."""

    MICROWORLD = "microworld"
    """The scripted teacher of the microworld: no model, no keys."""
    COMPLETIONS = "completions"
    """A server with OpenAI-compatible raw completions, such as vLLM."""


@dataclass(frozen=True, slots=True)
class TeacherParams:
    """The policy that writes trajectories."""

    policy: PolicyKind = PolicyKind.MICROWORLD
    chat_template: str = "{prompt}\n\n"
    """The model's chat format around `{prompt}`, up to where its own text begins; the thinking is opened after it."""
    sampling: Sampling = field(default_factory=Sampling)
    concurrency: int = 64
    """Rollouts in hand at once."""
    server: ServerSettings = field(default_factory=ServerSettings)
    """For `completions`."""


def open_policy(params: TeacherParams, microworld: MicroworldParams) -> Policy:
    """The policy that `params` describes; `microworld` is read only by the microworld's teacher.

    Raises:
        MissingExtraError: it needs an optional dependency.
        ConfigError: its settings are wrong.
    """
    if params.policy is PolicyKind.COMPLETIONS:
        from coa.policy.completions import CompletionsPolicy

        return CompletionsPolicy(params.server)
    from coa.microworld import scripted_teacher

    return scripted_teacher(microworld)
