"""Tell the environment's text from the policy's in one turn, by the form of the text.

Whole trajectories of known formats are read by their own strict readers (`coa/foreign`). A turn
that is only a part of a trajectory, or is cut off, is read by the tags alone: text in the tags of
an observation is the environment's if it follows a call, and the policy's if it does not.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from coa import protocol
from coa.doctor.findings import AuthorSpan, Fault, Finding, author_spans
from coa.foreign.autocoa import has_own_tags
from coa.foreign.react import read_numbered_react, read_react_text
from coa.foreign.record import Format
from coa.foreign.tag_families import DETECTED, TAG_FAMILIES, TagFamily
from coa.foreign.tagged_text import read_tagged_text, tell_family
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Author, Step, StepKind

_CUT_OFF_REASONS = (
    UnreadableReason.NO_ANSWER,
    UnreadableReason.NO_OBSERVATION,
    UnreadableReason.UNCLOSED_TAG,
)


class LabelledFormat(NamedTuple):
    """A format whose turns begin with labels such as `Thought:`."""

    read: Callable[[str], tuple[Step, ...]]
    """The strict reader of whole trajectories."""
    call: re.Pattern[str]
    observation: re.Pattern[str]
    """From its label to the next label or the end of the text."""


OWN_TAGS = "coa"
"""The name of this project's own tags."""
PLAIN = "plain"
"""The name of text without known tags or labels: a turn is wholly the policy's."""
TAGGED = {str(family.format): family for family in TAG_FAMILIES}
LABELLED = {
    str(Format.REACT): LabelledFormat(
        read_react_text,
        re.compile(r"^Action:[ \t]*\w+[ \t]*\[", re.MULTILINE),
        re.compile(r"\nObservation:.*?(?=\n(?:Thought|Action):|\Z)", re.DOTALL),
    ),
    str(Format.REFLEXION): LabelledFormat(
        read_numbered_react,
        re.compile(r"^Action \d+:", re.MULTILINE),
        re.compile(r"\nObservation \d+:.*?(?=\n(?:Thought|Action) \d+:|\Z)", re.DOTALL),
    ),
}
TEXT_FORMATS = (OWN_TAGS, *TAGGED, *LABELLED, PLAIN)
"""The names to give as `format` for finished rows and chats."""
_OBSERVED_TURN = re.compile(r"^Observation(?: \d+)?:", re.MULTILINE)


class Reading(NamedTuple):
    """Who wrote a turn, and what its form shows."""

    spans: tuple[AuthorSpan, ...]
    """From the beginning of the turn, without a gap."""
    noticed: tuple[Finding, ...] = ()


def tell_text_format(text: str) -> str:
    """Recognise the tags or labels of a text; `PLAIN` where it has none that are known."""
    if has_own_tags(text):
        return OWN_TAGS
    try:
        family = tell_family(text)
    except UnreadableError:  # The policy wrote tags of several formats.
        family = _observing_family(text)
    if family is not None:
        return family.format
    for name, labelled in LABELLED.items():
        if labelled.call.search(text):
            return name
    return OWN_TAGS if protocol.THINK_CLOSE in text else PLAIN


def _observing_family(text: str) -> TagFamily | None:
    for family in DETECTED:
        if family.observation.open in text:
            return family
    return None


def read_turn(text: str, text_format: str, *, is_whole: bool) -> Reading:
    """Read who wrote a turn of the policy.

    Args:
        text: The turn.
        text_format: One of `TEXT_FORMATS`.
        is_whole: Whether the turn is a whole trajectory, which must end in an answer.
    """
    if text_format == OWN_TAGS:
        return _read_own_tags(text, is_whole=is_whole)
    if text_format in LABELLED:
        return _read_labelled(text, LABELLED[text_format], is_whole=is_whole)
    if text_format in TAGGED and not TAGGED[text_format].is_simulated:
        return _read_tagged(text, TAGGED[text_format], is_whole=is_whole)
    return Reading((AuthorSpan(0, len(text), Author.POLICY),))


def author_of_other_turn(text: str) -> Author | None:
    """Tell who wrote a turn that is not the policy's; None for one without words.

    It is the environment's where it shows an observation, and otherwise the scaffold's: who wrote
    a user's turn cannot be told, but no mask may train it.
    """
    if not text.strip():
        return None
    if _observing_family(text) is not None:
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


def _read_labelled(text: str, labelled: LabelledFormat, *, is_whole: bool) -> Reading:
    noticed: tuple[Finding, ...] = ()
    if is_whole:
        try:
            # Who wrote the labels that begin turns depends on the runtime.
            return Reading(_without_markers(_spans(labelled.read(text))))
        except UnreadableError as error:
            noticed = (_refusal(error, text),)
    observed = [found.span() for found in labelled.observation.finditer(text)]
    return Reading(tuple(_around(observed, len(text))), noticed)


def _read_tagged(text: str, family: TagFamily, *, is_whole: bool) -> Reading:
    noticed: tuple[Finding, ...] = ()
    if is_whole:
        try:
            return Reading(_spans(read_tagged_text(text, family)))
        except UnreadableError as error:
            noticed = (_refusal(error, text),)
    observed: list[tuple[int, int]] = []
    num_forged = 0
    for start, end, follows_call in _tagged_blocks(text, family):
        if follows_call:
            observed.append((start, end))
        else:
            num_forged += 1
    if num_forged:
        detail = family.observation.open
        noticed = (Finding(Fault.OBSERVATION_FORGED, count=num_forged, detail=detail),)
    return Reading(tuple(_around(observed, len(text))), noticed)


def _tagged_blocks(text: str, family: TagFamily) -> Iterator[tuple[int, int, bool]]:
    """Yield begin and end of each block in an observation's tags, and whether it follows a call.

    The blanks before it, and the runtime's line breaks after it, belong to it.
    """
    opening, closing = family.observation
    call_closes = [tags.close for _, tags in family.calls]
    tag = re.compile("|".join(re.escape(name) for name in (*call_closes, opening)))
    call_end = -1
    found = tag.search(text)
    while found is not None:
        position = found.end()
        if found[0] != opening:
            call_end = position
        else:
            follows_call = call_end >= 0 and not text[call_end : found.start()].strip()
            start = call_end if follows_call else found.start()
            closed = text.find(closing, position)
            position = len(text) if closed < 0 else closed + len(closing)
            after = text[position : position + family.line_breaks]
            position += len(after) - len(after.lstrip("\n"))
            yield start, position, follows_call
            call_end = -1
        found = tag.search(text, position)


def _refusal(error: UnreadableError, text: str) -> Finding:
    """Say what a strict reader's refusal means for the row."""
    if error.reason in _CUT_OFF_REASONS:
        return _cut_off(text)
    detail = f"{error.reason} at character {error.character}: {error.detail}"
    return Finding(Fault.UNREADABLE, detail=detail)


def _cut_off(text: str) -> Finding:
    return Finding(Fault.CUT_OFF, detail=f"... {text[-40:]}")


def _spans(steps: tuple[Step, ...]) -> tuple[AuthorSpan, ...]:
    """Return the spans of steps that have no prompt before them."""
    return tuple(author_spans("", steps)[1:])


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
