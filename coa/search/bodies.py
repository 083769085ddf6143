"""Read the bodies of requests into bounded memory and refuse those for which there is no room."""

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from coa.search.limits import RequestLimits

_SMALL_BYTES = 65_536
"""Bodies up to this size are not counted, so that large ones do not block ordinary searches.
uvicorn holds as much of every connection in any case."""


class Bodies:
    """Counter of the bytes that one worker holds in request bodies."""

    def __init__(self, limits: RequestLimits) -> None:
        self._limits = limits
        self._num_bytes = 0

    @contextmanager
    def place(self) -> Iterator["Place"]:
        """Reserve a place for one body until the end of the `with` statement."""
        place = Place(self, self._limits.max_body_bytes)
        try:
            yield place
        finally:
            self._num_bytes -= place.num_bytes

    def take(self, num_bytes: int) -> None:
        """Reserve so many more bytes.

        Raises:
            HTTPException: they are not free; 503 with Retry-After.
        """
        if self._num_bytes + num_bytes > self._limits.max_bodies_bytes:
            detail = "too many large requests at once"
            raise HTTPException(503, detail, {"Retry-After": "1"})
        self._num_bytes += num_bytes


class Place:
    """Room that one body takes."""

    def __init__(self, bodies: Bodies, max_bytes: int) -> None:
        self._bodies = bodies
        self._max_bytes = max_bytes
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
        if length > self._max_bytes:
            detail = f"the request is too large: at most {self._max_bytes:,} bytes"
            raise HTTPException(413, detail)
        if length > max(self.num_bytes, _SMALL_BYTES):
            self._bodies.take(length - self.num_bytes)
            self.num_bytes = length
