"""Read what servers report of a call's tokens and its price: cached and reasoning tokens, dollars.

Servers follow OpenAI's shape, in which cached tokens are part of the context and reasoning is part
of what was written, with some additions: DeepSeek counts cache hits in a field of its own,
OpenRouter adds what the call cost, and xAI leaves reasoning out of the written tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

MOST_TOKENS = 1_000_000_000
"""A server that reports more tokens for one call is wrong; tables hold no number of any size."""
_MOST_DOLLARS = 1_000_000.0
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
"""A number of tokens in a journal."""
Dollars = Annotated[float, msgspec.Meta(ge=0, le=_MOST_DOLLARS)]


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens that a call is charged for, and its price where the server says it."""

    context_tokens: Count
    """Tokens that the model read, the cached ones included."""
    written_tokens: Count
    """Tokens that the model wrote, reasoning and text that was cut off later included."""
    cached_tokens: Count = 0
    """Those of the context that the server had in its cache."""
    reasoning_tokens: Count = 0
    """Those of the written tokens that are reasoning, where the server tells them apart."""
    dollars: Dollars | None = None
    """What the server says that the call cost; None where it does not say it."""
    is_estimated: bool = False
    """Whether the server did not count, so that the counts are the client's own."""


def charged_usage(usage: Usage | None, num_context_tokens: int | None, num_tokens: int) -> Usage:
    """Return the usage of a completion, from its two counts where they say all."""
    if usage is not None:
        return usage
    is_counted = num_context_tokens is not None
    return Usage(num_context_tokens or 0, num_tokens, is_estimated=not is_counted)


def read_usage(reported: object, num_tokens: int, count_context: Callable[[], int]) -> Usage:
    """Read the `usage` of a reply.

    Args:
        reported: The field as the server sent it; anything may be there.
        num_tokens: The tokens that were written, as the client counts them.
        count_context: Counts the tokens of the context where the server does not.
    """
    found = reported if isinstance(reported, dict) else {}
    context = _count(found, "prompt_tokens")
    written = _count(found, "completion_tokens")
    cached = _count(_part(found, "prompt_tokens_details"), "cached_tokens")
    reasoning = _count(_part(found, "completion_tokens_details"), "reasoning_tokens")
    is_left_out = reasoning and _count(found, "total_tokens") == context + written + reasoning
    if is_left_out:
        written = min(written + reasoning, MOST_TOKENS)
    context_tokens = context or count_context()
    written_tokens = written or num_tokens
    return Usage(
        context_tokens=context_tokens,
        written_tokens=written_tokens,
        cached_tokens=min(cached or _count(found, "prompt_cache_hit_tokens"), context_tokens),
        reasoning_tokens=min(reasoning, written_tokens),
        dollars=_dollars(found.get("cost")),
        is_estimated=not context,
    )


def _part(found: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = found.get(name)
    return part if isinstance(part, dict) else {}


def _count(found: Mapping[str, Any], name: str) -> int:
    return read_count(found.get(name)) or 0


def read_count(value: object) -> int | None:
    """Return what a server reports as a number of tokens; None where it is no such number."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_TOKENS else None


def _dollars(value: object) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    # JSON of some servers holds not-a-number and infinity, and an int may be too large for a float.
    return float(value) if 0 <= value <= _MOST_DOLLARS else None
