"""The library T of tools that a policy may call. Search is the first; to add one, implement `Tool`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote, unquote

from coa.trajectory import Outcome

_PLAIN = " :/,;=@()"
"""Stands as it is in a library's fingerprint; `+`, which parts the tools, does not."""


class Repeats(StrEnum):
    """What becomes of a passage that the trajectory has shown before."""

    KEEP = "keep"
    """It is shown again."""
    MARK = "mark"
    """Its place says that it stands above."""
    DROP = "drop"
    """It is left out."""


@dataclass(frozen=True, slots=True)
class ToolReply:
    """What a tool returned for one action."""

    outcome: Outcome
    text: str
    """OK, EMPTY, INVALID: the observation's body (the loop neutralises it). ERROR: what failed, for
    the row."""
    passages: tuple[str, ...] = ()
    """Ids of the passages shown, in order."""
    lines: tuple[str, ...] = ()
    """The text, a piece for each passage, where repeats are not to be kept."""
    repeats: Repeats = Repeats.KEEP
    heads: tuple[str, ...] = ()
    """The number and the title before each passage's text, where repeats are to be marked."""


class Tool(Protocol):
    """A tool of the library."""

    @property
    def name(self) -> str:
        """Lower-case word that its tags carry, such as `search`."""

    @property
    def fingerprint(self) -> str:
        """Identifies everything that its replies depend on; part of every trajectory and journal key."""

    async def call(self, argument: str) -> ToolReply:
        """Answer one action. Its own failure is a reply with outcome ERROR.

        Raises:
            ServiceError: its server cannot be reached at all, after retries.
        """


Toolbox = Mapping[str, Tool]
"""The tools offered in a run, by name."""


def library_fingerprint(tools: Toolbox) -> str:
    """The fingerprint of a run's tools: search's own where it stands alone, else all, `calculate=...+search=...`."""
    if list(tools) == ["search"]:
        return tools["search"].fingerprint
    return "+".join(
        f"{name}={quote(tools[name].fingerprint, safe=_PLAIN)}" for name in sorted(tools)
    )


def tool_fingerprints(library: str, tools: Sequence[str]) -> dict[str, str]:
    """Each tool's own fingerprint, by name, from that of the library: the inverse of `library_fingerprint`."""
    if list(tools) == ["search"]:
        return {"search": library}
    pairs = [part.split("=", 1) for part in library.split("+") if "=" in part]
    return {name: unquote(own) for name, own in pairs if name in tools}
