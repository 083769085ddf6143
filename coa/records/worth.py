"""Estimate what calling a tool at a point is worth, from continuations of both arms.

    worth = (success of acting - success of thinking)
            - price (searches after acting - searches after thinking)

Each term is a mean over continuations. The interval is Newcombe's for the difference of two
proportions (Statistics in Medicine 17, 1998, method 10), built from Wilson's for each arm and moved
by the price's term, whose own noise is left out.
"""

from dataclasses import dataclass
from math import hypot


@dataclass(frozen=True, slots=True)
class ArmSample:
    """The continuations of one arm at a point that took this arm and ended soundly."""

    num: int = 0
    num_correct: int = 0
    num_searches: int = 0
    """Searches after the point, of all continuations together, whichever tool is in question."""
    num_tokens: int = 0
    """Tokens that the policy wrote in them."""

    @property
    def success(self) -> float:
        """Return the share that is right; 0 where there are none."""
        return self.num_correct / self.num if self.num else 0.0

    @property
    def mean_searches(self) -> float:
        """Return the searches of a continuation; 0 where there are none."""
        return self.num_searches / self.num if self.num else 0.0


@dataclass(frozen=True, slots=True)
class Worth:
    """The worth of acting at a point, from -1 to 1 but for the price, with its interval."""

    act: ArmSample
    think: ArmSample
    price: float
    """What one search takes, in shares of a right answer."""
    value: float
    low: float
    high: float
    confidence: float
    """Of the interval from `low` to `high`."""

    @property
    def excludes_zero(self) -> bool:
        """Tell whether the interval says which arm is better."""
        return self.low > 0 or self.high < 0


def estimate_worth(act: ArmSample, think: ArmSample, price: float, confidence: float) -> Worth:
    """Estimate the worth of acting from the continuations of both arms.

    The price of one search is in shares of a right answer, the confidence between 0 and 1.
    """
    cost = price * (act.mean_searches - think.mean_searches)
    difference = act.success - think.success
    act_low, act_high = _wilson(act, confidence)
    think_low, think_high = _wilson(think, confidence)
    below = hypot(act.success - act_low, think_high - think.success)
    above = hypot(act_high - act.success, think.success - think_low)
    return Worth(
        act=act,
        think=think,
        price=price,
        value=difference - cost,
        low=difference - below - cost,
        high=difference + above - cost,
        confidence=confidence,
    )


def _wilson(arm: ArmSample, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval of an arm's success; all from 0 to 1 where nothing is known."""
    if not arm.num:
        return 0.0, 1.0
    # Importing it takes half a second, which commands that estimate nothing need not wait for.
    from scipy.stats import binomtest

    found = binomtest(arm.num_correct, arm.num).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def show_worth(worth: Worth) -> str:
    """Write a worth for people: `+0.43 [+0.12, +0.66]`; without interval where none was asked."""
    if not worth.confidence:
        return f"{worth.value:+.2f}"
    return f"{worth.value:+.2f} [{worth.low:+.2f}, {worth.high:+.2f}]"
