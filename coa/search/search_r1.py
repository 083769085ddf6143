r"""Queries to passages through a retrieval server that speaks Search-R1's protocol (also slime, verl, ASearcher).

`POST {url}/retrieve {"queries": [str], "topk": 3, "return_scores": true}` answers
`{"result": [[{"document": {"id", "contents": "\"Title\"\ntext"}, "score": 1.0}]]}`, or bare documents without scores.
"""

import asyncio
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_before_delay, wait_random_exponential

from coa.errors import ConfigError, ServiceError
from coa.search import Hit, Passage, SearchError
from coa.search.corpus import split_contents

if TYPE_CHECKING:
    import aiohttp  # at run time only where a connection is opened: it takes most of a second to load

TOKEN_VARIABLE = "COA_SEARCH_TOKEN"
"""Environment variable of the bearer token, for servers that want one; a token stands nowhere else."""
_CONNECT_SECONDS = 10.0
"""A server that does not even accept a connection for so long is away."""
_LONGEST_PAUSE_SECONDS = 10.0
_REFUSALS = frozenset({401, 403, 404, 405})
"""Statuses that no other query would escape."""


@dataclass(frozen=True, slots=True)
class SearchR1Settings:
    """Where the server is, and how patient we are with it."""

    url: str = "http://127.0.0.1:8000"
    """Without the path `/retrieve`. No credentials: a token comes from the environment, COA_SEARCH_TOKEN."""
    name: str = ""
    """What the server searches and how, such as wiki-18-e5. The protocol does not say it, so results are comparable
    only where name and url are the same: give another name when the server gets another corpus."""
    timeout_seconds: float = 20.0
    """For one attempt."""
    deadline_seconds: float = 60.0
    """For one search with all its attempts; waiting for its turn does not count."""
    max_concurrency: int = 64
    """Searches in flight at once."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^@\s]+", self.url):  # the value may hold a password: it is not shown
            raise ConfigError("search.server.url is not usable", expected="http(s)://host:port without credentials")
        for name in ("timeout_seconds", "deadline_seconds", "max_concurrency"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"search.server.{name} must be positive", got=getattr(self, name))


class _Failure(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, reason: str, *, is_unreachable: bool = False, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.is_unreachable = is_unreachable
        self.pause_seconds = pause_seconds


class _Channel(NamedTuple):
    """What belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    session: "aiohttp.ClientSession"
    turns: asyncio.Semaphore


class SearchR1Client:
    """A search engine behind HTTP. Close it with `aclose`, or use it as `async with`, in the loop that searched."""

    def __init__(self, settings: SearchR1Settings | None = None) -> None:
        self._settings = settings or SearchR1Settings()
        self._endpoint = self._settings.url.rstrip("/") + "/retrieve"
        self._channel: _Channel | None = None

    @property
    def fingerprint(self) -> str:
        """`search_r1:{name}@{url}`: as much as can be known of a server."""
        return f"search_r1:{self._settings.name}@{self._settings.url.rstrip('/')}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client can be used again."""
        channel, self._channel = self._channel, None
        if channel:
            await channel.session.close()

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """The server's best passages, in its order, ties by id; the score is 0 where the server gives none.

        Raises:
            SearchError: the search kept failing until its deadline, or the reply is malformed.
            ServiceError: the server cannot be reached or refuses us.
            ConfigError: the token in the environment cannot be sent.
        """
        clean = query.encode("utf-8", "replace").decode("utf-8")  # servers choke on lone surrogates
        request = {"queries": [clean], "topk": top_k, "return_scores": True}
        channel = self._open_channel()
        async with channel.turns:
            reply = await self._post_until_deadline(channel, request)
        return to_hits(reply)[:top_k]

    def _open_channel(self) -> _Channel:
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._channel is None or self._channel.loop is not loop:
            session = aiohttp.ClientSession(headers=_headers(), connector=aiohttp.TCPConnector(limit=0))
            self._channel = _Channel(loop, session, asyncio.Semaphore(self._settings.max_concurrency))
        return self._channel

    async def _post_until_deadline(self, channel: _Channel, request: dict[str, Any]) -> Any:
        end = channel.loop.time() + self._settings.deadline_seconds
        attempts = AsyncRetrying(
            stop=stop_before_delay(self._settings.deadline_seconds),
            wait=_pause,
            retry=retry_if_exception_type(_Failure),
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    left = max(end - channel.loop.time(), 0.001)
                    return await self._post(channel.session, request, min(self._settings.timeout_seconds, left))
        except _Failure as failure:
            raise self._final_error(failure) from failure
        raise AssertionError("unreachable: the attempts end with a reply or an error")

    async def _post(self, session: "aiohttp.ClientSession", request: dict[str, Any], seconds: float) -> Any:
        """One attempt."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=min(_CONNECT_SECONDS, seconds))
        try:
            async with session.post(self._endpoint, json=request, timeout=timeout, allow_redirects=False) as response:
                body = await response.read()
                self._check_status(response, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _Failure(str(error), is_unreachable=True) from error
        except TimeoutError as error:
            raise _Failure(f"no reply within {seconds:.3g} seconds") from error
        except aiohttp.ClientError as error:
            raise _Failure(f"{type(error).__name__}: {error}") from error
        try:
            return json.loads(body)
        except (ValueError, RecursionError) as error:
            raise _malformed("JSON", _shown(body)) from error

    def _check_status(self, response: "aiohttp.ClientResponse", body: bytes) -> None:
        status = response.status
        if status == 429 or status >= 500:
            pause = _retry_after(response.headers.get("Retry-After", ""))
            raise _Failure(f"status {status}: {_shown(body)}", pause_seconds=pause)
        if status in _REFUSALS or 300 <= status < 400:
            fix = f"check search.server.url in params.yaml and the token in the environment variable {TOKEN_VARIABLE}"
            raise ServiceError(
                "the search server refuses us", where=self._endpoint, got=f"{status}: {_shown(body)}", fix=fix
            )
        if status != 200:
            raise SearchError(f"the search server answered with status {status}: {_shown(body)}")

    def _final_error(self, failure: _Failure) -> Exception:
        if not failure.is_unreachable:
            return SearchError(f"the search failed for {self._settings.deadline_seconds:g} seconds: {failure}")
        fix = "start the server, or set search.server.url in params.yaml; search.engine=embedded needs no server"
        return ServiceError("the search server cannot be reached", where=self._endpoint, got=failure, fix=fix)


def to_hits(reply: Any) -> list[Hit]:
    """The hits of a reply to one query, best first.

    Raises:
        SearchError: the reply does not follow the protocol.
    """
    results = reply.get("result") if isinstance(reply, dict) else None
    if not isinstance(results, list) or len(results) != 1 or not isinstance(results[0], list):
        raise _malformed('{"result": [[...]]} with one list for the one query', _shown(json.dumps(reply).encode()))
    hits = [_to_hit(item) for item in results[0]]
    return sorted(hits, key=lambda hit: (-hit.score, hit.passage.id)) if any(hit.score for hit in hits) else hits


def _to_hit(item: Any) -> Hit:
    is_scored = isinstance(item, dict) and "document" in item
    document, score = (item["document"], item.get("score", 0.0)) if is_scored else (item, 0.0)
    is_whole = isinstance(document, dict) and isinstance(document.get("id"), str | int)
    is_ranked = isinstance(score, int | float) and math.isfinite(score)
    if not is_whole or not isinstance(document.get("contents"), str) or not is_ranked:
        raise _malformed('documents {"id", "contents"}, scores that are numbers', _shown(json.dumps(item).encode()))
    return Hit(Passage(str(document["id"]), *split_contents(document["contents"])), float(score))


def _malformed(expected: str, got: str) -> SearchError:
    return SearchError(f"the search server's reply is malformed: expected {expected}, got {got}")


def _headers() -> dict[str, str]:
    token = _token()
    if not (token.isascii() and token.isprintable()):
        raise ConfigError(f"the token in {TOKEN_VARIABLE} cannot be sent", expected="printable ASCII on one line")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token() -> str:
    return os.environ.get(TOKEN_VARIABLE, "").strip()


def _shown(body: bytes) -> str:
    """The start of a reply for an error; a server may echo the token."""
    text = body.decode("utf-8", "replace")
    return repr((text.replace(token, "***") if (token := _token()) else text)[:200])


def _pause(state: RetryCallState) -> float:
    """Seconds until the next attempt: what the server asks for, or random and growing."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.pause_seconds if isinstance(error, _Failure) else 0.0
    return asked + wait_random_exponential(multiplier=0.25, max=_LONGEST_PAUSE_SECONDS)(state)


def _retry_after(value: str) -> float:
    """Seconds that a `Retry-After` header asks for, given in seconds or as a date; 0 when it says nothing."""
    if re.fullmatch(r"\d{1,9}", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
