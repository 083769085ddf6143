"""Pace requests: by limits that are set, and by the rate that a server turns out to accept."""

import math
import time
from dataclasses import dataclass

_LATENESS_SECONDS = 0.05
"""A turn that is taken late by so much does not delay the turns after it."""
_ROUND_SECONDS = 0.25
_ROUND_REQUESTS = 20
"""A round is no shorter than these, because a rate cannot be measured on less."""
_LONGEST_ROUND_SECONDS = 10.0
"""The end of a round in which fewer requests were sent."""
_AFTER_REFUSALS = 0.95
"""The share of the accepted rate that is asked for next."""
_FIRST_GROWTH = 0.02
"""The growth of the rate in the first round without refusals; it doubles in each one after."""
_LARGEST_GROWTH = 0.5
_MEMORY_SECONDS = 60.0
"""What was accepted longer ago does not matter at the first refusal."""
_LEAST_RATE = 1 / 60
"""Requests a second that are sent even if a server refuses all."""
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


@dataclass(slots=True)
class _Count:
    """The requests of a span of time."""

    began_at: float
    num_sent: int = 0
    num_refused: int = 0

    def sent_rate(self) -> float:
        """Return how many requests a second were sent until now."""
        return self.num_sent / (time.monotonic() - self.began_at)

    def accepted_rate(self) -> float:
        """Return how many requests a second were accepted until now."""
        return max(1 - self.num_refused / self.num_sent, 0.0) * self.sent_rate()


class Pace:
    """Find the rate at which a server accepts requests, from those that it refuses as too many.

    There is no limit until the first refusal. Then requests are sent in rounds. After a round with
    refusals, the rate is a little less than what was accepted. After rounds without, it grows: by
    little at first, and then faster and faster. So it settles close to what the server allows, and
    finds it again when that changes.
    """

    def __init__(self) -> None:
        self._rate = math.inf
        self._growth = _FIRST_GROWTH
        self._free_at = 0.0
        self._resumes_at = 0.0
        self._slowed_at = 0.0
        self._refusal_seconds = 0.0
        self._has_waited = False
        self._has_paused = False
        self._round = _Count(time.monotonic())
        self._cycle = _Count(time.monotonic())
        """What came after the last pause that the server asked for."""

    @property
    def is_found(self) -> bool:
        """Return whether requests are paced, because some were refused."""
        return self._rate < math.inf

    def seconds_until_free(self) -> float:
        """Return how long the next request has to wait; at most 0 if it may go."""
        seconds = max(self._free_at, self._resumes_at) - time.monotonic()
        if seconds > 0:
            self._has_waited = True
        return seconds

    def take(self) -> None:
        """Count a request that is sent now."""
        now = time.monotonic()
        seconds = now - self._round.began_at
        is_long = self._round.num_sent >= _ROUND_REQUESTS or seconds >= _LONGEST_ROUND_SECONDS
        # The refusals of a round must be here before it is judged.
        is_told = seconds >= _ROUND_SECONDS + self._refusal_seconds
        if (self.is_found or self._round.num_refused) and is_long and is_told:
            self._adapt()
            self._round = _Count(now)
        elif not self.is_found and not self._round.num_refused and seconds >= _MEMORY_SECONDS:
            self._round, self._cycle = _Count(now), _Count(now)
        self._round.num_sent += 1
        self._cycle.num_sent += 1
        self._free_at = max(self._free_at, now - _LATENESS_SECONDS) + 1 / self._rate

    def refuse(self, sent_at: float) -> None:
        """Count a request that the server refused."""
        if sent_at < self._slowed_at:
            return  # the rate of then is not that of now
        self._round.num_refused += 1
        self._cycle.num_refused += 1
        self._refusal_seconds = time.monotonic() - sent_at
        if not self.is_found:
            self._rest(_ROUND_SECONDS)  # until it is known how much was accepted

    def pause(self, seconds: float) -> None:
        """Send nothing for the seconds that the server asks for."""
        self._has_paused = True
        self._rest(seconds)

    def _rest(self, seconds: float) -> None:
        self._resumes_at = max(self._resumes_at, time.monotonic() + seconds)

    def _adapt(self) -> None:
        """Set the rate after a round."""
        if self._round.num_refused:
            # Some servers refuse all until the minute is over: then only the whole minute counts.
            measured = self._cycle if self._has_paused else self._round
            least = 0.0 if self._has_paused else min(self._rate, self._round.sent_rate()) / 2
            self._rate = max(_AFTER_REFUSALS * measured.accepted_rate(), least, _LEAST_RATE)
            self._growth = _FIRST_GROWTH
            self._slowed_at = time.monotonic()
        elif self._has_waited:
            self._rate *= 1 + self._growth
            self._growth = min(2 * self._growth, _LARGEST_GROWTH)
        if self._has_paused:
            self._cycle = _Count(time.monotonic())
        self._has_paused = False
        self._has_waited = False
