"""Choose among several servers of one model, and avoid those that fail.

A trajectory begins at the server with the fewest requests and stays there, because that server
keeps its prefix in a cache. A server that fails is avoided for a while, each time for longer,
and its trajectories continue elsewhere. After the pause one request tries it.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

_FAILURES_IN_A_ROW = 3
"""A server that breaks so many requests and answers none between them is avoided."""
_REFUSING_SECONDS = 2.0
"""A server that refuses all requests as too many for so long fails; a crowded one lets some in."""
_FIRST_REST_SECONDS = 1.0
_LONGEST_REST_SECONDS = 15.0
"""Longer pauses save nothing: a connection that is refused costs nothing, and a server that hangs
is avoided for at least as long as it made us wait."""
_MAX_SESSIONS = 65_536
"""A trajectory that was not heard of for so many others may change its server."""


@dataclass(eq=False, slots=True)
class Server:
    """One server: its address, and how it is doing. Times are those of `time.monotonic`."""

    address: str
    resumes_at: float = 0.0
    """The end of the pause that it asked for: nothing is sent before."""
    refuses_since: float = 0.0
    """Its first refusal as too many since its last answer; 0 where it has not refused any."""
    num_requests: int = 0
    """Requests that it works on or that wait for their turn."""
    num_sessions: int = 0
    """Trajectories that began here."""
    answered_at: float = 0.0
    num_failures: int = 0
    """Failures since its last answer."""
    num_rests: int = 0
    """Pauses since its last answer."""
    rested_at: float = 0.0
    """The beginning of its last pause."""
    rests_until: float = 0.0

    @property
    def is_resting(self) -> bool:
        """Return whether it is avoided."""
        return self.num_rests > 0 and time.monotonic() < self.rests_until

    @property
    def refuses_all(self) -> bool:
        """Return whether it has refused every request as too many for some time."""
        return 0 < self.refuses_since < time.monotonic() - _REFUSING_SECONDS

    def refuse(self) -> None:
        """Note that it refused a request as one too many."""
        self.refuses_since = self.refuses_since or time.monotonic()

    def pause(self, seconds: float) -> None:
        """Send nothing for the seconds that it asks for."""
        self.resumes_at = max(self.resumes_at, time.monotonic() + seconds)


class Servers:
    """The servers of one model."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._servers = [Server(address) for address in addresses]
        self._homes: OrderedDict[str, Server] = OrderedDict()

    @property
    def are_several(self) -> bool:
        """Return whether there is more than one."""
        return len(self._servers) > 1

    @property
    def none_answered(self) -> bool:
        """Return whether no server has ever answered."""
        return all(server.answered_at == 0 for server in self._servers)

    def choose(self, session: str) -> Server:
        """Choose the server of a session; an empty session is a request of its own.

        If all are avoided, it is the one whose pause ends first.
        """
        home = self._homes.get(session)
        if home is not None and not home.is_resting:
            self._homes.move_to_end(session)
            return self._tried(home)
        awake = [server for server in self._servers if not server.is_resting]
        if not awake:
            return min(self._servers, key=lambda server: server.rests_until)
        chosen = min(awake, key=lambda server: (server.num_requests, server.num_sessions))
        chosen.num_sessions += 1
        if session:
            self._homes[session] = chosen
            if len(self._homes) > _MAX_SESSIONS:
                self._homes.popitem(last=False)
        return self._tried(chosen)

    def _tried(self, server: Server) -> Server:
        """Let one request try a server whose pause is over, and no other one meanwhile."""
        if server.num_rests:
            server.rests_until = time.monotonic() + _rest_seconds(server.num_rests)
        return server

    def another_is_awake(self, server: Server, without: Sequence[Server] = ()) -> bool:
        """Tell whether requests of this server, which gets no new ones, can go to another one."""
        others = [it for it in self._servers if it is not server and it not in without]
        return server.is_resting and any(not other.is_resting for other in others)

    def answered(self, server: Server) -> None:
        """Note that a server works."""
        server.answered_at = time.monotonic()
        server.num_failures = 0
        server.num_rests = 0
        server.refuses_since = 0.0

    def failed(self, server: Server, sent_at: float, *, is_down: bool, seconds: float) -> bool:
        """Note a failure of a request, and tell whether the server is avoided from now on.

        Args:
            server: The server.
            sent_at: When the request was sent.
            is_down: Whether this failure alone says that the server is down.
            seconds: The least time of the pause.
        """
        is_known = sent_at < server.rested_at
        if not self.are_several or is_known:
            return False
        server.num_failures += 1
        # A server that was only tried fails at once.
        if not is_down and server.num_failures < _FAILURES_IN_A_ROW and not server.num_rests:
            return False
        server.num_rests += 1
        server.rested_at = time.monotonic()
        server.rests_until = server.rested_at + max(seconds, _rest_seconds(server.num_rests))
        return server.num_rests == 1


def _rest_seconds(num_rests: int) -> float:
    """Return the length of the n-th pause."""
    return float(min(_FIRST_REST_SECONDS * 2 ** min(num_rests - 1, 30), _LONGEST_REST_SECONDS))
