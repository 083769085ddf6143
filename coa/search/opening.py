"""From the section `search` of params.yaml to the engine and the tool that it describes."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from coa.search import SearchEngine
from coa.search.embedded import EmbeddedSearch
from coa.search.search_r1 import SearchR1Client, SearchR1Settings
from coa.tools.search import ObservationSettings, SearchTool


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
