"""Note at each step what a chat policy wrote itself, where the text of the step was made by us.

A chat server returns reasoning, calls and answers in fields of their own. Our tags around them are
transcribed: the meaning of a call is the policy's, its characters are not. `Step.transcribed` keeps
the policy's own characters (docs/protocol.md).
"""

from collections.abc import Iterable
from dataclasses import replace

from coa.policy import Native
from coa.trajectory import Step, StepKind


def mark_transcribed(steps: Iterable[Step], native: Native | None) -> tuple[Step, ...]:
    """Note the originals at the steps of one turn; without `native` the policy wrote the text."""
    if native is None:
        return tuple(steps)
    return tuple(_marked(step, native) for step in steps)


def _marked(step: Step, native: Native) -> Step:
    if step.kind is StepKind.ACTION:
        return replace(step, transcribed=native.arguments, cut_calls=native.cut_calls)
    if step.kind is StepKind.ANSWER:
        return replace(step, transcribed=native.content)
    return replace(step, transcribed=native.thought)
