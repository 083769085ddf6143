"""A published row to what is wrong with its authors: every loss mask derives from them, so they must be exact.

A mask covers exactly the steps whose author is the policy. Whether those are the policy's characters is found out in a
second way, which does not look at the authors: the text is read back by its form (`coa.protocol.parse`), where an
observation after a call is the environment's, a forcing marker the scaffold's, and the rest the policy's.
"""

from collections.abc import Sequence
from itertools import groupby

from coa import protocol
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.trajectory import Author, Step


def mask_fault(row: GradedTrajectory | PreferencePair) -> str:
    """What the loss masks of a row would get wrong, empty for a sound row."""
    if isinstance(row, GradedTrajectory):
        return _fault(row.trajectory.steps)
    return _fault((*row.prefix, *row.chosen)) or _fault((*row.prefix, *row.rejected))


def _fault(steps: Sequence[Step]) -> str:
    recorded, read = _authors(steps), _authors(protocol.parse(protocol.render(steps)))
    if recorded == read:
        return ""
    ends = sorted({0, *(end for _, end in (*recorded, *read))})
    at = next(at for at in ends if _author_at(recorded, at) is not _author_at(read, at))
    return _described(at, _author_at(recorded, at), _author_at(read, at))


def _described(at: int, recorded: Author | None, read: Author | None) -> str:
    covers = "the mask covers" if recorded is Author.POLICY else "the mask leaves out"
    return f"character {at}: {covers} text of the {read}, recorded as the {recorded}'s"


def _authors(steps: Sequence[Step]) -> list[tuple[Author, int]]:
    """Who wrote the text, and where each author's stretch ends."""
    stretches, end = [], 0
    for author, group in groupby(
        (step for step in steps if step.text), key=lambda step: step.author
    ):
        end += sum(len(step.text) for step in group)
        stretches.append((author, end))
    return stretches


def _author_at(stretches: Sequence[tuple[Author, int]], at: int) -> Author | None:
    return next((author for author, end in stretches if at < end), None)
