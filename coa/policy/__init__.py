"""The policy: whatever continues a text. A teacher that makes data and a student in training stand behind it alike.

`Policy` is for servers (one request, awaited), `BatchPolicy` for engines in this process (many at once). To add one,
implement either protocol; `coa/policy/scripted.py` is the smallest example.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from coa.trajectory import Author


class Finish(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """A stop string was written; the text ends with it."""
    END = "end"
    """The policy ended its turn."""
    LENGTH = "length"
    """`max_tokens` were written."""


@dataclass(frozen=True, slots=True)
class Request:
    """Continue `context` until a stop string, the end of the turn, or `max_tokens`."""

    context: str
    stop: tuple[str, ...]
    """At most four: OpenAI-compatible servers take no more."""
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    """Differs for every trajectory and turn, so that no two rollouts share a call."""
    context_ids: tuple[int, ...] | None = None
    """The context as token ids, for policies that give ids: sampled tokens are never re-tokenised."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote."""

    text: str
    """With the stop string, if one ended it."""
    finish: Finish
    num_tokens: int
    num_context_tokens: int | None = None
    """Tokens of the request's context as the policy counts them; None when it does not say."""
    ids: tuple[int, ...] | None = None
    """The sampled ids, for policies that give them."""
    opening_ids: tuple[int, ...] = ()
    """Ids that a wrapper put between the request's context and `ids`: the policy read them and wrote none of them."""
    closing_ids: tuple[int, ...] = ()
    """Ids that a wrapper puts after `ids`."""


@dataclass(slots=True)
class Traffic:
    """Where a policy's requests stand; the bar shows it for policies with an attribute `traffic`."""

    waiting: int = 0
    """Sent and not yet answered."""
    retried: int = 0
    """Repeats of requests that failed for a moment."""
    refused: int = 0
    """Requests that could not be answered: each is a rollout that ends as `policy_error`."""


class RequestError(Exception):
    """The policy refuses this one request (say, a context that is too long); the rollout becomes a row that says so."""


class Encoder(Protocol):
    """What a policy says of itself and of text: its name, its token ids, its token counts."""

    @property
    def name(self) -> str:
        """The model, as results and journals should call it."""

    @property
    def identity(self) -> Mapping[str, object]:
        """What a reply depends on beyond the name and the request, such as the weights behind the name.

        It is part of the journal's key; empty where there is no such thing.
        """

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...] | None:
        """Token ids of a piece of text by one author; None for policies without ids.

        Only in a prompt do the names of special tokens mean those tokens: an observation cannot end a turn
        (`coa.tokens.PieceEncoder.encode`).
        """

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` costs; an estimate where the tokenizer is out of reach."""


def control_tokens(encoder: object) -> tuple[str, ...]:
    """Read the names that text from outside must not bear: an encoder's attribute of this name.

    Policies whose tokenizer is known have it, others give no names. The well-known names are kept
    out anyway (`coa/control_tokens.py`).
    """
    return tuple(getattr(encoder, "control_tokens", ()))


class Policy(Encoder, Protocol):
    """A policy that answers one request at a time, concurrently."""

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        Raises:
            RequestError: this request cannot be answered; others can.
            ServiceError: the policy cannot be reached, or answers nobody, for as long as it may.
        """


@runtime_checkable
class BatchPolicy(Encoder, Protocol):
    """A policy that answers many requests in one call."""

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""


class UnbatchedPolicy:
    """An engine in this process as a policy that answers one request at a time."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self.name, self.identity = policy.name, policy.identity
        self.encode, self.count_tokens = policy.encode, policy.count_tokens
        self.control_tokens = control_tokens(policy)

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context, in a batch of one."""
        return self._policy.complete_batch([request])[0]


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the end of the stop string that comes first, and whether there was one.

    Servers differ: some drop the stop string, some keep it, some ignore the parameter and write on.
    """
    ends = [text.find(item) + len(item) for item in stop if item in text]
    return (text[: min(ends)], True) if ends else (text, False)
