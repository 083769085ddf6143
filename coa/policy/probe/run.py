"""Look at what a server does with a few short questions, before a run relies on it.

`coa/policy/probe/completions.py` and `coa/policy/probe/chat.py` ask, `coa/probing.py` keeps the
replies in the journal. What a server was seen to do is one line of text for each `Capability`. What
contradicts the settings is an error; what could not be seen is said to be unknown.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import msgspec

from coa.errors import ConfigError
from coa.policy import Completion, Request

UNKNOWN = "unknown"


class Capability(StrEnum):
    """A thing that a run relies on."""

    CONTINUATION = "continuation"
    """A text goes on where its beginning stops, and the beginning is not repeated."""
    STOP_STRINGS = "stop_strings"
    """A text ends at a stop string."""
    TOKEN_IDS = "token_ids"
    """The sampled ids come back, and they are those of the text."""
    SEEDS = "seeds"
    """A seed decides what is drawn."""
    REASONING = "reasoning"
    """The reasoning is shown, as text."""
    MODEL = "model"
    """The replies are the model's that was asked for."""
    TOOL_CALLS = "tool_calls"
    """A call of a tool arrives as a call."""
    EARLIER_TURNS = "earlier_turns"
    """The server takes its own messages back, with the results of its calls."""
    FORCED_ANSWER = "forced_answer"
    """An answer can be forced."""
    USAGE = "usage"
    """The tokens of a call are counted."""


@dataclass(frozen=True, slots=True)
class ProbeReply(Completion):
    """A server's reply to a question of a probe."""

    sent: str = ""
    """The body that it sent; empty where it refused."""
    refusal: str = ""
    """What it said when it refused; empty where it did not."""

    @classmethod
    def of(cls, completion: Completion, sent: str) -> "ProbeReply":
        """Add to a completion the body that it was read from."""
        values = {part.name: getattr(completion, part.name) for part in fields(completion)}
        return cls(**values, sent=sent)

    @property
    def reported(self) -> Mapping[str, Any]:
        """Return the `usage` that the server sent; empty where it sent none."""
        found: Any = msgspec.json.decode(self.sent) if self.sent else {}
        usage = found.get("usage")
        return usage if isinstance(usage, dict) else {}


Ask = Callable[[Request], Awaitable[ProbeReply]]
"""Asks one question, or reads the recorded reply."""


@dataclass(slots=True)
class Findings:
    """What a server was seen to do."""

    where: str
    """The addresses."""
    seen: dict[Capability, str] = field(default_factory=dict)
    contradiction: ConfigError | None = None
    """The first thing in which the server is not as the settings say."""

    def contradict(self, what: str, *, expected: str, got: str, fix: str) -> None:
        """Note that the server is not as the settings say."""
        if self.contradiction is None:
            self.contradiction = ConfigError(
                what, where=self.where, expected=expected, got=got, fix=fix
            )

    def require_answer(self, reply: ProbeReply, asked_for: str, fix: str) -> bool:
        """Tell whether a question was answered; a refusal is a contradiction."""
        if reply.refusal:
            self.contradict(
                f"the server refuses {asked_for}, as every such request of this run",
                expected="a reply",
                got=reply.refusal,
                fix=fix,
            )
        return not reply.refusal


REFUSAL_ADVICE = (
    "see what the server says; most often it does not take a field of teacher.server.extra_body, "
    "or a setting of teacher.sampling"
)


def seen_of_seeds(first: str, again: str, other: str) -> str:
    """Compare texts drawn with one seed twice, the second longer, and with another seed."""
    whole = first.rstrip("\ufffd")  # a character may be cut in the middle
    if not whole:
        return f"{UNKNOWN}: no text came"
    if not again.startswith(whole):
        return "not honoured: the same seed gave another text"
    if other == first:
        return f"{UNKNOWN}: two seeds gave the same text"
    return "honoured: the same seed gave the same text, another seed another one"


def seen_of_usage(replies: Sequence[ProbeReply]) -> str:
    """Say what the server reports of the tokens of its calls."""
    reported = [reply.reported for reply in replies if not reply.refusal]
    if not all(usage.get("completion_tokens") for usage in reported):
        return "not counted by the server: counted or estimated here"
    if any(_tells_cached(usage) for usage in reported):
        return "counted, cached tokens too"
    return "counted, without cached tokens"


def _tells_cached(usage: Mapping[str, Any]) -> bool:
    details = usage.get("prompt_tokens_details")
    return "prompt_cache_hit_tokens" in usage or (
        isinstance(details, dict) and details.get("cached_tokens") is not None
    )
