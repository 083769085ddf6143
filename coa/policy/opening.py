"""From the section `teacher` of params.yaml to the policy that it describes."""

from dataclasses import dataclass, field
from enum import StrEnum

from coa.microworld.opening import MicroworldParams, scripted_teacher
from coa.policy import BatchPolicy, Policy
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.local import LocalPolicy, LocalSettings
from coa.trajectory import Sampling


class PolicyKind(StrEnum):
    """Which policy a section describes."""

    MICROWORLD = "microworld"
    """The scripted teacher of the microworld: no model, no keys."""
    COMPLETIONS = "completions"
    """A server with OpenAI-compatible raw completions, such as vLLM."""
    LOCAL = "local"
    """A transformers model in this process."""


AnyPolicy = Policy | BatchPolicy
"""A server's policy or an engine in this process; each has its driver."""


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
    local: LocalSettings = field(default_factory=LocalSettings)
    """For `local`."""


def open_policy(params: TeacherParams, microworld: MicroworldParams) -> AnyPolicy:
    """The policy that `params` describes; `microworld` is read only by the microworld's teacher.

    Raises:
        MissingExtraError: it needs an optional dependency.
        ConfigError: its settings are wrong.
    """
    if params.policy is PolicyKind.COMPLETIONS:
        return CompletionsPolicy(params.server)
    if params.policy is PolicyKind.LOCAL:
        return LocalPolicy.load(params.local)
    return scripted_teacher(microworld)
