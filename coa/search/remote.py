"""Search through a retrieval server, ours or another one, in any dialect of `coa/search/wire.py`.

`Caller` sends the requests of this client and of `coa/search/web.py`, and tells failed searches
from failed servers.
"""

import http.client
import json
import re
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from coa.errors import ServiceError
from coa.network.http_client import (
    NO_CONNECTION,
    GaveUp,
    HttpClient,
    Patience,
    Rejection,
    Reply,
    allow,
    bare,
)
from coa.search import Hit, SearchError
from coa.search.settings import RemoteSettings, WebSettings
from coa.search.wire import FINGERPRINT_HEADER, TOKEN_VARIABLE, bearer_token, of_dialect

_OWN_FINGERPRINTS = ("tantivy:", "dense:", "hybrid:")
"""How the fingerprints of this project's engines begin."""
_REFUSALS = frozenset({401, 403, 404, 405})
"""Statuses that every other request would get too."""
_HEALTH_SECONDS = 3.0


def patience_of(settings: RemoteSettings | WebSettings) -> Patience:
    """Return the limits of time and rate for the HTTP client."""
    return Patience(
        timeout_seconds=settings.timeout_seconds,
        deadline_seconds=settings.deadline_seconds,
        max_concurrency=settings.max_concurrency,
        max_per_second=settings.max_per_second,
    )


class Caller:
    """Client of one server that keeps `secret` out of all errors.

    `fix` says what to do when the server refuses our requests. `before_attempt` is called before
    each request, repeated ones included, and may raise an error to prevent it.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        headers: Mapping[str, str],
        secret: str,
        name: str,
        fix: str,
        before_attempt: Callable[[], None] | None = None,
    ) -> None:
        self._client = HttpClient(
            name,
            patience,
            headers=headers,
            secrets=(secret,),
            masked=(secret,),
            before_attempt=before_attempt or allow,
        )
        self._deadline_seconds = patience.deadline_seconds
        self._fix = fix

    async def aclose(self) -> None:
        """Close the connections; the caller can be used again."""
        await self._client.aclose()

    async def call(self, method: str, url: str, **options: Any) -> Reply:
        """Send a request and return the reply; `options` are aiohttp's (`json`, `params`).

        Raises:
            SearchError: the request kept failing until its deadline, or the server rejects it.
            ServiceError: the server cannot be reached or refuses us.
        """
        name = self._client.name
        try:
            return await self._client.request(method, url, lambda reply: reply, **options)
        except Rejection as rejection:
            status = rejection.reply.status
            if status not in _REFUSALS and not 300 <= status < 400:
                raise SearchError(f"the {name} rejects the query with {rejection}") from rejection
            what = f"the {name} refuses us"
            raise ServiceError(what, where=bare(url), got=rejection, fix=self._fix) from rejection
        except GaveUp as error:
            if error.failure.fault not in NO_CONNECTION:
                seconds = self._deadline_seconds
                what = f"the search failed for {seconds:g} seconds: {error}"
                raise SearchError(what) from error
            what = f"the {name} cannot be reached"
            raise ServiceError(what, where=bare(url), got=error, fix=self._fix) from error

    def hits(self, reply: Reply, read: Callable[[Any], list[Hit]]) -> list[Hit]:
        """Read the hits in the reply's JSON with `read`.

        Raises:
            SearchError: the reply is not JSON, or `read` refuses it; what is shown of it holds no
                key.
        """
        try:
            return read(json.loads(reply.body))
        except SearchError as error:
            raise SearchError(self._client.readable(str(error))) from None
        except (ValueError, RecursionError) as error:
            got = self._client.shown(reply.body)
            raise SearchError(
                f"the search server's reply is malformed: expected JSON, got {got}"
            ) from error


class RemoteSearch:
    """A search engine behind HTTP.

    Close it with `aclose`, or use it as `async with`, in the loop that searched.
    """

    def __init__(self, settings: RemoteSettings | None = None) -> None:
        self._settings = settings or RemoteSettings()
        self._wire = of_dialect(self._settings.dialect)
        self._url = self._settings.url.rstrip("/") + self._wire.path
        self._caller: Caller | None = None
        self._served = ""
        if self._settings.name.startswith(_OWN_FINGERPRINTS):
            self._served = self._settings.name

    @classmethod
    def connect(cls, settings: RemoteSettings) -> "RemoteSearch":
        """Make a client; where the settings give no name, ask the server first what it searches.

        This project's server tells its index's fingerprint, which becomes the name; of others
        nothing can be learned.
        """
        if not settings.name:
            settings = replace(settings, name=_served_at(settings.url))
        return cls(settings)

    @property
    def fingerprint(self) -> str:
        """Return `{dialect}:{name}@{url}`, all that is known before the first search."""
        settings = self._settings
        url = settings.url.rstrip("/")
        return f"{settings.dialect}:{settings.name}@{url}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client can be used again."""
        if self._caller:
            await self._caller.aclose()

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """Return the server's best passages, in its order, ties by id.

        The score is 0 where the server gives none.

        Raises:
            SearchError: the search kept failing until its deadline, or the reply is malformed.
            ServiceError: the server cannot be reached, refuses us, or has got another index since
                the first search.
            ConfigError: the token in the environment cannot be sent.
        """
        if self._caller is None:
            token = bearer_token()
            self._caller = Caller(
                patience_of(self._settings),
                headers={"Authorization": f"Bearer {token}"} if token else {},
                secret=token,
                name="search server",
                fix="start the server; check search.server.url, its dialect and the token in "
                f"{TOKEN_VARIABLE}",
            )
        # Servers fail on lone surrogates.
        clean = query.encode("utf-8", "replace").decode("utf-8")
        reply = await self._caller.call("POST", self._url, json=self._wire.ask(clean, top_k))
        self._require_same_index(reply)
        return self._caller.hits(reply, self._wire.hits)[:top_k]

    def _require_same_index(self, reply: Reply) -> None:
        """Raise where the server has another index than before: its results would not compare."""
        served = reply.headers.get(FINGERPRINT_HEADER, "")
        self._served = self._served or served
        if served and served != self._served:
            fix = "run it all on one index: start the old one again, or begin again from scratch"
            raise ServiceError(
                "the search server has another index",
                where=self._url,
                expected=self._served,
                got=served,
                fix=fix,
            )


def _served_at(url: str) -> str:
    """Ask the server's `/health` for its fingerprint.

    It is empty where the server gives none or does not run yet.
    """
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=_HEALTH_SECONDS) as reply:
            health = json.loads(reply.read(65_536))
    except (OSError, ValueError, http.client.HTTPException):
        return ""
    served = health.get("fingerprint") if isinstance(health, dict) else None
    if isinstance(served, str) and re.fullmatch(r"[\w:.-]{1,100}", served):
        return served
    return ""
