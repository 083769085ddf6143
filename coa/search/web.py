"""Search the web through Serper, SearXNG or Tavily.

Each hit is a page's address, title and snippet.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coa.errors import ConfigError, ServiceError
from coa.search import Hit, Passage
from coa.search.remote import Caller, patience_of
from coa.search.settings import Provider, WebSettings
from coa.search.wire import malformed


@dataclass(frozen=True, slots=True)
class _Service:
    """How a provider is asked and answers."""

    list_key: str
    """Key under which the reply has its results."""
    fields: tuple[str, str, str]
    """Keys under which a result has its address, title and snippet."""
    request: Callable[[str, int], Mapping[str, Any]]
    """Builds aiohttp's options of a request from the query and the number of results."""
    method: str = "POST"
    key_variable: str = ""
    """Environment variable of the key; empty where none is needed and nothing is paid."""
    key_header: tuple[str, str] = ("", "")
    """Header that holds the key, and what stands before it."""


_SERVICES = {
    Provider.SERPER: _Service(
        list_key="organic",
        fields=("link", "title", "snippet"),
        request=lambda query, top_k: {"json": {"q": query, "num": top_k}},
        key_variable="SERPER_API_KEY",
        key_header=("X-API-KEY", ""),
    ),
    Provider.SEARXNG: _Service(
        list_key="results",
        fields=("url", "title", "content"),
        request=lambda query, _: {"params": {"q": query, "format": "json"}},
        method="GET",
    ),
    Provider.TAVILY: _Service(
        list_key="results",
        fields=("url", "title", "content"),
        request=lambda query, top_k: {"json": {"query": query, "max_results": min(top_k, 20)}},
        key_variable="TAVILY_API_KEY",
        key_header=("Authorization", "Bearer "),
    ),
}


class WebSearch:
    """A search engine over the web.

    Its results change from day to day: record them (`search.recording`).
    """

    def __init__(self, settings: WebSettings | None = None) -> None:
        self._settings = settings or WebSettings()
        self._service = _SERVICES[self._settings.provider]
        self._caller: Caller | None = None
        self._num_paid = 0

    @property
    def fingerprint(self) -> str:
        """Return `{provider}@{address}`; no more can be known of the web."""
        return f"{self._settings.provider}@{self._settings.address}"

    async def aclose(self) -> None:
        """Close the connections; the client can be used again."""
        if self._caller:
            await self._caller.aclose()

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """Return the provider's best pages in its order, without scores.

        Raises:
            SearchError: the search kept failing until its deadline, or the reply is malformed.
            ServiceError: the provider cannot be reached or refuses us, or the paid calls are used
                up.
            ConfigError: the key is missing in the environment.
        """
        if self._caller is None:
            self._caller = self._make_caller()
        clean = query.encode("utf-8", "replace").decode()
        options = self._service.request(clean, top_k)
        url = f"{self._settings.address}/search"
        reply = await self._caller.call(self._service.method, url, **options)
        return self._caller.hits(reply, self._hits)[:top_k]

    def _make_caller(self) -> Caller:
        variable = self._service.key_variable
        name, before_key = self._service.key_header
        key = os.environ.get(variable, "").strip() if variable else ""
        if variable and not (key and key.isascii() and key.isprintable()):
            raise ConfigError(
                f"there is no usable key for {self._settings.provider}",
                where=f"environment variable {variable}",
            )
        return Caller(
            patience_of(self._settings),
            headers={name: f"{before_key}{key}"} if key else {},
            secret=key,
            name=f"web search ({self._settings.provider})",
            fix=f"check search.web and the key in {variable or 'the environment'}",
            before_attempt=self._count_paid if variable else None,
        )

    def _count_paid(self) -> None:
        """Count a request that is charged for, a repeated one too, and refuse one too many."""
        limit = self._settings.max_paid_calls
        if self._num_paid >= limit:
            raise ServiceError(
                f"{limit:,} paid searches were made, which is the limit",
                where="search.web.max_paid_calls",
                fix="raise search.web.max_paid_calls and run the same command again: finished "
                "calls are kept",
            )
        self._num_paid += 1

    def _hits(self, reply: Any) -> list[Hit]:
        """Read the hits of a reply; skip results without an address or any text."""
        list_key = self._service.list_key
        url_key, title_key, snippet_key = self._service.fields
        results = reply.get(list_key, []) if isinstance(reply, dict) else None
        if not isinstance(results, list):
            raise malformed(f'{{"{list_key}": [...]}}', reply)
        hits = []
        for result in results:
            if not isinstance(result, dict):
                raise malformed("results that are objects", result)
            url = str(result.get(url_key) or "")
            title = str(result.get(title_key) or "")
            snippet = str(result.get(snippet_key) or "")
            if url and (title or snippet):
                hits.append(Hit(Passage(url, title, snippet or title), 0.0))
        return hits
