"""Open the policy, the search engine and the tools that params.yaml describes."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from coa.chat_templates import own_template
from coa.errors import ConfigError
from coa.files import INDEX
from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.policy import AnyPolicy
from coa.policy.chat.policy import ChatPolicy, ChatSettings, require_plain_template
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.local.model import LocalPolicy, LocalSettings, load_tokenizer
from coa.policy.native.policy import NativePolicy
from coa.policy.teacher.titled import GoldSettings, gold_teacher
from coa.search import EngineKind, SearchEngine
from coa.search.dense.settings import DenseSettings
from coa.search.finders import FusionSettings, open_finder
from coa.search.recorded import (
    RecordedSearch,
    RecordingMode,
    RecordingSettings,
    recorded_name,
)
from coa.search.remote import RemoteSearch, RemoteSettings
from coa.search.web import WebSearch, WebSettings
from coa.tools import Tool
from coa.tools.factory import ToolsParams, open_tools
from coa.tools.search import ObservationSettings, SearchTool
from coa.trajectory import Sampling


class PolicyKind(StrEnum):
    """Which policy a section describes."""

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


@dataclass(frozen=True, slots=True)
class SearchParams:
    """The search that policies use."""

    engine: EngineKind = EngineKind.EMBEDDED
    """Which search engine is asked."""
    index: str = INDEX.as_posix()
    """For `embedded`, `dense` and `hybrid`: the folder that `coa.search.index` wrote."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    """For `dense` and `hybrid`."""
    fusion: FusionSettings = field(default_factory=FusionSettings)
    """For `hybrid`."""
    server: RemoteSettings = field(default_factory=RemoteSettings)
    """For `server`."""
    web: WebSettings = field(default_factory=WebSettings)
    """For `web`."""
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    """How searches are recorded and replayed."""
    observation: ObservationSettings = field(default_factory=ObservationSettings)
    """How results are shown to the policy."""


def template_of(params: TeacherParams) -> str:
    """Return a policy's chat template around `{prompt}`.

    Where the setting is empty, it is that of the tokenizer of a model in this process.

    Raises:
        ConfigError: the setting is empty, and there is no such model or it has no template.
        MissingExtraError: transformers is not installed.
    """
    if params.chat_template or params.policy is not PolicyKind.LOCAL:
        return params.chat_template
    return own_template(load_tokenizer(params.local.model))


def open_policy(
    params: TeacherParams, microworld: MicroworldParams, section: str = "teacher"
) -> AnyPolicy:
    """Open the policy that `params` describes; only the microworld's teacher reads `microworld`.

    Errors say that the settings stand in `section`.

    Raises:
        MissingExtraError: It needs an optional dependency.
        ConfigError: Its settings are wrong.
        InputError: The file of questions that the `gold` script reads is missing.
    """
    place = f"{section}.server"
    if params.policy is PolicyKind.COMPLETIONS:
        return CompletionsPolicy(params.server, deployment=params.name, place=place)
    if params.policy is PolicyKind.CHAT:
        require_plain_template(params.chat_template)
        return ChatPolicy(params.server, params.chat, deployment=params.name, place=place)
    if params.policy is PolicyKind.NATIVE:
        require_plain_template(params.chat_template)
        return NativePolicy(params.server, params.chat, deployment=params.name, place=place)
    if params.policy is PolicyKind.LOCAL:
        return LocalPolicy.load(params.local)
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


def open_engine(params: SearchParams) -> SearchEngine:
    """Open the engine that `params` describes, with its recording where that is on.

    Raises:
        InputError: The index is missing or of another version.
    """
    engine = _open_unrecorded_engine(params)
    if params.recording.mode is RecordingMode.OFF:
        return engine
    return RecordedSearch(engine, params.recording)


def _open_unrecorded_engine(params: SearchParams) -> SearchEngine:
    if params.engine is EngineKind.SERVER:
        server = params.server
        recording = params.recording
        if recording.mode is RecordingMode.REPLAY and not server.name:
            return RemoteSearch(replace(server, name=recorded_name(recording.path, server)))
        return RemoteSearch.connect(server)
    if params.engine is EngineKind.WEB:
        return WebSearch(params.web)
    return open_finder(params.engine, Path(params.index), params.dense, params.fusion)


def open_search_tool(params: SearchParams) -> SearchTool:
    """Open the search tool over the engine that `params` describes."""
    return SearchTool(open_engine(params), params.observation)


async def open_library(
    search: SearchParams, tools: ToolsParams, stack: AsyncExitStack
) -> dict[str, Tool]:
    """Open all tools that a run offers, by name, `search` first; `stack` closes them.

    Raises:
        MissingExtraError: A tool's library is not installed.
        InputError: The search index is missing.
        ServiceError: An MCP server cannot be reached.
        ConfigError: Two tools have the same name.
    """
    search_tool = open_search_tool(search)
    stack.push_async_callback(search_tool.aclose)
    library: dict[str, Tool] = {search_tool.name: search_tool}
    for tool in await open_tools(tools, stack):
        library[tool.name] = tool
    return library
