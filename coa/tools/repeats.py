"""Mark or leave out the passages of a tool's reply that a trajectory has been shown before.

This happens when the reply is appended to a trajectory, not in the tool: a tool does not know the
trajectory, and the journal keeps one reply for all that ask the same.
"""

from collections.abc import Iterable
from dataclasses import replace

from coa.tools import Repeats, ToolReply
from coa.trajectory import Outcome, Step

ALL_SHOWN = "All results were shown above."
_SHOWN = "shown above."


def without_repeats(reply: ToolReply, steps: Iterable[Step]) -> ToolReply:
    """Mark or drop the passages that `steps` have shown, as the reply asks, and return it."""
    has_lines = len(reply.lines) == len(reply.passages)
    if reply.repeats is Repeats.KEEP or reply.outcome is not Outcome.OK or not has_lines:
        return reply
    shown: set[str] = set()
    for step in steps:
        shown.update(step.passages)
    if shown.isdisjoint(reply.passages):
        return reply
    heads = reply.heads or ("",) * len(reply.lines)  # a reply recorded by an older version has none
    lines = []
    for passage, line, head in zip(reply.passages, reply.lines, heads, strict=True):
        if passage not in shown:
            lines.append(line)
        elif reply.repeats is Repeats.MARK:
            lines.append(f"{head}{_SHOWN}")
    passages = tuple(passage for passage in reply.passages if passage not in shown)
    text = "\n".join(lines) or ALL_SHOWN
    return replace(reply, text=text, passages=passages, lines=(), heads=())
