"""Define the settings of a server, and check them before anything is sent.

They are apart from the policy, so that reading settings loads no client.
"""

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from coa.errors import ConfigError

_BASE_URL = re.compile(r"https?://[^/@\s?#]+(/[^\s?#]*)?")


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of the server: its address, the model, and how long to wait."""

    base_url: str | tuple[str, ...] = "http://127.0.0.1:8000/v1"
    """The address up to and including `/v1`; the default is vLLM's. It may be a list of addresses
    of servers of the same model. A trajectory begins at the one with the fewest requests and stays
    there. A server that fails is avoided for a while, and its trajectories continue elsewhere."""
    model: str = ""
    """The model's name on the server."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; empty where no key is needed."""
    timeout_seconds: float = 600.0
    """How long one reply may take."""
    patience_minutes: float = 10.0
    """How long a failed request is repeated, with growing, jittered pauses. This holds for refused
    and lost connections, timeouts, 408, 409, 425, 429 (`Retry-After` is obeyed), 5xx and replies
    that cannot be read. A reply under way is waited for. Warnings are logged meanwhile. 0 repeats
    nothing at the same server. Of several servers, all must fail."""
    tokenizer: str = ""
    """Folder or Hub name of the model's tokenizer, to count tokens exactly. If empty, a token is
    estimated as 3.5 characters. Needs the extra `train`."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of every request. vLLM needs `skip_special_tokens: false` (or a closing tag
    that is a special token vanishes), `add_special_tokens: false` (or contexts begin with two start
    tokens), and, with `tokenizer` set, `return_token_ids: true`, which makes this a policy with
    ids."""
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers of every request, such as `OpenAI-Organization`, or those that a gateway
    asks for. A key belongs into `api_key_env`."""
    session_field: str = ""
    """Name of a field of every request that carries a hash of the trajectory's id, such as vLLM's
    `session_id`; empty: no field. The headers `X-Session-ID` and `X-SMG-Routing-Key` always do."""
    max_requests_per_minute: int = 0
    """Requests that all servers together are sent in a minute; 0 sets no limit."""
    max_tokens_per_minute: int = 0
    """Tokens that all servers together read and write in a minute; 0 sets no limit. A request is
    counted with the tokens that it will probably use, and corrected by what the reply reports."""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses of all servers, without a slash at the end."""
        listed = (self.base_url,) if isinstance(self.base_url, str) else self.base_url
        return tuple(address.rstrip("/") for address in listed)


_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|password|credential", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_WORD = re.compile(r"(?:^|_)(?:key|token|secret|auth|password|api)(?:_|$)", re.IGNORECASE)
_LONGEST_NAME = 40


def require_usable(settings: ServerSettings, place: str) -> None:
    """Refuse settings with which no request can be sent; `place` names their section."""
    for address in settings.addresses:
        try:
            parts = urlsplit(address)
            host = (parts.hostname or "").encode("idna")
            _ = parts.port  # raises ValueError where it is not a port
        except ValueError:
            host = b""
        if not host or not _BASE_URL.fullmatch(address):
            # It may hold a password: it is not shown.
            raise ConfigError(
                "base_url is not usable",
                where=f"{place}.base_url",
                expected="http://... or https://... without credentials and query",
            )
    where = ", ".join(settings.addresses)
    if not where or len(set(settings.addresses)) < len(settings.addresses):
        raise ConfigError("base_url must name each server once", where=where or f"{place}.base_url")
    if not settings.model:
        raise ConfigError(
            "no model is named", where=where, fix="set `model` to one the server lists"
        )
    if settings.timeout_seconds <= 0:
        raise ConfigError("timeout_seconds must be positive", where=where)
    for name in ("patience_minutes", "max_requests_per_minute", "max_tokens_per_minute"):
        if getattr(settings, name) < 0:
            raise ConfigError(f"{name} must not be negative", where=where)


def read_key(variable: str) -> str:
    """Read the key from an environment variable; empty where there is none."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the key cannot be sent", where=f"environment variable {variable}")
    return key


def secrets_of(settings: ServerSettings) -> list[str]:
    """List the headers' values that are secret by the header's name, and their keys alone."""
    found: list[str] = []
    for name, value in settings.headers.items():
        if _SECRET_HEADER.search(name):
            found += [value, *value.split()[-1:]]
    return found


def shown_variable(variable: str) -> str:
    """Return the name of an environment variable to be shown; masked where it may be a key.

    Keys are random: letters with digits among them, or with signs that no name has.
    """
    is_name = _VARIABLE.fullmatch(variable) is not None
    has_digit = any(sign.isdigit() for sign in variable)
    is_telling = _SECRET_WORD.search(variable) is not None or not has_digit
    if variable in os.environ or (is_name and is_telling and len(variable) <= _LONGEST_NAME):
        return variable
    return "(masked: it looks like the key itself)"


def require_key(settings: ServerSettings, place: str) -> None:
    """Check that the key is there, before a run writes anything; `place` names the section."""
    variable = settings.api_key_env
    if variable and not read_key(variable):
        name = shown_variable(variable)
        if name != variable:
            raise ConfigError(
                "this is not the name of an environment variable",
                where=f"{place}.api_key_env",
                expected="a name such as TEACHER_KEY, which holds the key",
                got=name,
                fix="export TEACHER_KEY=... and name that variable; renew a key that was committed",
            )
        raise ConfigError(
            f"the environment variable {name} is not set, and the server needs its key",
            where=f"{place}.api_key_env",
            fix=f"export {name}=..., or empty `api_key_env` where no key is needed",
        )
