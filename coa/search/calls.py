"""Send the search clients' requests and tell failed searches from failed servers."""

from collections.abc import Mapping
from typing import Any

from coa.errors import ServiceError
from coa.http_attempts import NO_CONNECTION
from coa.http_client import GaveUp, HttpClient, Patience, Rejection, Reply, bare
from coa.requests_sent import note_request
from coa.search import SearchError

_REFUSALS = frozenset({401, 403, 404, 405})
"""Statuses that every other request would get too."""


class Caller:
    """Client of one server that keeps `secrets` out of all errors.

    `fix` says what to do when the server refuses our requests. Once `max_sent` requests were sent,
    `used_up` is raised instead of sending another.
    """

    def __init__(
        self,
        patience: Patience,
        *,
        headers: Mapping[str, str],
        secrets: tuple[str, ...],
        name: str,
        fix: str,
        max_sent: int | None = None,
        used_up: ServiceError | None = None,
    ) -> None:
        self._client = HttpClient(
            name, patience, headers=headers, secrets=secrets, before_attempt=self._count
        )
        self._patience = patience
        self._fix = fix
        self._max_sent = max_sent
        self._used_up = used_up
        self.shown = self._client.shown
        self.readable = self._client.readable
        self.num_sent = 0
        """Number of requests sent, repeated ones included."""

    async def aclose(self) -> None:
        """Close the connections; the caller can be used again."""
        await self._client.aclose()

    async def call(self, method: str, url: str, **options: Any) -> Reply:
        """Send a request and return the reply; `options` are aiohttp's (`json`, `params`).

        Raises:
            SearchError: the request kept failing until its deadline, or the server rejects it.
            ServiceError: the server cannot be reached or refuses us, or all requests are used up.
        """
        try:
            return await self._client.request(method, url, _unchanged, **options)
        except Rejection as rejection:
            raise self._rejected(url, rejection) from rejection
        except GaveUp as error:
            raise self._given_up(url, error) from error

    def _count(self) -> None:
        if self._used_up and self._max_sent is not None and self.num_sent >= self._max_sent:
            raise self._used_up
        self.num_sent += 1
        note_request()

    def _rejected(self, url: str, rejection: Rejection) -> Exception:
        name = self._client.name
        status = rejection.reply.status
        is_redirect = 300 <= status < 400
        if status in _REFUSALS or is_redirect:
            what = f"the {name} refuses us"
            return ServiceError(what, where=bare(url), got=rejection, fix=self._fix)
        return SearchError(f"the {name} rejects the query with {rejection}")

    def _given_up(self, url: str, error: GaveUp) -> Exception:
        if error.failure.fault not in NO_CONNECTION:
            seconds = self._patience.deadline_seconds
            return SearchError(f"the search failed for {seconds:g} seconds: {error}")
        what = f"the {self._client.name} cannot be reached"
        return ServiceError(what, where=bare(url), got=error, fix=self._fix)


def _unchanged(reply: Reply) -> Reply:
    return reply
