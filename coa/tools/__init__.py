"""Define the tools that a policy may call (the library T). To add one, implement `Tool`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, unquote

from coa.records.trajectory import Outcome

_PLAIN = " :/,;=@()"
"""Characters that are not quoted in a library's fingerprint; `+`, which separates tools, is."""


@dataclass(frozen=True, slots=True)
class ToolReply:
    """A tool's reply to one action."""

    outcome: Outcome
    text: str
    """OK, EMPTY, INVALID: the observation's body (the loop neutralises it). ERROR: what failed, for
    the row."""
    passages: tuple[str, ...] = ()
    """Ids of the passages shown, in order."""
    num_requests: int = 0
    """Requests that the call sent to a server, repeated ones included; a provider charges for
    them."""


class Tool(Protocol):
    """A tool of the library."""

    @property
    def name(self) -> str:
        """Return the lower-case word in its tags, such as `search`."""

    @property
    def fingerprint(self) -> str:
        """Identify everything that its replies depend on.

        The fingerprint is part of every trajectory and journal key.
        """

    async def call(self, argument: str) -> ToolReply:
        """Answer one action. Its own failure is a reply with outcome ERROR.

        Raises:
            ServiceError: its server cannot be reached at all, after retries.
        """


Toolbox = Mapping[str, Tool]
"""The tools offered in a run, by name."""


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """How a tool with arguments of its own describes them; other tools take one text."""

    description: str
    parameters: Mapping[str, Any]
    """The arguments as a JSON Schema."""


def own_schemas(tools: Toolbox) -> dict[str, ToolSchema]:
    """Return the schemas of the tools that have one: those with an attribute `schema`."""
    found = {}
    for name, tool in tools.items():
        schema = getattr(tool, "schema", None)
        if isinstance(schema, ToolSchema):
            found[name] = schema
    return found


def library_fingerprint(tools: Toolbox) -> str:
    """Join the fingerprints of a run's tools: `calculate=...+search=...`.

    Where search is the only tool, its own fingerprint is returned.
    """
    if list(tools) == ["search"]:
        return tools["search"].fingerprint
    parts = []
    for name in sorted(tools):
        quoted = quote(tools[name].fingerprint, safe=_PLAIN)
        parts.append(f"{name}={quoted}")
    return "+".join(parts)


def tool_fingerprints(library: str, tools: Sequence[str]) -> dict[str, str]:
    """Split a library's fingerprint into that of each tool, by name.

    This is the inverse of `library_fingerprint`.
    """
    if list(tools) == ["search"]:
        return {"search": library}
    fingerprints = {}
    for part in library.split("+"):
        name, equals, quoted = part.partition("=")
        if equals and name in tools:
            fingerprints[name] = unquote(quoted)
    return fingerprints
