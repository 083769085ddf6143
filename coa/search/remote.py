"""Queries to passages through a retrieval server, in any dialect of `coa/search/wire`: ours or somebody else's."""

import http.client
import json
import re
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from coa.errors import ConfigError, ServiceError
from coa.http_client import Patience, Reply
from coa.search import Hit, SearchError
from coa.search.calls import Caller
from coa.search.credentials import TOKEN_VARIABLE, bearer_token
from coa.search.wire import Dialect
from coa.search.wire.endpoints import of_dialect

FINGERPRINT_HEADER = "X-Search-Fingerprint"
"""In the replies of this project's server: what it searches."""
_HEALTH_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """Where the server is, and how patient we are with it."""

    url: str = "http://127.0.0.1:8000"
    """Without the dialect's path. No credentials: a token comes from the environment,
    `COA_SEARCH_TOKEN`."""
    dialect: Dialect = Dialect.SEARCH_R1
    """Whose protocol it speaks."""
    name: str = ""
    """What the server searches and how, such as wiki-18-e5: the dialects do not say it, so results
    are comparable only where name and url are the same. Empty: a server of ours is asked for its
    index's fingerprint. A fingerprint, `tantivy:...`, is compared with what such a server says."""
    timeout_seconds: float = 20.0
    """For one attempt."""
    deadline_seconds: float = 60.0
    """For one search with all its attempts; waiting for its turn does not count."""
    max_concurrency: int = 64
    """Searches in flight at once."""
    max_per_second: float = 0.0
    """Requests a second; 0 sets no limit."""

    def __post_init__(self) -> None:
        if not re.fullmatch(
            r"https?://[^@\s]+", self.url
        ):  # the value may hold a password: it is not shown
            raise ConfigError(
                "search.server.url is not usable",
                expected="http(s)://host:port without credentials",
            )
        for name in ("timeout_seconds", "deadline_seconds", "max_concurrency"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"search.server.{name} must be positive", got=getattr(self, name))
        if self.max_per_second < 0:
            raise ConfigError(
                "search.server.max_per_second must not be negative", got=self.max_per_second
            )

    @property
    def patience(self) -> Patience:
        """What decides about retries."""
        return Patience(
            self.timeout_seconds, self.deadline_seconds, self.max_concurrency, self.max_per_second
        )


class RemoteSearch:
    """A search engine behind HTTP. Close it with `aclose`, or use it as `async with`, in the loop that searched."""

    def __init__(self, settings: RemoteSettings | None = None) -> None:
        self._settings = settings or RemoteSettings()
        self._wire = of_dialect(self._settings.dialect)
        self._url = self._settings.url.rstrip("/") + self._wire.path
        self._caller: Caller | None = None
        self._served = self._settings.name if self._settings.name.startswith("tantivy:") else ""

    @classmethod
    def connect(cls, settings: RemoteSettings) -> "RemoteSearch":
        """A client that asks the server first what it searches, where the settings do not say it.

        This project's server tells its index's fingerprint, which becomes the name; of others
        nothing can be learned.
        """
        return cls(settings if settings.name else replace(settings, name=_served_at(settings.url)))

    @property
    def fingerprint(self) -> str:
        """`{dialect}:{name}@{url}`: as much as can be known of a server before it is asked."""
        return f"{self._settings.dialect}:{self._settings.name}@{self._settings.url.rstrip('/')}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client can be used again."""
        caller, self._caller = self._caller, None
        if caller:
            await caller.aclose()

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """The server's best passages, in its order, ties by id; the score is 0 where the server gives none.

        Raises:
            SearchError: the search kept failing until its deadline, or the reply is malformed.
            ServiceError: the server cannot be reached, refuses us, or has got another index since
                the first search.
            ConfigError: the token in the environment cannot be sent.
        """
        clean = query.encode("utf-8", "replace").decode("utf-8")  # servers choke on lone surrogates
        caller = self._open()
        reply = await caller.call("POST", self._url, json=self._wire.ask(clean, top_k))
        self._require_same_index(reply)
        return read_hits(reply, caller, self._wire.hits)[:top_k]

    def _open(self) -> Caller:
        if self._caller is None:
            token = bearer_token()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            fix = f"start the server; check search.server.url, its dialect and the token in {TOKEN_VARIABLE}"
            self._caller = Caller(
                self._settings.patience,
                headers=headers,
                secrets=(token,),
                name="search server",
                fix=fix,
            )
        return self._caller

    def _require_same_index(self, reply: Reply) -> None:
        """A server that names its index keeps it for as long as this client lives, or results would not compare."""
        served = reply.headers.get(FINGERPRINT_HEADER, "")
        self._served = self._served or served
        if served and served != self._served:
            fix = "run it all on one index: start the old one again, or begin anew"
            raise ServiceError(
                "the search server has another index",
                where=self._url,
                expected=self._served,
                got=served,
                fix=fix,
            )


def _served_at(url: str) -> str:
    """The fingerprint that the server's `/health` tells; empty where it tells none, or there is no server yet."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_HEALTH_SECONDS) as reply:
            health = json.loads(reply.read(65_536))
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    served = health.get("fingerprint") if isinstance(health, dict) else None
    return served if isinstance(served, str) and re.fullmatch(r"[\w:.-]{1,100}", served) else ""


def read_hits(reply: Reply, caller: Caller, read: Callable[[Any], list[Hit]]) -> list[Hit]:
    """The hits that `read` finds in the reply's JSON.

    Raises:
        SearchError: the reply is no JSON, or `read` refuses it; what is shown of it holds no key.
    """
    try:
        return read(json.loads(reply.body))
    except SearchError as error:
        raise SearchError(caller.readable(str(error))) from None
    except (ValueError, RecursionError) as error:
        got = caller.shown(reply.body)
        raise SearchError(
            f"the search server's reply is malformed: expected JSON, got {got}"
        ) from error
