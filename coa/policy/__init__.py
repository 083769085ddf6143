"""Define the policy, which continues a text: a teacher that makes data, or a student in training.

`Policy` is for servers (one request, awaited), `BatchPolicy` for engines in this process (many
requests at once). To add one, implement either protocol; `coa/policy/scripted.py` is the smallest
example.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Protocol, runtime_checkable

import msgspec
from msgspec import UNSET, UnsetType

from coa.records.trajectory import Author, Sampling
from coa.records.usage import Count, Usage, charged_usage

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""An id of a vocabulary, as tables and models hold it."""


class Finish(StrEnum):
    """The reason why a completion ended."""

    STOP = "stop"
    """A stop string was written; the text ends with it."""
    END = "end"
    """The policy ended its turn."""
    LENGTH = "length"
    """`max_tokens` were written."""


@dataclass(frozen=True, slots=True)
class Turns:
    """The part of a rollout's state that a chat policy cannot read from a context."""

    tools: tuple[str, ...]
    """Names of the tools offered."""
    messages: tuple[str, ...]
    """The policy's own messages so far, each as its server sent it (`Native.message`)."""
    begun: str | UnsetType = UNSET
    """At a fork: the beginning of this turn's thought, which the policy continues. The context ends
    with it."""
    must_call: str | UnsetType = UNSET
    """At a fork: the tool that this turn must call."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to continue `context` until a stop string, the end of the turn, or `max_tokens`."""

    context: str
    stop: tuple[str, ...]
    """At most four: OpenAI-compatible servers take no more."""
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    """Differs for every trajectory and turn, so that no two rollouts share a call."""
    context_ids: tuple[int, ...] | None = None
    """The context as token ids, for policies that give ids: sampled tokens keep their ids."""
    session: str | UnsetType = UNSET
    """The name of the trajectory for routers. A reply does not depend on it, so journals leave it
    out of their keys: an unset field is not encoded."""
    turns: Turns | UnsetType = UNSET
    """For policies that read it (`reads_turns`). Left unset, it is not in the journal's key."""


@dataclass(frozen=True, slots=True)
class Native:
    """A chat server's reply, of which `Completion.text` is our transcription."""

    message: str
    """The policy's own message as JSON, to be sent back unchanged with the next turn."""
    thought: str | None = None
    """What the policy wrote before it acted or answered, where tags in it had to be broken. Where
    it also said something beside a call, the reasoning alone."""
    arguments: str = ""
    """The arguments of its call, verbatim; JSON where the policy kept to the form."""
    content: str = ""
    """Its answer, verbatim."""
    cut_calls: tuple[str, ...] = ()
    """Further calls of the same turn, as JSON; none was made."""
    fault: str = ""
    """Why the rollout cannot continue after this reply; empty where it can."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A text that the policy wrote."""

    text: str
    """Includes the stop string, if one ended it."""
    finish: Finish
    num_tokens: Count
    num_context_tokens: Count | None = None
    """Tokens of the request's context as the policy counts them; None when it does not say."""
    ids: tuple[TokenId, ...] | None = None
    """The sampled ids, for policies that give them."""
    opening_ids: tuple[int, ...] = ()
    """Ids that a wrapper put between the request's context and `ids`.

    The policy read them and wrote none of them.
    """
    closing_ids: tuple[int, ...] = ()
    """Ids that a wrapper puts after `ids`."""
    usage: Usage | None = None
    """What the server reports beyond the two counts above, such as cached tokens; None where that
    is nothing."""
    native: Native | None = None
    """The reply behind `text`, for policies that do not write the protocol's tags themselves."""

    @property
    def charged(self) -> Usage:
        """Return the tokens that the call is charged for."""
        return charged_usage(self.usage, self.num_context_tokens, self.num_tokens)


class RequestError(Exception):
    """The policy refuses this one request, say because its context is too long.

    The rollout becomes a row that says so.
    """


class Encoder(Protocol):
    """The name of a policy, and how it turns text into tokens."""

    @property
    def name(self) -> str:
        """Return the name that results and journals use for the model."""

    @property
    def identity(self) -> Mapping[str, object]:
        """Return what a reply depends on beyond the name and the request, such as the weights.

        It is part of the journal's key, and empty where the name says all.
        """

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...] | None:
        """Encode a piece of text by one author as token ids; None for policies without ids.

        Only in a prompt do the names of special tokens mean those tokens: an observation cannot end
        a turn (`coa.records.tokens.PieceEncoder.encode`).
        """

    def count_tokens(self, text: str) -> int:
        """Count the tokens of `text`; an estimate where the tokenizer is not at hand."""


def control_tokens(encoder: object) -> tuple[str, ...]:
    """Read the names of control tokens, which text from outside must not contain.

    Policies whose tokenizer is known have an attribute of this name; others give no names. The
    well-known names are kept out anyway (`coa/records/control_tokens.py`).
    """
    return tuple(getattr(encoder, "control_tokens", ()))


def reads_turns(encoder: object) -> bool:
    """Return whether a policy's requests must have `turns`: chat policies have this attribute."""
    return bool(getattr(encoder, "reads_turns", False))


def most_context_tokens(policy: object, request: Request) -> int:
    """Return the most tokens that a request's context may have.

    A token has at least one byte. Policies that add to the context, or that can count, have a
    method of this name.
    """
    own = getattr(policy, "most_context_tokens", None)
    if own is not None:
        return int(own(request))
    if request.context_ids is not None:
        return len(request.context_ids)
    return len(request.context.encode("utf-8", "replace"))


def sent_sampling(encoder: object, sampling: Sampling) -> Sampling:
    """Return the settings that the policy's server got; the others are -1.

    Policies that do not send all of them have the attribute `sampling_sent`. The run's seed stays:
    more than replies follow from it.
    """
    names = getattr(encoder, "sampling_sent", ("temperature", "top_p"))
    return Sampling(
        temperature=sampling.temperature if "temperature" in names else -1.0,
        top_p=sampling.top_p if "top_p" in names else -1.0,
        seed=sampling.seed,
    )


class Policy(Encoder, Protocol):
    """A policy that answers one request at a time, concurrently."""

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        Raises:
            RequestError: this request cannot be answered; others can.
            ServiceError: the policy cannot be reached, or answers nobody.
        """


@runtime_checkable
class BatchPolicy(Encoder, Protocol):
    """A policy that answers many requests in one call."""

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""


AnyPolicy = Policy | BatchPolicy
"""A server's policy, or an engine in this process. Each has a driver of its own."""


@runtime_checkable
class Scorer(Encoder, Protocol):
    """A policy that knows how probable a text is, as few do."""

    def log_probabilities(
        self, contexts: Sequence[tuple[int, ...]], continuations: Sequence[tuple[int, ...]]
    ) -> list[float]:
        """Tell the natural logarithm of each continuation's probability after its context.

        Both are token ids. It is minus infinity where the two do not fit into the model's window.
        """


class WrappedPolicy:
    """The name and the tokenizer of a policy inside another one."""

    def __init__(self, policy: Encoder) -> None:
        self.name = policy.name
        self.identity = policy.identity
        self.encode = policy.encode
        self.count_tokens = policy.count_tokens
        self.control_tokens = control_tokens(policy)


class UnbatchedPolicy(WrappedPolicy):
    """A policy that answers one request at a time with an engine in this process."""

    def __init__(self, policy: BatchPolicy) -> None:
        super().__init__(policy)
        self._policy = policy

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context, in a batch of one."""
        return self._policy.complete_batch([request])[0]


def session_name(trajectory_id: str) -> str:
    """Return the name of a trajectory for routers: a hash, because an id may say too much."""
    return hashlib.sha256(trajectory_id.encode()).hexdigest()[:32]


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """Cut `text` after the stop string that ends first, and say whether there was one.

    Servers differ: some drop the stop string, some keep it, some ignore the parameter and write on.
    """
    ends = [text.find(item) + len(item) for item in stop if item in text]
    if not ends:
        return text, False
    return text[: min(ends)], True
