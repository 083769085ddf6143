"""Describe the manners of real chat servers, for our server to imitate (`coa.policy.server.app`).

They were read in the servers' documentation and sources; a personality is as true as that. To add
one, write a value of `Personality` and its `Manners`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coa.policy import Completion


class Continues(StrEnum):
    """How a server is asked to go on from a last message that is only begun."""

    NEVER = "never"
    """It cannot: what it writes is a new message."""
    FINAL_MESSAGE = "final_message"
    """`continue_final_message: true`. Its reasoning parser does not find the beginning of a thought
    that was begun, and leaves the rest of it in the content."""
    PREFIX = "prefix"
    """The message has `prefix: true`, and the address ends with `/beta`."""


class Personality(StrEnum):
    """A kind of chat server."""

    VLLM = "vllm"
    """Shows `reasoning`, and takes `reasoning_content` for it in messages."""
    SGLANG = "sglang"
    """Shows `reasoning_content`."""
    DEEPSEEK = "deepseek"
    """Shows `reasoning_content`, wants it back, and sends blank lines to keep alive."""
    OPENROUTER = "openrouter"
    """Shows `reasoning` and signed `reasoning_details`, wants the details back, tells the cost."""
    PLAIN = "plain"
    """Shows no reasoning."""


Usage = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manners:
    """The manners of one personality."""

    shows: str
    """The field of a message with the reasoning; empty where none is shown."""
    takes: tuple[str, ...]
    """Fields of earlier messages in which reasoning comes back; the first that is there counts."""
    usage: Callable[[Usage, Completion], Usage]
    """Adds to the usage what this server says of it."""
    wants_reasoning: bool = False
    """Whether earlier reasoning must come back: else status 400."""
    has_details: bool = False
    """Whether the reasoning also comes as signed details, which must come back unchanged."""
    keeps_alive: bool = False
    """Whether blank lines come before the reply."""
    keeps_blanks: bool = False
    """Whether the blank lines before an answer stay in its content."""
    honours_one_call: bool = True
    """Whether `parallel_tool_calls: false` is obeyed."""
    continues: Continues = Continues.NEVER
    """How it goes on from a message that is only begun."""
    forces_calls: bool = True
    """Whether `tool_choice` may name a tool: else status 400."""


PRICE_OF_A_TOKEN = 1e-6
"""Dollars, for the personality that tells the cost."""


def _openai_usage(usage: Usage, completion: Completion) -> Usage:
    return {**usage, "prompt_tokens_details": {"cached_tokens": 0}}


def _deepseek_usage(usage: Usage, completion: Completion) -> Usage:
    hit = usage["prompt_tokens"] // 64 * 64  # its cache counts in blocks of 64 tokens
    return {
        **usage,
        "prompt_cache_hit_tokens": hit,
        "prompt_cache_miss_tokens": usage["prompt_tokens"] - hit,
    }


def _openrouter_usage(usage: Usage, completion: Completion) -> Usage:
    cost = usage["total_tokens"] * PRICE_OF_A_TOKEN
    return {**_openai_usage(usage, completion), "cost": cost}


MANNERS: Mapping[Personality, Manners] = {
    Personality.VLLM: Manners(
        shows="reasoning",
        takes=("reasoning", "reasoning_content"),
        usage=_openai_usage,
        keeps_blanks=True,
        continues=Continues.FINAL_MESSAGE,
    ),
    Personality.SGLANG: Manners(
        shows="reasoning_content",
        takes=("reasoning_content",),
        usage=_openai_usage,
        continues=Continues.FINAL_MESSAGE,
    ),
    Personality.DEEPSEEK: Manners(
        shows="reasoning_content",
        takes=("reasoning_content",),
        usage=_deepseek_usage,
        wants_reasoning=True,
        keeps_alive=True,
        honours_one_call=False,
        continues=Continues.PREFIX,
        forces_calls=False,
    ),
    Personality.OPENROUTER: Manners(
        shows="reasoning",
        takes=("reasoning",),
        usage=_openrouter_usage,
        has_details=True,
    ),
    Personality.PLAIN: Manners(shows="", takes=(), usage=_openai_usage),
}
