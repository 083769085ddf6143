"""Describe the section `tools` of params.yaml: which tools are offered beside `search`."""

import shlex
from dataclasses import dataclass, field

from coa.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Limits on what one page may cost."""

    timeout_seconds: float = 20.0
    """Time for a page with all its redirects."""
    max_bytes: int = 2_000_000
    """Longer pages are cut."""
    max_per_second: float = 2.0
    """Pages a second from one host; 0 sets no limit."""
    private_hosts: tuple[str, ...] = ()
    """Names of hosts that may have private addresses, such as an intranet's."""


@dataclass(frozen=True, slots=True)
class OpenSettings:
    """Settings for opening and showing pages."""

    is_offered: bool = False
    """Whether the tool is there."""
    max_words: int = 600
    """Words of the page that are shown, up to the end of a sentence."""
    fetch: FetchLimits = field(default_factory=FetchLimits)
    """Limits on what one page may cost."""

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ConfigError(
                "tools.open.max_words is too small", expected="at least 1", got=self.max_words
            )
        for name in ("timeout_seconds", "max_bytes"):
            if not getattr(self.fetch, name) > 0:
                raise ConfigError(
                    f"tools.open.fetch.{name} must be positive", got=getattr(self.fetch, name)
                )


@dataclass(frozen=True, slots=True)
class McpSettings:
    """A server and which of its tools are offered."""

    command: str = ""
    """Starts a server that speaks over stdin and stdout: `python weather.py`. No shell runs it."""
    url: str = ""
    """Or the address of one that is running: `http://127.0.0.1:8000/mcp`."""
    tools: tuple[str, ...] = ()
    """Names of the tools that are offered; empty: all of them."""
    timeout_seconds: float = 30.0
    """For one call, and for the list of tools."""
    max_chars: int = 4000
    """Characters of a reply that are shown."""

    def __post_init__(self) -> None:
        if bool(self.command.strip()) == bool(self.url.strip()):
            raise ConfigError("an MCP server needs either a command or a url", where="tools.mcp")
        try:
            shlex.split(self.command)
        except ValueError as error:
            raise ConfigError(
                "the command of an MCP server cannot be read", where="tools.mcp", got=error
            ) from error
        for name in ("timeout_seconds", "max_chars"):
            value = getattr(self, name)
            if not value > 0:
                raise ConfigError(f"{name} of an MCP server must be positive, not {value}")


@dataclass(frozen=True, slots=True)
class ToolsParams:
    """The tools of the library beside `search`. All are offered, and a prompt shows their tags."""

    calculator: bool = False
    """`calculate`: arithmetic."""
    open: OpenSettings = field(default_factory=OpenSettings)
    """`open`: the text of a web page."""
    mcp: tuple[McpSettings, ...] = ()
    """Servers that speak the Model Context Protocol, each a mapping: `command` (starts a server
    that speaks over stdin and stdout) or `url` (of one that is running), `tools` (names of those
    offered; all), `timeout_seconds` for a call and for the list of tools (30), `max_chars` of a
    reply (4000)."""
    own: tuple[str, ...] = ()
    """Tools of your own, each as `module:name` (docs/pipeline.md)."""
