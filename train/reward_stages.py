"""Pay for other things in the second part of an RL run than in the first (`later_rewards`).

R1-Searcher first pays that a search shows the answer, then that the answer is right.
"""

from collections.abc import Callable, Sequence

from coa.errors import ConfigError
from coa.student.settings import RlParams
from train.rewards import check_weights

WeightsAt = Callable[[int, int], list[float]]
"""The weights of the rewards at a step, from 0 on, of a run of so many."""


def switch_step(settings: RlParams, num_steps: int) -> int:
    """Return the first step of the second part: below 1 the setting is a share of the run."""
    at = settings.rewards_switch
    return round(at * num_steps) if at < 1 else int(at)


def all_weights(settings: RlParams) -> dict[str, float]:
    """Return the weights of the first part, and 0 for what only the second one pays."""
    return {**dict.fromkeys(settings.later_rewards, 0.0), **settings.rewards}


def weights_at(settings: RlParams, names: Sequence[str]) -> WeightsAt | None:
    """Return what gives the weights of a step, in the order of `names`; None where they stay."""
    if not settings.later_rewards:
        return None

    def weights(step: int, num_steps: int) -> list[float]:
        is_later = step >= switch_step(settings, num_steps)
        chosen = settings.later_rewards if is_later else settings.rewards
        return [float(chosen.get(name, 0.0)) for name in names]

    return weights


def check_stages(settings: RlParams, where: str) -> None:
    """Refuse rewards that train nothing or are unknown, and a switch that is no step.

    Raises:
        ConfigError: a name is unknown, a part pays nothing, or the switch is below 0.
    """
    check_weights(settings.rewards, where=f"{where}.rewards")
    if settings.later_rewards:
        check_weights(settings.later_rewards, where=f"{where}.later_rewards")
    if settings.rewards_switch < 0:
        raise ConfigError(
            "rewards cannot change before the run",
            where=f"{where}.rewards_switch",
            expected="a share of the run below 1, or a step",
            got=settings.rewards_switch,
        )
