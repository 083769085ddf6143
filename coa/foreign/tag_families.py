r"""List the formats in which a trajectory is one text with tags, one record for each.

`tagged_text.py` reads them all. The tags are those of each project's runtime:

- Search-R1 (`search_r1/llm_agent/generation.py`), whose tags ZeroSearch writes too.
- SSRL, whose policy searches in its own memory and writes the information itself.
- ASearcher, whose policy also opens pages. Its runtime opens the thinking of the next turn.
- ReSearch and ARPO, whose answer is in a `\boxed{}` inside its tags.
- Search-o1 and SimpleDeepSearcher, whose answer is in a `\boxed{}`.
- R1-Searcher, whose thinking ends once, as ours does, before the answer.
- Calls as JSON: ReCall, Tongyi DeepResearch, WebExplorer and Qwen's chat template as one text.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from coa.foreign.record import Format
from coa.records import protocol


class Tags(NamedTuple):
    """The two tags around a part of a text."""

    open: str
    close: str


ANSWER_TAGS = Tags("<answer>", "</answer>")
_SEARCH_TAGS = Tags("<search>", "</search>")
_INFORMATION_TAGS = Tags("<information>", "</information>")


@dataclass(frozen=True, slots=True)
class TagFamily:
    """The tags of one format, and what its runtime writes beside them."""

    format: Format
    calls: tuple[tuple[str, Tags], ...]
    """The tools with the tags of their calls; no name where the call itself names its tool."""
    observation: Tags
    answer: Tags = ANSWER_TAGS
    allows_bare_answer: bool = False
    r"""Whether the answer may have a `\boxed{}` or the end of the thinking instead of tags."""
    line_breaks: int = 2
    """The most line breaks that the runtime writes after an observation."""
    next_turn: str = ""
    """The text with which the runtime begins the turn after an observation."""
    retry: str = ""
    """The sentence with which the runtime asks again after a turn without a call or an answer."""
    thinks_once: bool = False
    """Whether the thinking ends only before the answer, which then begins with that tag."""
    is_simulated: bool = False
    """Whether the policy itself writes the observations."""
    title: re.Pattern[str] | None = None
    """The head of a document, with groups that hold its title."""

    def tags(self) -> tuple[Tags, ...]:
        """Return all pairs of tags, without those of the thinking."""
        calls = [tags for _, tags in self.calls]
        return (*calls, self.observation, self.answer)


SEARCH_R1 = TagFamily(
    Format.SEARCH_R1,
    calls=(("search", _SEARCH_TAGS),),
    observation=_INFORMATION_TAGS,
    retry=(
        "\nMy previous action is invalid. If I want to search, I should put the query between "
        "<search> and </search>. If I want to give the final answer, I should put the answer "
        "between <answer> and </answer>. Let me try again.\n"
    ),
    title=re.compile(
        r"""^(?:<information>)?Doc \d+\(Title: (?:"(?P<labelled>[^"\n]*)"|(?P<bare>[^)\n]*))\)""",
        re.MULTILINE,
    ),
)
ASEARCHER = TagFamily(
    Format.ASEARCHER,
    calls=(("search", _SEARCH_TAGS), ("access", Tags("<access>", "</access>"))),
    observation=_INFORMATION_TAGS,
    next_turn=protocol.THINK_OPEN,
)
RESEARCH = TagFamily(
    Format.RESEARCH,
    calls=(("search", _SEARCH_TAGS), ("python", Tags("<python>", "</python>"))),
    observation=Tags("<result>", "</result>"),
    line_breaks=0,
)
SEARCH_O1 = TagFamily(
    Format.SEARCH_O1,
    calls=(("search", Tags("<|begin_search_query|>", "<|end_search_query|>")),),
    observation=Tags("<|begin_search_result|>", "<|end_search_result|>"),
    allows_bare_answer=True,
)
TOOL_CALL_TEXT = TagFamily(
    Format.TOOL_CALL_TEXT,
    calls=(("", Tags("<tool_call>", "</tool_call>")),),
    observation=Tags("<tool_response>", "</tool_response>"),
    line_breaks=1,
    allows_bare_answer=True,
)
R1_SEARCHER = TagFamily(
    Format.R1_SEARCHER,
    calls=(("search", Tags("<|begin_of_query|>", "<|end_of_query|>")),),
    observation=Tags("<|begin_of_documents|>", "<|end_of_documents|>"),
    thinks_once=True,
    title=re.compile(
        r"""
        ^\(\d+\)[ \t]*
        (?:
            (?P<quote>"?)Title:[ \t]*(?P<labelled>.*?)[ \t]*Text:  # in a table's quotes, or not
            | (?!"?Title:)(?P<bare>.{1,300}?)(?:[ ]{3,}|\t)  # a title, three blanks, the text
        )
        """,
        re.MULTILINE | re.VERBOSE,
    ),
)
"""Its corpora write the head of a document in three layouts."""
SSRL = TagFamily(
    Format.SSRL,
    calls=(("search", _SEARCH_TAGS),),
    observation=_INFORMATION_TAGS,
    is_simulated=True,
)
DETECTED = (SEARCH_R1, ASEARCHER, RESEARCH, SEARCH_O1, R1_SEARCHER, TOOL_CALL_TEXT)
"""The families that a text's tags show, in the order in which they are tried."""
TAG_FAMILIES = (*DETECTED, SSRL)
"""All families. A text of SSRL looks like one of Search-R1, so it is read only when asked for."""
