"""Check the authors of a published row: every loss mask derives from them, so they must be exact.

A mask covers exactly the steps whose author is the policy. Whether those are the policy's
characters is checked in a second way, which does not look at the authors: the text is parsed by
its form (`coa.records.protocol.parse`). There an observation after a call is the environment's, a
forcing marker is the scaffold's, and the rest is the policy's.

A native call of a chat policy was transcribed into our tags. It is trained whole: its meaning is
the policy's, and a model that is to write the tags must learn them. So it must say what the
policy's own arguments say.
"""

from collections.abc import Sequence

from coa.foreign.tool_call_json import argument_text
from coa.policy.chat.replies import argument_of, object_text
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Author, Step, StepKind
from coa.records.unreadable import UnreadableError


def mask_fault(row: GradedTrajectory | PreferencePair) -> str:
    """Say what the loss masks of a row would get wrong; empty for a sound row."""
    if isinstance(row, GradedTrajectory):
        texts: list[Sequence[Step]] = [row.trajectory.steps]
    else:
        texts = [(*row.prefix, *row.chosen), (*row.prefix, *row.rejected)]
    for steps in texts:
        fault = _author_fault(steps) or _transcription_fault(steps)
        if fault:
            return fault
    return ""


def _transcription_fault(steps: Sequence[Step]) -> str:
    """Say which transcribed step does not say what the policy's own text says."""
    for step in steps:
        if step.transcribed is None:
            continue
        if step.author is not Author.POLICY:
            return f"text of the {step.author} is recorded as transcribed from the policy's"
        if step.kind is not StepKind.ACTION:
            continue
        if not _was_made(step.argument, step.transcribed):
            return f"the call {step.argument!r} was not made: {step.transcribed[:80]!r}"
    return ""


def _was_made(argument: str | None, arguments: str) -> bool:
    """Return whether a call's argument says what the policy's own JSON arguments say."""
    # A tool with arguments of its own was given all of them, as they are.
    for native in (argument_of(arguments), object_text(arguments)):
        if native is not None and protocol.break_tags(native).strip() == argument:
            return True
    # An imported call may have several arguments, and its text is neutralised.
    try:
        imported = argument_text(arguments)
    except UnreadableError:
        return False
    return protocol.neutralise(imported).strip() == argument


def _author_fault(steps: Sequence[Step]) -> str:
    recorded = _authors(steps)
    parsed = _authors(protocol.parse(protocol.render(steps)))
    for place, (ours, theirs) in enumerate(zip(recorded, parsed, strict=True)):
        if ours is not theirs:
            covers = "the mask covers" if ours is Author.POLICY else "the mask leaves out"
            return f"character {place}: {covers} text of the {theirs}, recorded as the {ours}'s"
    return ""


def _authors(steps: Sequence[Step]) -> list[Author]:
    """Return the author of every character."""
    authors: list[Author] = []
    for step in steps:
        authors += [step.author] * len(step.text)
    return authors
