"""Limit what one request to the search server, and all of them together, may ask for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of the search server; what exceeds them is refused with a status and a reason."""

    max_query_chars: int = 4096
    """Longer queries are refused: 422."""
    max_batch: int = 512
    """Queries or addresses in one request; more are refused: 422."""
    max_top_k: int = 100
    """More passages are refused: 422."""
    max_body_bytes: int = 4_000_000
    """A larger request is refused: 413."""
    max_waiting: int = 1024
    """Queries that wait or are searched in one worker; more are refused: 429 with Retry-After."""
    timeout_seconds: float = 30.0
    """Requests that take longer are given up: 503 with Retry-After."""
    max_bodies_bytes: int = 32_000_000
    """Bytes of large bodies that one worker holds; more are refused: 503 with Retry-After."""
    max_unread_bytes: int = 256_000_000
    """Bytes of replies that clients have not read yet; more are refused: 503 with Retry-After."""
    max_connections: int = 2048
    """Open connections of one worker, fewer where it may open fewer files. Beyond this, the one
    that has been idle longest is closed."""
    idle_seconds: int = 5
    """How long a connection may be idle between two requests; then it is closed."""
    head_seconds: float = 10.0
    """How long the head of a request may take to arrive; a later one is refused: 408."""
    transfer_seconds: float = 30.0
    """How long the body may take to arrive, and the reply to be read; a later body is refused:
    408."""
