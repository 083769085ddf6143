"""Count what the rollouts of a question cost, so that ways of asking compare at equal cost."""

from collections.abc import Iterable
from typing import NamedTuple

from coa.records.trajectory import Trajectory, count_actions
from coa.search.tool import SearchTool


class Spent(NamedTuple):
    """What one try of a question cost, with all that was asked and searched for it."""

    tokens: int
    """Tokens that the policy wrote."""
    requests: int
    """Requests to the policy."""
    searches: int
    """Calls of the search."""


def spent_on(trajectories: Iterable[Trajectory], num_searches: int = 0) -> Spent:
    """Add up what rollouts cost, and searches that were made outside of them."""
    tokens = 0
    requests = 0
    for trajectory in trajectories:
        tokens += trajectory.num_policy_tokens
        requests += trajectory.num_calls
        num_searches += count_actions(trajectory, SearchTool.name)
    return Spent(tokens, requests, num_searches)


def cost(spent: Iterable[Spent], name: str) -> float | None:
    """Add up one cost of all tries of a question; None where nothing was counted."""
    tries = list(spent)
    return sum(getattr(each, name) for each in tries) if tries else None
