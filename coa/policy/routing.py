"""Name the trajectory of a request to routers, and expect its tokens for a limit on tokens."""

import hashlib

from coa.pacing import Limits
from coa.policy import Completion, Request

CHARS_PER_TOKEN = 3.5
"""An estimate for English text and today's vocabularies.

It is not learned from replies: a resumed run must count as the first did.
"""
_FIRST_WRITTEN_TOKENS = 256.0
"""The tokens that a turn is expected to have before any was seen."""
_NEWEST_SHARE = 0.05
"""The weight of the newest turn in the mean."""


def session_name(trajectory_id: str) -> str:
    """Return the name of a trajectory for routers: a hash, because an id may say too much."""
    return hashlib.sha256(trajectory_id.encode()).hexdigest()[:32]


def session_headers(request: Request) -> dict[str, str]:
    """Return the headers by which routers keep a trajectory on one server.

    `X-Session-ID` is read by several, `X-SMG-Routing-Key` by SGLang's.
    """
    if not request.session:
        return {}
    return {"X-Session-ID": request.session, "X-SMG-Routing-Key": request.session}


class TokenForecast:
    """Expects the tokens of requests, and corrects `limits` once a reply tells the true number."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._mean_written = _FIRST_WRITTEN_TOKENS

    def expect(self, request: Request) -> float:
        """Return the tokens that a request will use: its context, and a turn of mean length."""
        if not self._limits.counts_tokens:
            return 0.0
        return _context_tokens(request) + min(self._mean_written, request.max_tokens)

    def correct(self, request: Request, expected: float, completion: Completion) -> None:
        """Count what a request used in place of what was expected."""
        if not self._limits.counts_tokens:
            return
        context = completion.num_context_tokens or _context_tokens(request)
        self._limits.correct_tokens(context + completion.num_tokens - expected)
        self._mean_written += _NEWEST_SHARE * (completion.num_tokens - self._mean_written)


def _context_tokens(request: Request) -> float:
    if request.context_ids is not None:
        return float(len(request.context_ids))
    return len(request.context) / CHARS_PER_TOKEN
