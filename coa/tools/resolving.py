"""Resolve the names of hosts on threads of their own.

The event loop would look names up on the threads that searches run on, and a handful of names whose
name servers do not answer would stop them all.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

_NUM_THREADS = 8


class OwnThreadsResolver(AbstractResolver):
    """Resolver that asks the operating system.

    A lookup that hangs keeps its thread; whoever waits for it gives up after a while.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Look up all addresses of a host."""
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        results = []
        for kind, _, protocol, _, address in found:
            result = ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            results.append(result)
        return results

    async def close(self) -> None:
        """Let the threads end; lookups that have not begun are dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)
