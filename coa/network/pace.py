"""Keep to the limits on requests and tokens a minute that are set."""

import time

_LATENESS_SECONDS = 0.05
"""A turn that is taken late by so much does not delay the turns after it."""
_SECONDS_PER_MINUTE = 60.0


class EvenLimit:
    """A limit on amounts a minute, such as tokens; they are spread evenly over the minute."""

    def __init__(self, per_minute: float) -> None:
        self._seconds_each = _SECONDS_PER_MINUTE / per_minute
        self._free_at = 0.0

    def seconds_until_free(self) -> float:
        """Return how long the next one has to wait; at most 0 if it may go."""
        return self._free_at - time.monotonic()

    def take(self, amount: float = 1.0) -> None:
        """Count an amount that is used now."""
        earliest = time.monotonic() - _LATENESS_SECONDS
        self._free_at = max(self._free_at, earliest) + amount * self._seconds_each

    def correct(self, amount: float) -> None:
        """Add to what was counted, or take from it, once the true amount is known."""
        self._free_at += amount * self._seconds_each


class Limits:
    """The limits on requests and tokens a minute that hold over all servers of a policy."""

    def __init__(self, requests_per_minute: float = 0.0, tokens_per_minute: float = 0.0) -> None:
        self._requests = EvenLimit(requests_per_minute) if requests_per_minute else None
        self._tokens = EvenLimit(tokens_per_minute) if tokens_per_minute else None

    @property
    def counts_tokens(self) -> bool:
        """Return whether there is a limit on tokens."""
        return self._tokens is not None

    def seconds_until_free(self) -> float:
        """Return how long the next request has to wait; at most 0 if it may go."""
        limits = [limit for limit in (self._requests, self._tokens) if limit]
        return max((limit.seconds_until_free() for limit in limits), default=0.0)

    def take(self, num_tokens: float) -> None:
        """Count a request that is sent now, with the tokens that it is expected to use."""
        if self._requests:
            self._requests.take()
        if self._tokens:
            self._tokens.take(num_tokens)

    def correct_tokens(self, amount: float) -> None:
        """Add to the tokens that were counted, or take from them."""
        if self._tokens:
            self._tokens.correct(amount)
