"""A tool's reply to what a trajectory is shown of it: passages that it has seen before are marked or left out.

Done when the reply is appended and not by the tool: a tool does not know the trajectory, and the journal keeps one
reply for all that ask the same.
"""

from collections.abc import Iterable
from dataclasses import replace

from coa.tools import Repeats, ToolReply
from coa.trajectory import Outcome, Step

ALL_SHOWN = "All results were shown above."


def without_repeats(reply: ToolReply, steps: Iterable[Step]) -> ToolReply:
    """The reply with the passages that `steps` have shown marked or dropped, as the reply asks."""
    if (
        reply.repeats is Repeats.KEEP
        or reply.outcome is not Outcome.OK
        or len(reply.lines) != len(reply.passages)
    ):
        return reply
    shown = {passage for step in steps for passage in step.passages}
    fresh = [passage not in shown for passage in reply.passages]
    if all(fresh):
        return reply
    pairs = list(zip(reply.lines, fresh, strict=True))
    marks = reply.repeats is Repeats.MARK
    lines = [line if is_new else _marked(line) for line, is_new in pairs if is_new or marks]
    passages = tuple(name for name, is_new in zip(reply.passages, fresh, strict=True) if is_new)
    return replace(reply, text="\n".join(lines) or ALL_SHOWN, passages=passages, lines=())


def _marked(line: str) -> str:
    """`result 2: Danube: shown above`, for a line of `SearchTool`."""
    head, colon, _ = line.partition(": ")
    return f"{head}{colon}shown above." if colon else "shown above."
