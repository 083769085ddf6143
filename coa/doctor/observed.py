"""Tell the environment's text from the policy's in one turn, by the form of the text.

Whole trajectories of known formats are read by their own strict readers (`coa/foreign`). A turn
that is only a part of a trajectory, or is cut off, is read by the tags alone: text in the tags of
an observation is the environment's if it follows a call, and the policy's if it does not.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from coa import protocol
from coa.doctor.findings import AuthorSpan, Fault, Finding
from coa.foreign.r1_searcher import read_r1_searcher
from coa.foreign.react import read_react_text
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Author, Step, StepKind

_CUT_OFF_REASONS = (
    UnreadableReason.NO_ANSWER,
    UnreadableReason.NO_OBSERVATION,
    UnreadableReason.UNCLOSED_TAG,
)


class TagFamily(NamedTuple):
    """The tags that a group of projects writes calls and observations in."""

    call_closes: tuple[str, ...]
    opening: str
    """Opens an observation."""
    closing: str
    read: Callable[[str], tuple[Step, ...]] | None = None
    """The strict reader of whole trajectories, where there is one."""


TAG_FAMILIES = {
    "r1_searcher": TagFamily(
        ("<|end_of_query|>",),
        "<|begin_of_documents|>",
        "<|end_of_documents|>",
        read_r1_searcher,
    ),
    "search_r1": TagFamily(("</search>", "</access>"), "<information>", "</information>"),
    "research": TagFamily(("</search>", "</tool_call>"), "<result>", "</result>"),
    "search_o1": TagFamily(
        ("<|end_search_query|>",), "<|begin_search_result|>", "<|end_search_result|>"
    ),
    "tool_call": TagFamily(("</tool_call>",), "<tool_response>", "</tool_response>"),
}
"""By the name to give as `format`."""
OWN_TAGS = "coa"
"""The name of this project's own tags."""
REACT = "react"
"""The name of ReAct's labels: `Thought:`, `Action:`, `Observation:`."""
PLAIN = "plain"
"""The name of text without any of these: a turn is wholly the policy's."""
TEXT_FORMATS = (OWN_TAGS, *TAG_FAMILIES, REACT, PLAIN)
_REACT_CALL = re.compile(r"^Action:[ \t]*\w+[ \t]*\[", re.MULTILINE)
_OBSERVED_TURN = re.compile(r"^Observation:", re.MULTILINE)
_REACT_OBSERVATION = re.compile(r"\nObservation:.*?(?=\n(?:Thought|Action):|\Z)", re.DOTALL)


class Reading(NamedTuple):
    """Who wrote a turn, and what its form shows."""

    spans: tuple[AuthorSpan, ...]
    """From the beginning of the turn, without a gap."""
    noticed: tuple[Finding, ...] = ()


def tell_text_format(text: str) -> str:
    """Recognise the tags of a text; `PLAIN` where it has none that are known."""
    for name, family in TAG_FAMILIES.items():
        if family.opening in text:
            return name
    for name, family in TAG_FAMILIES.items():
        if any(closing in text for closing in family.call_closes):
            return name
    if _REACT_CALL.search(text):
        return REACT
    steps = protocol.parse(text)
    if protocol.action_indices(steps) or protocol.stray_tags(steps):
        return OWN_TAGS
    return OWN_TAGS if protocol.THINK_CLOSE in text else PLAIN


def read_turn(text: str, text_format: str, *, is_whole: bool) -> Reading:
    """Read who wrote a turn of the policy.

    Args:
        text: The turn.
        text_format: One of `TEXT_FORMATS`.
        is_whole: Whether the turn is a whole trajectory, which must end in an answer.
    """
    if text_format == OWN_TAGS:
        return _read_own_tags(text, is_whole=is_whole)
    if text_format == REACT:
        return _read_react(text, is_whole=is_whole)
    if text_format == PLAIN:
        return Reading((AuthorSpan(0, len(text), Author.POLICY),))
    return _read_tagged(text, TAG_FAMILIES[text_format], is_whole=is_whole)


def author_of_other_turn(text: str) -> Author | None:
    """Tell who wrote a turn that is not the policy's; None for one without words.

    It is the environment's where it shows an observation, and otherwise the scaffold's: who wrote
    a user's turn cannot be told, but no mask may train it.
    """
    if not text.strip():
        return None
    for family in TAG_FAMILIES.values():
        if family.opening in text:
            return Author.ENVIRONMENT
    return Author.ENVIRONMENT if _OBSERVED_TURN.search(text) else Author.SCAFFOLD


def forged_observations(steps: Sequence[Step]) -> list[Finding]:
    """Find steps in which the policy wrote an observation's tag of ours itself."""
    forging = [step for step in steps if protocol.forges_observation((step,))]
    if not forging:
        return []
    detail = protocol.stray_tags(forging)[0]
    return [Finding(Fault.OBSERVATION_FORGED, count=len(forging), detail=detail)]


def _read_own_tags(text: str, *, is_whole: bool) -> Reading:
    steps = protocol.parse(text)
    noticed = forged_observations(steps)
    if is_whole and (not steps or steps[-1].kind is not StepKind.ANSWER):
        noticed.append(_cut_off(text))
    return Reading(_spans(steps), tuple(noticed))


def _read_react(text: str, *, is_whole: bool) -> Reading:
    noticed: tuple[Finding, ...] = ()
    if is_whole:
        try:
            # Who wrote the labels that begin turns depends on the runtime.
            return Reading(_without_markers(_spans(read_react_text(text))))
        except UnreadableError as error:
            noticed = _refusals(error, text)
    observed = [found.span() for found in _REACT_OBSERVATION.finditer(text)]
    return Reading(tuple(_around(observed, len(text))), noticed)


def _read_tagged(text: str, family: TagFamily, *, is_whole: bool) -> Reading:
    noticed: tuple[Finding, ...] = ()
    if is_whole and family.read is not None:
        try:
            return Reading(_spans(family.read(text)))
        except UnreadableError as error:
            noticed = _refusals(error, text)
    observed: list[tuple[int, int]] = []
    num_forged = 0
    for start, end, follows_call in _tagged_blocks(text, family):
        if follows_call:
            observed.append((start, end))
        else:
            num_forged += 1
    if num_forged:
        forged = Finding(Fault.OBSERVATION_FORGED, count=num_forged, detail=family.opening)
        noticed = (forged, *(item for item in noticed if item.fault is not forged.fault))
    is_open = bool(observed) and not text[: observed[-1][1]].rstrip().endswith(family.closing)
    if is_whole and is_open and not noticed:
        noticed = (_cut_off(text),)
    return Reading(tuple(_around(observed, len(text))), noticed)


def _tagged_blocks(text: str, family: TagFamily) -> Iterator[tuple[int, int, bool]]:
    """Yield begin and end of each block in an observation's tags, and whether it follows a call.

    The blanks before it, and one line break after it, belong to it.
    """
    tags = "|".join(re.escape(tag) for tag in (*family.call_closes, family.opening))
    call_end = -1
    position = 0
    tag = re.compile(tags)
    found = tag.search(text)
    while found is not None:
        position = found.end()
        if found[0] != family.opening:
            call_end = position
        else:
            follows_call = call_end >= 0 and not text[call_end : found.start()].strip()
            start = call_end if follows_call else found.start()
            closing = text.find(family.closing, position)
            position = len(text) if closing < 0 else closing + len(family.closing)
            if text.startswith("\n", position):
                position += 1
            yield start, position, follows_call
            call_end = -1
        found = tag.search(text, position)


def _refusals(error: UnreadableError, text: str) -> tuple[Finding, ...]:
    """Say what a strict reader's refusal means for the row."""
    if error.reason in _CUT_OFF_REASONS:
        return (_cut_off(text),)
    if error.reason in (UnreadableReason.NESTED_TAG, UnreadableReason.MISPLACED_TAG):
        detail = f"{error.reason} at character {error.character}: {error.detail}"
        return (Finding(Fault.OBSERVATION_FORGED, detail=detail),)
    detail = f"{error.reason} at character {error.character}: {error.detail}"
    return (Finding(Fault.UNREADABLE, detail=detail),)


def _cut_off(text: str) -> Finding:
    return Finding(Fault.CUT_OFF, detail=f"... {text[-40:]}")


def _spans(steps: tuple[Step, ...]) -> tuple[AuthorSpan, ...]:
    """Return the spans of steps that have no prompt before them."""
    return tuple(AuthorSpan(*span) for span in protocol.spans("", steps)[1:])


def _without_markers(spans: tuple[AuthorSpan, ...]) -> tuple[AuthorSpan, ...]:
    """Take the scaffold's text out of what is judged."""
    judged: list[AuthorSpan] = []
    for span in spans:
        author = None if span.author is Author.SCAFFOLD else span.author
        judged.append(span._replace(author=author))
    return tuple(judged)


def _around(observed: list[tuple[int, int]], length: int) -> Iterator[AuthorSpan]:
    """Yield spans that leave no gap: the environment's blocks and the policy's text around them."""
    position = 0
    for start, end in observed:
        if start > position:
            yield AuthorSpan(position, start, Author.POLICY)
        yield AuthorSpan(start, end, Author.ENVIRONMENT, StepKind.OBSERVATION)
        position = end
    if position < length:
        yield AuthorSpan(position, length, Author.POLICY)
