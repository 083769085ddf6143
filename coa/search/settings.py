"""Describe the section `search` of params.yaml: which engine is asked, and how."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from coa.errors import ConfigError
from coa.own_parts import PartKind
from coa.search.dense.settings import DenseSettings
from coa.search.tool import ObservationSettings
from coa.store.files import INDEX


class EngineKind(PartKind):
    """Which search engine a section describes; or your own, as `module:name`."""

    EMBEDDED = "embedded"
    """The index of this project, memory-mapped, in this process: BM25."""
    DENSE = "dense"
    """The vectors of the index's passages: those nearest to the query's vector."""
    HYBRID = "hybrid"
    """BM25 and the vectors, fused by reciprocal ranks."""
    SERVER = "server"
    """A retrieval server: this project's, or any that speaks one of the dialects."""
    WEB = "web"
    """A search engine of the web."""


class Dialect(StrEnum):
    """Protocol that a server or its client speaks."""

    FLASHRAG = "flashrag"
    """AutoCoA's and FlashRAG's `/retrieve`: `query`, `tok_k` (so misspelt) or `top_k`,
    `return_score`."""
    RECALL = "recall"
    """ReCall's and ReSearch's `/search` and `/batch_search`: `query`, `top_n`, `return_score`."""
    SEARCH_R1 = "search_r1"
    """Search-R1's `/retrieve`, also that of slime, Tree-GRPO and verl: `queries`, `topk`,
    `return_scores`."""
    SKYRL = "skyrl"
    """SkyRL's `/retrieve`: Search-R1's with one `query`."""
    ASEARCHER = "asearcher"
    """ASearcher's `/retrieve`, whose documents have a `url`, and `/access`, which reads them."""
    R1_SEARCHER = "r1_searcher"
    """R1-Searcher's `/queries`: `queries`, `k`; documents are texts."""
    OPENRESEARCHER = "openresearcher"
    """OpenResearcher's `/search` (`query`, `topn`) and `/get_content`."""


def _check_patience(settings: "RemoteSettings | WebSettings", section: str) -> None:
    """Refuse limits of time and rate with which no search could be made."""
    for name in ("timeout_seconds", "deadline_seconds", "max_concurrency"):
        if not getattr(settings, name) > 0:
            raise ConfigError(f"{section}.{name} must be positive", got=getattr(settings, name))
    if settings.max_per_second < 0:
        what = f"{section}.max_per_second must not be negative"
        raise ConfigError(what, got=settings.max_per_second)


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Address of a search server, its dialect, and how long a search is tried."""

    url: str = "http://127.0.0.1:8000"
    """Without the dialect's path. No credentials: a token comes from the environment,
    `COA_SEARCH_TOKEN`."""
    dialect: Dialect = Dialect.SEARCH_R1
    """Whose protocol it speaks."""
    name: str = ""
    """What the server searches and how, such as wiki-18-e5: the dialects do not say it, so results
    are comparable only where name and url are the same. Empty: a server of ours is asked for its
    index's fingerprint. A fingerprint (`tantivy:...`, `dense:...`, `hybrid:...`) is compared with
    what such a server says."""
    timeout_seconds: float = 20.0
    """For one attempt."""
    deadline_seconds: float = 60.0
    """For one search with all its attempts; waiting for its turn does not count."""
    max_concurrency: int = 64
    """Searches in flight at once."""
    max_per_second: float = 0.0
    """Requests a second; 0 sets no limit."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^@\s]+", self.url):
            # The value is not shown: it may hold a password.
            raise ConfigError(
                "search.server.url is not usable",
                expected="http(s)://host:port without credentials",
            )
        _check_patience(self, "search.server")


class Provider(StrEnum):
    """Service that searches the web."""

    SERPER = "serper"
    """Serper (Google's results); paid, the key is in SERPER_API_KEY."""
    SEARXNG = "searxng"
    """A SearXNG server that you run, with its JSON format switched on; no key."""
    TAVILY = "tavily"
    """Tavily; paid, the key is in TAVILY_API_KEY."""


_ADDRESSES = {
    Provider.SERPER: "https://google.serper.dev",
    Provider.SEARXNG: "http://127.0.0.1:8888",
    Provider.TAVILY: "https://api.tavily.com",
}


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Settings of web search and its costs. Keys come from the environment only."""

    provider: Provider = Provider.SEARXNG
    """The service that is asked."""
    url: str = ""
    """Another address than the provider's usual one."""
    timeout_seconds: float = 20.0
    """For one attempt."""
    deadline_seconds: float = 60.0
    """For one search with all its attempts; waiting for its turn does not count."""
    max_concurrency: int = 8
    """Searches in flight at once."""
    max_per_second: float = 5.0
    """Requests a second; 0 sets no limit."""
    max_paid_calls: int = 1000
    """A run that has sent so many paid requests ends with an error rather than with a surprise."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(https?://[^@\s]+)?", self.url):
            raise ConfigError(
                "search.web.url is not usable",
                expected="http(s)://host without credentials, or nothing",
            )
        _check_patience(self, "search.web")
        if self.max_paid_calls < 0:
            raise ConfigError(
                "search.web.max_paid_calls must not be negative", got=self.max_paid_calls
            )

    @property
    def address(self) -> str:
        """Return the address that requests are sent to."""
        return (self.url or _ADDRESSES[self.provider]).rstrip("/")


class RecordingMode(StrEnum):
    """A way to use a recording."""

    OFF = "off"
    """Nothing: every search goes to the engine."""
    RECORD = "record"
    """A search that is not in the recording goes to the engine and is added; the others are
    answered from it."""
    REPLAY = "replay"
    """The recording answers; a search that it does not hold is an error. The engine is never
    asked."""


@dataclass(frozen=True, slots=True)
class RecordingSettings:
    """A recording of searches."""

    mode: RecordingMode = RecordingMode.OFF
    """What is done with it."""
    path: str = ""
    """The file, such as `data/raw/searches.sqlite`."""

    def __post_init__(self) -> None:
        if self.mode is not RecordingMode.OFF and not self.path:
            raise ConfigError(
                "search.recording.path is missing",
                expected="the file to record into or replay from",
            )


@dataclass(frozen=True, slots=True)
class SearchParams:
    """The search that policies use."""

    engine: EngineKind = EngineKind.EMBEDDED
    """Which search engine is asked."""
    index: str = INDEX.as_posix()
    """For `embedded`, `dense` and `hybrid`: the folder that `coa search index` wrote."""
    dense: DenseSettings = field(default_factory=DenseSettings)
    """For `dense` and `hybrid`."""
    server: RemoteSettings = field(default_factory=RemoteSettings)
    """For `server`."""
    web: WebSettings = field(default_factory=WebSettings)
    """For `web`."""
    recording: RecordingSettings = field(default_factory=RecordingSettings)
    """How searches are recorded and replayed."""
    observation: ObservationSettings = field(default_factory=ObservationSettings)
    """How results are shown to the policy."""
