"""An address to the bytes of a public web page: no private addresses, bounded redirects, size and time.

The address comes from a model, and what answers is hostile: every host is resolved here and only public addresses are
connected to, so that no page, redirect or name server can reach into the machine's own network.
"""

import asyncio
import ipaddress
import socket
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from aiolimiter import AsyncLimiter

_MAX_REDIRECTS = 5
_MAX_HOSTS = 1000
"""Hosts whose rates are remembered."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressError(ValueError):
    """The address itself cannot be opened."""


class PageError(Exception):
    """The page could not be read."""


class Page(NamedTuple):
    """A page as it came."""

    url: str
    """After redirects."""
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one page may cost."""

    timeout_seconds: float = 20.0
    """For a page with all its redirects."""
    max_bytes: int = 2_000_000
    """What is longer is cut."""
    max_per_second: float = 2.0
    """Pages a second from one host; 0 sets no limit."""
    private_hosts: tuple[str, ...] = ()
    """Names of hosts that may have private addresses, such as an intranet's."""


class PageFetcher:
    """Fetches pages. Close it with `aclose` in the loop that fetched."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._session: ClientSession | None = None
        self._rates: OrderedDict[str, AsyncLimiter] = OrderedDict()

    async def aclose(self) -> None:
        """Close the connections; the fetcher can be used again."""
        session, self._session = self._session, None
        self._rates.clear()
        if session:
            await session.close()

    async def fetch(self, url: str) -> Page:
        """The page at `url`.

        Raises:
            AddressError: the address is no public http(s) address.
            PageError: there is no such page, or it cannot be read in time.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                return await self._follow(url)
        except TimeoutError as error:
            raise PageError(f"no page within {self._limits.timeout_seconds:g} seconds") from error

    async def _follow(self, url: str) -> Page:
        for _ in range(_MAX_REDIRECTS + 1):
            host = public_host(url, self._limits.private_hosts)
            await self._wait_for_turn(host)
            found = await self._get(url)
            if isinstance(found, Page):
                return found
            url = urljoin(url, found)
        raise PageError(f"more than {_MAX_REDIRECTS} redirects")

    async def _wait_for_turn(self, host: str) -> None:
        from aiolimiter import AsyncLimiter

        if self._limits.max_per_second:
            if host not in self._rates:
                self._rates[host] = AsyncLimiter(1, 1 / self._limits.max_per_second)
            self._rates.move_to_end(host)
            if len(self._rates) > _MAX_HOSTS:
                self._rates.popitem(last=False)
            await self._rates[host].acquire()

    async def _get(self, url: str) -> Page | str:
        """The page, or the address that it redirects to."""
        import aiohttp

        try:
            async with self._open().get(url, allow_redirects=False) as response:
                if 300 <= response.status < 400 and "Location" in response.headers:
                    return response.headers["Location"]
                if response.status != 200:
                    raise PageError(f"status {response.status}")
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise PageError("the page is compressed although it was asked for as it is")
                return Page(url, response.content_type, await self._read(response))
        except AddressError:
            raise
        except aiohttp.InvalidURL as error:
            raise AddressError("this is no address") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise PageError(f"{type(error).__name__}: {error}"[:300]) from error

    async def _read(self, response: "ClientResponse") -> bytes:
        received = bytearray()
        async for part in response.content.iter_chunked(65536):
            received += part
            if len(received) >= self._limits.max_bytes:
                break
        return bytes(received[: self._limits.max_bytes])

    def _open(self) -> "ClientSession":
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=_public_resolver(self._limits.private_hosts), ttl_dns_cache=60
            )
            # Not decompressed: a page of a kilobyte may unfold to gigabytes.
            headers = {"Accept-Encoding": "identity", "Accept": "text/html, text/plain"}
            self._session = aiohttp.ClientSession(
                connector=connector, headers=headers, auto_decompress=False
            )
        return self._session


def public_host(url: str, private_hosts: tuple[str, ...] = ()) -> str:
    """The host of an address that may be opened; names are resolved, and checked again, when it is opened.

    Raises:
        AddressError: it is no http(s) address, or names a private one.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        parts.port  # noqa: B018  a port that is no number raises here
    except ValueError as error:
        raise AddressError(f"this is no address: {error}") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise AddressError("only addresses such as https://example.org/page can be opened")
    if _is_number(host) and not is_public(host) and host not in private_hosts:
        raise AddressError("private addresses are not opened")
    return host


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an IP address, or the one inside it, belongs to the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return found.is_global and not found.is_multicast


def _public_resolver(private_hosts: tuple[str, ...]) -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult
    from aiohttp.resolver import ThreadedResolver

    class PublicResolver(AbstractResolver):
        """Resolves names to public addresses only; what is checked is what is connected to."""

        def __init__(self) -> None:
            self._inner: ThreadedResolver | None = None

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            """The public addresses of a name."""
            self._inner = self._inner or ThreadedResolver()
            found = await self._inner.resolve(host, port, family)
            allowed = [item for item in found if host in private_hosts or is_public(item["host"])]
            if not allowed:
                raise AddressError("private addresses are not opened")
            return allowed

        async def close(self) -> None:
            """Nothing is held."""

    return PublicResolver()
