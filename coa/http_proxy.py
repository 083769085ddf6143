"""Find the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for an address.

It is looked up once a session. aiohttp's own trust_env would read the environment for every request
and send passwords of .netrc unasked.
"""

import urllib.request
from urllib.parse import urlsplit

_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
"""Hosts that are always reached without a proxy."""


def proxy_for(url: str) -> str | None:
    """Return the proxy for requests to the host of `url`; None where they go straight there."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or host in _THIS_MACHINE or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
