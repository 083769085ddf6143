"""Search the web through Serper, SearXNG or Tavily.

Each hit is a page's address, title and snippet.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from coa.errors import ConfigError, ServiceError
from coa.http_client import Patience
from coa.search import Hit, Passage
from coa.search.calls import Caller
from coa.search.remote import read_hits
from coa.search.wire import malformed


class Provider(StrEnum):
    """Service that searches the web."""

    SERPER = "serper"
    """Serper (Google's results); paid, the key is in SERPER_API_KEY."""
    SEARXNG = "searxng"
    """A SearXNG server that you run, with its JSON format switched on; no key."""
    TAVILY = "tavily"
    """Tavily; paid, the key is in TAVILY_API_KEY."""


_KEYS = {Provider.SERPER: "SERPER_API_KEY", Provider.TAVILY: "TAVILY_API_KEY"}
_URLS = {
    Provider.SERPER: "https://google.serper.dev",
    Provider.SEARXNG: "http://127.0.0.1:8888",
    Provider.TAVILY: "https://api.tavily.com",
}
_LISTS = {Provider.SERPER: "organic", Provider.SEARXNG: "results", Provider.TAVILY: "results"}
_FIELDS = {
    Provider.SERPER: ("link", "title", "snippet"),
    Provider.SEARXNG: ("url", "title", "content"),
    Provider.TAVILY: ("url", "title", "content"),
}
"""Keys under which a result has its address, title and snippet."""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """Settings of web search and its costs. Keys come from the environment only."""

    provider: Provider = Provider.SEARXNG
    """The service that is asked."""
    url: str = ""
    """Another address than the provider's usual one."""
    timeout_seconds: float = 20.0
    """For one attempt."""
    deadline_seconds: float = 60.0
    """For one search with all its attempts; waiting for its turn does not count."""
    max_concurrency: int = 8
    """Searches in flight at once."""
    max_per_second: float = 5.0
    """Requests a second; 0 sets no limit."""
    max_paid_calls: int = 1000
    """A run that has sent so many paid requests ends with an error rather than with a surprise."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(https?://[^@\s]+)?", self.url):
            raise ConfigError(
                "search.web.url is not usable",
                expected="http(s)://host without credentials, or nothing",
            )
        for name in ("timeout_seconds", "deadline_seconds", "max_concurrency"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"search.web.{name} must be positive", got=getattr(self, name))
        for name in ("max_per_second", "max_paid_calls"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"search.web.{name} must not be negative", got=getattr(self, name)
                )

    @property
    def address(self) -> str:
        """Return the address that requests are sent to."""
        return (self.url or _URLS[self.provider]).rstrip("/")


class WebSearch:
    """A search engine over the web.

    Its results change from day to day: record them (`search.recording`).
    """

    def __init__(self, settings: WebSettings | None = None) -> None:
        self._settings = settings or WebSettings()
        self._caller: Caller | None = None
        self._num_sent_before = 0

    @property
    def fingerprint(self) -> str:
        """Return `{provider}@{address}`; no more can be known of the web."""
        return f"{self._settings.provider}@{self._settings.address}"

    @property
    def num_paid_calls(self) -> int:
        """Count the requests that the provider charges for, repeated ones included."""
        if self._settings.provider not in _KEYS:
            return 0
        if self._caller is None:
            return self._num_sent_before
        return self._num_sent_before + self._caller.num_sent

    async def aclose(self) -> None:
        """Close the connections; the client can be used again."""
        self._num_sent_before = self.num_paid_calls
        caller = self._caller
        self._caller = None
        if caller:
            await caller.aclose()

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """Return the provider's best pages in its order, without scores.

        Raises:
            SearchError: the search kept failing until its deadline, or the reply is malformed.
            ServiceError: the provider cannot be reached or refuses us, or the paid calls are used
                up.
            ConfigError: the key is missing in the environment.
        """
        caller = self._open()
        settings = self._settings
        clean = query.encode("utf-8", "replace").decode()
        method, path, options = _request(settings.provider, clean, top_k)
        reply = await caller.call(method, settings.address + path, **options)
        hits = read_hits(reply, caller, lambda body: to_hits(body, settings.provider))
        return hits[:top_k]

    def _open(self) -> Caller:
        if self._caller is None:
            settings = self._settings
            provider = settings.provider
            key = _key(provider)
            num_left = None
            if provider in _KEYS:
                num_left = settings.max_paid_calls - self._num_sent_before
            patience = Patience(
                timeout_seconds=settings.timeout_seconds,
                deadline_seconds=settings.deadline_seconds,
                max_concurrency=settings.max_concurrency,
                max_per_second=settings.max_per_second,
            )
            self._caller = Caller(
                patience,
                headers=_headers(provider, key),
                secrets=(key,),
                name=f"web search ({provider})",
                fix=f"check search.web and the key in {_KEYS.get(provider, 'the environment')}",
                max_sent=num_left,
                used_up=self._used_up(),
            )
        return self._caller

    def _used_up(self) -> ServiceError:
        what = f"{self._settings.max_paid_calls:,} paid searches were made, which is the limit"
        fix = (
            "raise search.web.max_paid_calls and run the same command again: finished calls are "
            "kept"
        )
        return ServiceError(what, where="search.web.max_paid_calls", fix=fix)


def _key(provider: Provider) -> str:
    if provider not in _KEYS:
        return ""
    variable = _KEYS[provider]
    key = os.environ.get(variable, "").strip()
    is_usable = key and key.isascii() and key.isprintable()
    if not is_usable:
        raise ConfigError(
            f"there is no usable key for {provider}", where=f"environment variable {variable}"
        )
    return key


def _headers(provider: Provider, key: str) -> Mapping[str, str]:
    if provider is Provider.SERPER:
        return {"X-API-KEY": key}
    if provider is Provider.TAVILY:
        return {"Authorization": f"Bearer {key}"}
    return {}


def _request(provider: Provider, query: str, top_k: int) -> tuple[str, str, dict[str, Any]]:
    """Return method, path and options of a request."""
    if provider is Provider.SEARXNG:
        return "GET", "/search", {"params": {"q": query, "format": "json"}}
    if provider is Provider.SERPER:
        return "POST", "/search", {"json": {"q": query, "num": top_k}}
    return "POST", "/search", {"json": {"query": query, "max_results": min(top_k, 20)}}


def to_hits(reply: Any, provider: Provider) -> list[Hit]:
    """Read the hits of a provider's reply; skip results without an address or any text.

    Raises:
        SearchError: the reply does not follow the provider's protocol.
    """
    list_key = _LISTS[provider]
    url_key, title_key, snippet_key = _FIELDS[provider]
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
