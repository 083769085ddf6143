"""Stand in for the search while a policy practises: each simulator is an environment of rollouts.

Imagined searches cost nothing, and they teach only where they hold what is searched for
(docs/training.md). `coa.rollout.simulators.factory` opens the one that the section `simulator`
describes.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from coa.policy import Finish
from coa.rollout.loop import State
from coa.tools import ToolReply


class Simulator(Protocol):
    """An environment that answers calls without any tool."""

    finishes: Counter[Finish]
    """How its observations ended; all but `STOP` were cut."""
    last_whole: list[bool]
    """For each observation of the last batch whether it was closed in time, without tags."""

    @property
    def is_in_process(self) -> bool:
        """Tell whether a model in this process writes, which is fastest in batches."""

    @property
    def fingerprint(self) -> str:
        """Identify what its observations depend on; it is in every trajectory."""

    async def __call__(self, states: Sequence[State]) -> list[ToolReply]:
        """Answer the calls of states, as one batch."""

    def confidences(self) -> list[float | None]:
        """Tell how probable the last batch's observations were to it; None where it cannot."""
