"""Read the bodies of requests into bounded memory; refuse one without room before it is read."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from coa.search.limits import RequestLimits

_SMALL_BYTES = 65_536
"""A body up to this needs no room, so that large ones do not block ordinary searches. uvicorn
holds as much of every connection in any case."""


class Bodies:
    """Count the bytes of the bodies in hand in one worker."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._num_bytes = 0

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """Give a place for one body, held until the end of the `with` statement."""
        place = Place(self, self._limits.max_body_bytes)
        try:
            yield place
        finally:
            self._num_bytes -= place.num_bytes

    def take(self, num_bytes: int) -> None:
        """Take more room.

        Raises:
            HTTPException: there is none; 503 with Retry-After.
        """
        if self._num_bytes + num_bytes > self._limits.max_bodies_bytes:
            detail = "too many large requests at once"
            raise HTTPException(503, detail, {"Retry-After": "1"})
        self._num_bytes += num_bytes


class Place:
    """Hold the room that one body takes."""

    def __init__(self, bodies: Bodies, most: int) -> None:
        self._bodies, self._most = bodies, most
        self.num_bytes = 0

    async def read(self, request: Request) -> bytearray:
        """Read the request's whole body.

        Raises:
            HTTPException: it is too long (413), there is no room for it (503), or the client hung
                up (400).
        """
        self._make_room(int(request.headers.get("content-length", 0)))
        received = bytearray()
        try:
            async for part in request.stream():
                received += part
                self._make_room(len(received))
        except ClientDisconnect as error:
            raise HTTPException(400, "the client hung up") from error
        return received

    def _make_room(self, length: int) -> None:
        if length > self._most:
            detail = f"the request is too large: at most {self._most:,} bytes"
            raise HTTPException(413, detail)
        if length > max(self.num_bytes, _SMALL_BYTES):
            self._bodies.take(length - self.num_bytes)
            self.num_bytes = length
