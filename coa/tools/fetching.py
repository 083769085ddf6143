"""Fetch public web pages, never from private addresses, with limits on redirects, size and time.

The address comes from a model, and the server that answers may be hostile. All connections begin in
one place, `_public_socket`, which checks the IP address itself, whatever the host's name is and
whatever a name server says of it.
"""

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from aiolimiter import AsyncLimiter
from yarl import URL

from coa.tools.settings import FetchLimits

_MAX_REDIRECTS = 5
_MAX_HOSTS = 1000
"""Number of hosts whose rates are remembered."""
_NUM_LOOKUPS = 8
"""Names of hosts that are looked up at once."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
"""All IPv6 addresses of the public internet; local and old forms lie outside."""
_NOT_PUBLIC = (
    ipaddress.ip_network("192.0.0.0/24"),  # a cloud answers here with its machines' secrets
    ipaddress.ip_network("168.63.129.16/32"),  # so does another, at this one address
    ipaddress.ip_network("192.88.99.0/24"),  # relays from IPv6
    ipaddress.ip_network("3fff::/20"),  # documentation
)
"""Networks that Python's `is_global` takes for public in some of its versions."""


class AddressError(OSError):
    """Report an address that cannot be opened."""


class PageError(Exception):
    """Report a page that could not be read."""


class Page(NamedTuple):
    """A page as the server sent it."""

    url: str
    """Its address after redirects."""
    content_type: str
    body: bytes


class OwnThreadsResolver(AbstractResolver):
    """Resolver that asks the operating system on threads of its own.

    The event loop would use the threads that searches run on, and a handful of names whose name
    servers do not answer would stop them all. A lookup that hangs keeps its thread.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_NUM_LOOKUPS, thread_name_prefix="resolver")

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


class PageFetcher:
    """Fetcher of web pages. Close it with `aclose` in the loop that fetched."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._resolver: OwnThreadsResolver | None = None
        self._rates: OrderedDict[str, AsyncLimiter] = OrderedDict()

    async def aclose(self) -> None:
        """Close the connections; the fetcher can be used again."""
        sessions = self._sessions
        resolver = self._resolver
        self._sessions = {}
        self._resolver = None
        self._rates.clear()
        for session in sessions.values():
            await session.close()
        if resolver:
            await resolver.close()

    async def fetch(self, url: str) -> Page:
        """Fetch the page at `url`.

        Raises:
            AddressError: the address is not a public http(s) address.
            PageError: there is no such page, or it cannot be read in time.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                return await self._follow(url)
        except TimeoutError as error:
            raise PageError(f"no page within {self._limits.timeout_seconds:g} seconds") from error

    async def _follow(self, text: str) -> Page:
        url = web_address(text)
        for _ in range(_MAX_REDIRECTS + 1):
            await self._wait_for_turn(url.host or "")
            found = await self._get(url)
            if isinstance(found, Page):
                return found
            url = web_address(found, url)
        raise PageError(f"more than {_MAX_REDIRECTS} redirects")

    async def _wait_for_turn(self, host: str) -> None:
        if self._limits.max_per_second:
            if host not in self._rates:
                self._rates[host] = AsyncLimiter(1, 1 / self._limits.max_per_second)
            self._rates.move_to_end(host)
            if len(self._rates) > _MAX_HOSTS:
                self._rates.popitem(last=False)
            await self._rates[host].acquire()

    async def _get(self, url: URL) -> Page | str:
        """Get the page, or the address that it redirects to."""
        try:
            async with self._open(url).get(url, allow_redirects=False) as response:
                if 300 <= response.status < 400 and "Location" in response.headers:
                    return response.headers["Location"]
                if response.status != 200:
                    raise PageError(f"status {response.status}")
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise PageError("the page is compressed although it was asked for as it is")
                return Page(str(url), response.content_type, await self._read(response))
        except aiohttp.InvalidURL as error:
            raise AddressError("this is not an address") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            refused = getattr(error, "os_error", None)
            if isinstance(refused, AddressError):
                raise refused from error
            raise PageError(f"{type(error).__name__}: {error}"[:300]) from error

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        received = bytearray()
        async for part in response.content.iter_chunked(65536):
            received += part
            if len(received) >= self._limits.max_bytes:
                break
        return bytes(received[: self._limits.max_bytes])

    def _open(self, url: URL) -> aiohttp.ClientSession:
        """Get the session for the address: hosts that may be private have one of their own."""
        self._resolver = self._resolver or OwnThreadsResolver()
        may_be_private = url.host in self._limits.private_hosts
        if may_be_private not in self._sessions:
            connector = aiohttp.TCPConnector(
                resolver=self._resolver,
                ttl_dns_cache=60,
                socket_factory=None if may_be_private else _public_socket,
            )
            # Pages are not decompressed: a kilobyte may unfold to gigabytes. There are no cookies:
            # a page that one trajectory opens tells nothing to the next.
            self._sessions[may_be_private] = aiohttp.ClientSession(
                connector=connector,
                headers={"Accept-Encoding": "identity", "Accept": "text/html, text/plain"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        return self._sessions[may_be_private]


def web_address(text: str, base: URL | None = None) -> URL:
    """Parse an http(s) address, or one relative to `base`; the result is what is connected to.

    Raises:
        AddressError: it is not an address.
    """
    try:
        url = URL(text) if base is None else base.join(URL(text))
        is_web = url.scheme in ("http", "https") and bool(url.host)
    except ValueError as error:
        raise AddressError(f"this is not an address: {error}"[:300]) from error
    if not is_web or url.user is not None or url.password is not None:
        raise AddressError("only addresses such as https://example.org/page can be opened")
    return url


def _public_socket(address: AddrInfoType) -> socket.socket:
    """Make the socket that will be connected to `address`, which is an IP address here."""
    family, kind, protocol, _, target = address
    if not is_public(str(target[0])) or is_own(family, target):
        raise AddressError("private addresses are not opened")
    return socket.socket(family, kind, protocol)


def is_own(family: int, target: tuple[str | int | bytes, ...]) -> bool:
    """Tell whether an address is one of this machine's; nothing is sent to find out."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(target)
        except OSError:
            return False
        return bool(probe.getsockname()[0] == target[0])


def is_public(address: str) -> bool:
    """Tell whether an IP address, or the one inside it, belongs to the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if any(found in network for network in _NOT_PUBLIC):
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found.teredo:
            _, inner = found.teredo
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found not in _GLOBAL_UNICAST:
            return False
    return found.is_global and not found.is_multicast
