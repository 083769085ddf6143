"""Read this project's own tags in a turn, and look how a tokenizer treats them.

Text in the tags of an observation is the environment's if it follows a call, and the policy's if
it does not. The tags and labels of other frameworks do not show who wrote what: `coa ingest` reads
their rows before they are tokenized, and the roles of messages say it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from coa.doctor.findings import AuthorSpan, Fault, Finding, author_spans
from coa.foreign.autocoa import has_own_tags
from coa.foreign.tag_families import TAG_FAMILIES
from coa.records import protocol
from coa.records.tokens import SEARCH, PieceEncoder, tools_with_tags
from coa.records.trajectory import Author, Step, StepKind

_FOREIGN_OPENINGS = sorted({re.escape(family.observation.open) for family in TAG_FAMILIES})
_FOREIGN_OBSERVATION = re.compile(
    rf"{'|'.join(_FOREIGN_OPENINGS)}|^Observation(?: \d+)?:", re.MULTILINE
)


class Reading(NamedTuple):
    """Who wrote a turn, and what its form shows."""

    spans: tuple[AuthorSpan, ...]
    """From the beginning of the turn, without a gap."""
    noticed: tuple[Finding, ...] = ()
    in_own_tags: bool = False


def read_turn(text: str, *, is_whole: bool, is_opened: bool = False) -> Reading:
    """Read who wrote a turn of the policy.

    A turn that is a whole trajectory must end in an answer; `is_opened` says whether the prompt
    before it ends with the opening of our thinking.
    """
    if not has_own_tags(text):
        observed = _FOREIGN_OBSERVATION.search(text)
        if observed:
            detail = (
                f"{observed[0]} in the policy's turn; import the rows as text (coa ingest), or "
                "bring them as messages"
            )
            unknown = Finding(Fault.AUTHORS_UNKNOWN, detail=detail)
            return Reading((AuthorSpan(0, len(text), None),), (unknown,))
        if not is_opened and protocol.THINK_CLOSE not in text:
            return Reading((AuthorSpan(0, len(text), Author.POLICY),))
    steps = protocol.parse(text)
    noticed = forged_observations(steps)
    if is_whole and (not steps or steps[-1].kind is not StepKind.ANSWER):
        noticed.append(Finding(Fault.CUT_OFF, detail=f"... {text[-40:]}"))
    # The first span is that of a prompt, of which a turn has none.
    return Reading(tuple(author_spans("", steps)[1:]), tuple(noticed), in_own_tags=True)


def forged_observations(steps: Sequence[Step]) -> list[Finding]:
    """Find steps in which the policy wrote an observation's tag of ours itself."""
    forging = [step for step in steps if protocol.forges_observation((step,))]
    if not forging:
        return []
    detail = protocol.stray_tags(forging)[0]
    return [Finding(Fault.OBSERVATION_FORGED, count=len(forging), detail=detail)]


def tools_in(text: str) -> set[str]:
    """Find the tools that a text in our tags calls."""
    return tools_with_tags(protocol.stray_tags([Step(StepKind.THOUGHT, Author.POLICY, text)]))


def folded_tags(tags: Iterable[str], encoder: PieceEncoder) -> Iterator[Finding]:
    """Find the tags that the tokenizer does not give back."""
    for tag in tags:
        decoded = encoder.decode(encoder.encode(tag, author=Author.POLICY))
        if decoded != tag:
            yield Finding(Fault.TAG_FOLDED, detail=f"{tag} becomes {decoded}")


def own_tags(tools: Iterable[str] = ()) -> list[str]:
    """List our tags around calls of the search and of other tools, and around observations."""
    return sorted(protocol.all_tags({SEARCH, *tools}))
