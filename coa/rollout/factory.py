"""Open the policy that a section of params.yaml describes, such as `teacher`.

A policy is imported when it is opened: a run loads the one that it asks.
"""

from dataclasses import dataclass, field
from inspect import isfunction

from coa.errors import ConfigError
from coa.interruption import tell
from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.own_parts import PartKind, load_part, names_own_part
from coa.policy import AnyPolicy
from coa.policy.chat.families import ChatSettings, require_plain_template
from coa.policy.chat_templates import own_template
from coa.policy.local.model import LocalPolicy, LocalSettings, load_tokenizer
from coa.policy.scripted import policy_of
from coa.policy.server_settings import ServerSettings
from coa.policy.teacher.titled import GoldSettings, gold_teacher
from coa.records.trajectory import Sampling


class PolicyKind(PartKind):
    """Which policy a section describes; or your own, as `module:name`."""

    MICROWORLD = "microworld"
    """The scripted teacher for questions about the microworld: no model, no keys."""
    COMPLETIONS = "completions"
    """A server with OpenAI-compatible raw completions, such as vLLM."""
    CHAT = "chat"
    """A server with OpenAI-compatible chat: native tool calls and visible reasoning."""
    NATIVE = "native"
    """An open model in its own format: its chat template is rendered here, and its ids are sent to
    raw completions."""
    LOCAL = "local"
    """A transformers model in this process."""
    GOLD = "gold"
    """The same script for the questions of a table with answers, and gold titles where they are
    known: no model, no keys."""
    SCRIPTED_JUDGE = "scripted_judge"
    """For the section `judge` alone: a script that compares answers, with planted errors."""


_NEEDED = ("name", "identity", "encode", "count_tokens")
"""What a policy of the user's must have, beside `complete` or `complete_batch` (`coa.policy`)."""
BEHIND_SERVER = (PolicyKind.COMPLETIONS, PolicyKind.CHAT, PolicyKind.NATIVE)
"""The kinds of policies that ask a server."""


@dataclass(frozen=True, slots=True)
class TeacherParams:
    """The policy that writes trajectories."""

    policy: PolicyKind = PolicyKind.MICROWORLD
    """Which kind of policy it is."""
    name: str = ""
    """Tells two deployments of one model name apart, for `completions`, `chat` and `native`. With
    another name, no reply of the first is taken from the journal. Another address alone changes
    nothing."""
    chat_template: str = "{prompt}\n\n"
    """The model's chat format around `{prompt}`, up to where its own text begins. The thinking is
    opened after it. Empty, for `local`: the tokenizer's own chat template."""
    sampling: Sampling = field(default_factory=Sampling)
    concurrency: int = 64
    """Rollouts that are under way at once."""
    server: ServerSettings = field(default_factory=ServerSettings)
    """For `completions`, `chat` and `native`."""
    chat: ChatSettings = field(default_factory=ChatSettings)
    """For `chat`, and for `native` without `family` and `served_as`."""
    probe: bool = True
    """Whether the server is asked a few short questions before the first one that counts
    (docs/teachers.md)."""
    local: LocalSettings = field(default_factory=LocalSettings)
    """For `local`."""
    gold: GoldSettings = field(default_factory=GoldSettings)
    """For `gold`."""


def template_of(params: TeacherParams) -> str:
    """Return a policy's chat template around `{prompt}`.

    Where the setting is empty, it is that of the tokenizer of a model in this process.

    Raises:
        ConfigError: the setting is empty, and there is no such model or it has no template.
    """
    if params.chat_template or params.policy is not PolicyKind.LOCAL:
        return params.chat_template
    return own_template(load_tokenizer(params.local.model))


def open_policy(
    params: TeacherParams, microworld: MicroworldParams, section: str = "teacher"
) -> AnyPolicy:
    """Open the policy that `params` describes; only the microworld's teacher reads `microworld`.

    Errors name `section` as the place of the settings.

    Raises:
        ConfigError: Its settings are wrong.
        InputError: The file of questions that the `gold` script reads is missing.
    """
    if names_own_part(params.policy):
        return _open_own_policy(params.policy)
    place = f"{section}.server"
    if params.policy is PolicyKind.COMPLETIONS:
        from coa.policy.completions import CompletionsPolicy

        return CompletionsPolicy(params.server, deployment=params.name, place=place)
    if params.policy is PolicyKind.CHAT:
        from coa.policy.chat.policy import ChatPolicy

        require_plain_template(params.chat_template)
        return ChatPolicy(params.server, params.chat, deployment=params.name, place=place)
    if params.policy is PolicyKind.NATIVE:
        from coa.policy.native import NativePolicy

        require_plain_template(params.chat_template)
        return NativePolicy(params.server, params.chat, deployment=params.name, place=place)
    if params.policy is PolicyKind.LOCAL:
        return LocalPolicy.load(params.local)
    if params.policy is not PolicyKind.SCRIPTED_JUDGE and params.server != ServerSettings():
        tell(f"{section}.server is not used: {section}.policy={params.policy} asks no server")
    if params.policy is PolicyKind.GOLD:
        return gold_teacher(params.gold)
    if params.policy is PolicyKind.SCRIPTED_JUDGE:
        raise ConfigError(
            "a judge writes no trajectories",
            got=str(params.policy),
            where=f"{section}.policy",
            expected="a teacher",
        )
    return scripted_teacher(microworld)


def _open_own_policy(path: str) -> AnyPolicy:
    """Open a policy of the user's."""
    part = load_part(path, "policy")
    if isfunction(part):
        return policy_of(part)
    policy: AnyPolicy = load_part(path, "policy", _NEEDED)
    if not (hasattr(policy, "complete") or hasattr(policy, "complete_batch")):
        raise ConfigError(
            f"{path!r} is no policy", expected="a method `complete` or `complete_batch`"
        )
    return policy
