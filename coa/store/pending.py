"""Say what a rollout waits for, and what may come instead of a turn."""

from dataclasses import dataclass

from coa.records.trajectory import StopReason


@dataclass(frozen=True, slots=True)
class Generate:
    """The next thing to do: let the policy write."""

    stop: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Call:
    """The next thing to do: call a tool."""

    tool: str
    argument: str


@dataclass(frozen=True, slots=True)
class Done:
    """The rollout is over."""

    reason: StopReason
    error: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """A refusal of a request by the policy's server, with what the server said."""

    message: str
