"""Find the spans in which the sides of a pair decide.

The sides of a pair part at a point. The decision of the side that acts is all text up to the end of
the tool's opening tag, its trigger; that of the other side is the first clause that reasons on.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from coa import protocol
from coa.errors import ConfigError
from coa.pairs import PairKind, PreferencePair
from coa.student.settings import Sft1Params
from coa.trajectory import Step, StepKind

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s)")


class Decision(NamedTuple):
    """The texts in which the sides of a pair decide; each begins at the point."""

    chosen: str
    rejected: str


def find_decision(pair: PreferencePair) -> Decision | None:
    """Find the trigger of the side that acts, and the first clause of the other.

    Returns:
        None where the side that acts does not begin with a call of the pair's tool.
    """
    if pair.kind is PairKind.ACT_IS_BETTER:
        trigger = _trigger(pair.chosen, pair.tool)
        return None if trigger is None else Decision(trigger, _first_clause(pair.rejected))
    trigger = _trigger(pair.rejected, pair.tool)
    return None if trigger is None else Decision(_first_clause(pair.chosen), trigger)


def _trigger(side: Sequence[Step], tool: str) -> str | None:
    """Return the text of a side up to the end of its first opening tag; None where there is none.

    A thought may come first: the blank before the tag, or all of a chat model's turn.
    """
    tag = protocol.open_tag(tool)
    before = ""
    for step in side:
        if step.kind is StepKind.ACTION and step.text.startswith(tag):
            return before + tag
        if step.kind is not StepKind.THOUGHT:
            return None
        before += step.text
    return None


def _first_clause(side: Sequence[Step]) -> str:
    """Return the text of a side to the first end of a sentence, or of a step that is not blank."""
    before = ""
    for step in side:
        found = _SENTENCE_END.search(step.text) if step.kind is StepKind.THOUGHT else None
        if found is not None:
            return before + step.text[: found.end()]
        before += step.text
        if step.text.strip():
            break
    return before


def check_settings(settings: Sft1Params) -> None:
    """Refuse a share of trajectories that leaves no pairs, or no trajectories.

    Raises:
        ConfigError: it is out of its range.
    """
    if not 0 < settings.likelihood_share < 1:
        raise ConfigError(
            "a setting of the stage on pairs is out of its range",
            where="params.yaml, train.sft1.likelihood_share",
            expected="a number between 0 and 1",
            got=settings.likelihood_share,
            fix="set train.sft1.likelihood_share to a number between 0 and 1",
        )
