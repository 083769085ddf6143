"""From the sections `teacher` and `search` of params.yaml to the policy and the tool that they describe."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from coa.microworld.opening import MicroworldParams, scripted_teacher
from coa.policy import BatchPolicy, Policy
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.gold import GoldSettings, gold_teacher
from coa.policy.local import LocalPolicy, LocalSettings
from coa.search import SearchEngine
from coa.search.embedded import EmbeddedSearch
from coa.search.search_r1 import SearchR1Client, SearchR1Settings
from coa.tools.search import ObservationSettings, SearchTool
from coa.trajectory import Sampling


class PolicyKind(StrEnum):
    """Which policy a section describes."""

    MICROWORLD = "microworld"
    """The scripted teacher of the microworld: no model, no keys."""
    COMPLETIONS = "completions"
    """A server with OpenAI-compatible raw completions, such as vLLM."""
    LOCAL = "local"
    """A transformers model in this process."""
    GOLD = "gold"
    """A script that is told the gold titles and answers: no model, no keys."""


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
    gold: GoldSettings = field(default_factory=GoldSettings)
    """For `gold`."""


class EngineKind(StrEnum):
    """Which search engine a section describes."""

    EMBEDDED = "embedded"
    """The index of this project, memory-mapped, in this process."""
    SEARCH_R1 = "search_r1"
    """A retrieval server that speaks Search-R1's protocol."""


@dataclass(frozen=True, slots=True)
class SearchParams:
    """The search that policies use."""

    engine: EngineKind = EngineKind.EMBEDDED
    index: str = "data/index"
    """For `embedded`: the folder that `coa.search.index` wrote."""
    server: SearchR1Settings = field(default_factory=SearchR1Settings)
    """For `search_r1`."""
    observation: ObservationSettings = field(default_factory=ObservationSettings)
    """How results are shown to the policy."""


def open_policy(params: TeacherParams, microworld: MicroworldParams) -> AnyPolicy:
    """The policy that `params` describes; `microworld` is read only by the microworld's teacher.

    Raises:
        MissingExtraError: it needs an optional dependency.
        ConfigError: its settings are wrong.
        InputError: the questions that a script is told are missing.
    """
    if params.policy is PolicyKind.COMPLETIONS:
        return CompletionsPolicy(params.server)
    if params.policy is PolicyKind.LOCAL:
        return LocalPolicy.load(params.local)
    if params.policy is PolicyKind.GOLD:
        return gold_teacher(params.gold)
    return scripted_teacher(microworld)


def open_engine(params: SearchParams) -> SearchEngine:
    """The engine that `params` describes.

    Raises:
        InputError: the index is missing or of another version.
    """
    if params.engine is EngineKind.SEARCH_R1:
        return SearchR1Client(params.server)
    return EmbeddedSearch.open(Path(params.index))


def open_search_tool(params: SearchParams) -> SearchTool:
    """The search tool over the engine that `params` describes."""
    return SearchTool(open_engine(params), params.observation)
