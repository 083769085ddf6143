"""Read texts in the tags of AutoCoA, which are this project's own (coa/records/protocol.py)."""

from dataclasses import replace

from coa.foreign.step_makers import observation_step
from coa.records import protocol
from coa.records.trajectory import Author, Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason


def has_own_tags(text: str) -> bool:
    """Tell whether a text has a tag of a call or of an observation."""
    found = protocol.stray_tags([Step(StepKind.THOUGHT, Author.POLICY, text)])
    return not {protocol.THINK_OPEN, protocol.THINK_CLOSE}.issuperset(found)


def read_autocoa(text: str) -> tuple[Step, ...]:
    """Read a text in AutoCoA's tags into steps; joined, they give `text` again.

    Raises:
        UnreadableError: a tag is out of place, a call has no observation or is empty, or there is
            no answer.
    """
    steps: list[Step] = []
    position = 0
    for step in protocol.parse(text):
        # A policy whose prompt does not open the thinking opens it itself.
        written = step.text if steps else step.text.removeprefix(protocol.THINK_OPEN)
        stray = protocol.stray_tags([replace(step, text=written)])
        if stray:
            place = position + len(step.text) - len(written) + written.find(stray[0])
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, place, stray[0])
        after_call = bool(steps) and steps[-1].kind is StepKind.ACTION
        if after_call and step.kind is not StepKind.OBSERVATION:
            raise UnreadableError(UnreadableReason.NO_OBSERVATION, position)
        if step.kind is StepKind.ACTION and not step.argument:
            raise UnreadableError(UnreadableReason.EMPTY_TURN, position, "an empty call")
        if step.author is Author.ENVIRONMENT:
            step = observation_step(step.text, step.tool)
        steps.append(step)
        position += len(step.text)
    if not any(step.kind is StepKind.ANSWER for step in steps):
        last_is_call = bool(steps) and steps[-1].kind is StepKind.ACTION
        reason = UnreadableReason.NO_OBSERVATION if last_is_call else UnreadableReason.NO_ANSWER
        raise UnreadableError(reason, len(text))
    return tuple(steps)
