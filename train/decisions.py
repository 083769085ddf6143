"""Find what a pair says about the decision: its two spans, and how likely a call should be.

The sides of a pair part at a point. The decision of the side that acts is all text up to the end of
the tool's opening tag, its trigger; that of the other side is the first clause that reasons on.
"""

import re
from collections.abc import Sequence
from math import exp
from typing import NamedTuple

from coa import protocol
from coa.errors import ConfigError
from coa.pairs import PairKind, PreferencePair
from coa.student.settings import PairLoss, Sft1Params
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


def probability_of_acting(
    pair: PreferencePair, search_price: float, temperature: float
) -> float | None:
    """Compute q = sigmoid((D - search_price) / temperature), how likely a call should be.

    D is the success rate of acting less that of thinking. A price that the pair's worth was
    estimated with is left out, so that a call is paid for once.

    Returns:
        None where no continuations of one arm are counted.
    """
    if pair.worth is not None:
        num_act, num_think = pair.worth.act.num, pair.worth.think.num
        difference = pair.worth.act.success - pair.worth.think.success
    else:
        num_act, num_think = pair.num_act, pair.num_think
        difference = pair.value_of_acting if num_act and num_think else 0.0
    if not num_act or not num_think:
        return None
    excess = (difference - search_price) / temperature
    # exp of a large number overflows, so the sign of its argument is always negative.
    if excess >= 0:
        return 1 / (1 + exp(-excess))
    return exp(excess) / (1 + exp(excess))


def check_settings(settings: Sft1Params) -> None:
    """Refuse numbers with which a loss has no meaning.

    Raises:
        ConfigError: one is out of its range; names it.
    """
    ranges = [
        ("contrast_tokens", settings.contrast_tokens >= 0, "0 or more"),
        ("beta", settings.beta > 0, "a number above 0"),
        ("temperature", settings.temperature > 0, "a number above 0"),
        ("likelihood_share", 0 < settings.likelihood_share < 1, "a number between 0 and 1"),
    ]
    for name, is_in_range, expected in ranges:
        if not is_in_range:
            raise ConfigError(
                "a setting of the stage on pairs is out of its range",
                where=f"params.yaml, train.sft1.{name}",
                expected=expected,
                got=getattr(settings, name),
                fix=f"set train.sft1.{name} to {expected}",
            )
    if settings.contrast_tokens and settings.loss is not PairLoss.CONTRASTIVE:
        raise ConfigError(
            "only the contrastive loss can be limited to the first tokens of each side",
            where="params.yaml, train.sft1.contrast_tokens",
            expected=f"0 with train.sft1.loss: {settings.loss}",
            got=settings.contrast_tokens,
            fix="set train.sft1.contrast_tokens to 0, or train.sft1.loss to contrastive",
        )
