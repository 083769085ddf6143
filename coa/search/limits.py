"""What the search server lets one request, and all of them together, ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What is more is refused with a status and a reason."""

    max_query_chars: int = 4096
    """Longer queries are refused: 422."""
    max_batch: int = 512
    """Queries or addresses in one request; more are refused: 422."""
    max_top_k: int = 100
    """More passages are refused: 422."""
    max_body_bytes: int = 4_000_000
    """A larger request is refused: 413."""
    max_waiting: int = 1024
    """Queries in hand in one worker; more are refused: 429 with Retry-After."""
    timeout_seconds: float = 30.0
    """Requests that take longer are given up: 503 with Retry-After."""
