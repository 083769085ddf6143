"""Search a few passages over a remote server, for the tests of its client."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from coa.search import Hit, Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.remote import RemoteSearch
from coa.search.settings import RemoteSettings

ENGINE = EmbeddedSearch.in_memory(
    [
        Passage("p1", "Danube", "A river through ten countries."),
        Passage("p2", 'The "Blue" Danube', "A waltz\nby Strauss."),
        Passage("p3", "Rhine", "Another river."),
    ]
)
Fault = Callable[[web.Request], web.StreamResponse]


def search(url: str, *queries: str, top_k: int = 2, **settings: float | str) -> list[list[Hit]]:
    options = {"url": url, "deadline_seconds": 5.0, **settings}

    async def run() -> list[list[Hit]]:
        async with RemoteSearch(RemoteSettings(**options)) as client:  # type: ignore[arg-type]
            return [
                list(hits)
                for hits in await asyncio.gather(
                    *(client.search(query, top_k) for query in queries)
                )
            ]

    return asyncio.run(run())


def reply(text: str) -> Fault:
    return lambda request: web.Response(text=text, content_type="application/json")
