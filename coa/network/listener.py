"""Listen for requests on an address, and refuse those that name another server."""

import socket

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from coa.errors import ServiceError

BACKLOG = 2048
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def listen(host: str, port: int, setting: str) -> socket.socket:
    """Open a socket, which several processes may share; port 0 is any free one.

    `setting` names the port in the error of an address that cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        what = f"cannot listen on {host}:{port}"
        fix = f"choose another {setting}, or 0 for a free one"
        raise ServiceError(what, got=error.strerror or error, fix=fix) from error
    listener.set_inheritable(True)
    return listener


class OwnHostOnly:
    """A filter that refuses requests to another host name.

    A page in a browser can make its own name mean this machine.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = (*_LOOPBACK, host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer that it came to the wrong name."""
        if scope["type"] == "http" and not self._is_own(scope):
            refusal = JSONResponse({"error": "Misdirected request: not this server's name"}, 421)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_own(self, scope: Scope) -> bool:
        address, port = scope["server"]
        wanted = {f"{name}:{port}" for name in (*self._names, address)}
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and hosts[0].decode("latin-1").lower() in wanted
