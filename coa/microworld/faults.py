"""Choose the known facts whose passages mislead whoever searches for them.

Real search does the same: pages are out of date, contradict each other, or are about another of the
same name. So a search for what one knows has a risk.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from coa.errors import ConfigError


class PassageFault(StrEnum):
    """What is wrong with what the corpus states about a known fact."""

    STALE = "stale"
    """The only passage states a wrong value."""
    CONTRADICTED = "contradicted"
    """One passage states the right value, another one a wrong value."""
    DISTRACTED = "distracted"
    """No passage states it; two passages state the same of similar names."""


@dataclass(frozen=True, slots=True)
class FaultShares:
    """The shares of the known facts whose passages mislead; together at most 1."""

    stale: float = 0.0
    """Share whose only passage states a wrong value."""
    contradicted: float = 0.0
    """Share about which one passage is right and another one wrong."""
    distracted: float = 0.0
    """Share that no passage states; two passages state the same of similar names."""


def check_shares(shares: FaultShares) -> None:
    """Refuse shares that are below 0 or together above 1.

    Raises:
        ConfigError: they are.
    """
    values = (shares.stale, shares.contradicted, shares.distracted)
    if min(values) < 0 or sum(values) > 1:
        raise ConfigError(
            "the shares of misleading passages are no shares",
            where="microworld.world.faults",
            expected="none below 0, together at most 1",
            got=shares,
        )


def draw_faults(
    keys: Iterable[tuple[str, str]], shares: FaultShares, seed: int
) -> dict[tuple[str, str], PassageFault]:
    """Choose the fault of each fact by the shares; facts whose passages are right are left out."""
    rng = random.Random(f"{seed}/faults")
    kinds = (*PassageFault, None)
    weights = [shares.stale, shares.contradicted, shares.distracted]
    weights.append(1 - sum(weights))
    chosen = {}
    for key in keys:
        fault = rng.choices(kinds, weights)[0]
        if fault is not None:
            chosen[key] = fault
    return chosen
