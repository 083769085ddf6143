"""Record searches in a file and replay them byte for byte, so that web runs repeat offline.

The journal (`coa/store/journal.py`) keeps a resumed run from paying twice. A recording is a file of
its own, kept with the results, and answers in place of the engine. Failed searches are kept too: a
replay fails where the run failed.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from coa.errors import ConfigError, InputError
from coa.search import Hit, SearchEngine, SearchError
from coa.search.settings import RecordingMode, RecordingSettings, RemoteSettings
from coa.store.journal import CallKind, Journal, JournalReader, request_key, to_json


class Recorded(msgspec.Struct, frozen=True):
    """Result of a search: its hits, or why it failed."""

    hits: tuple[Hit, ...] = ()
    error: str | None = None


def recorded_name(recording: str, server: RemoteSettings) -> str:
    """Return the name that a server had when its searches were recorded.

    A server without a name in the settings is asked for its index, which a replay cannot do.

    Raises:
        ConfigError: Several indexes of this server were recorded, or none.
        InputError: The recording is missing or damaged.
    """
    before = f"{server.dialect}:"
    after = f"@{server.url.rstrip('/')}"
    with JournalReader(recording) as reader:
        found = reader.who()
    ours = [one for one in found if one.startswith(before) and one.endswith(after)]
    if len(ours) != 1:
        raise ConfigError(
            "the recording does not say which index is meant",
            where=recording,
            expected=f"searches of one index at {server.url}",
            got=", ".join(found) or "no search",
            fix="name the index in search.server.name, and its address in search.server.url",
        )
    return ours[0].removeprefix(before).removesuffix(after)


class RecordedSearch:
    """A search engine that asks another one only what its recording does not hold.

    Close it with `aclose`.
    """

    def __init__(self, engine: SearchEngine, settings: RecordingSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._journal = Journal(settings.path)
        self._kept: Journal | JournalReader = self._journal
        if settings.mode is RecordingMode.REPLAY:
            self._kept = JournalReader(settings.path)  # which others may read too
        self._is_open = False
        self._under_way: dict[str, asyncio.Task[Recorded]] = {}

    @property
    def fingerprint(self) -> str:
        """Return the engine's own: replayed hits are those that the engine found."""
        return self._engine.fingerprint

    async def aclose(self) -> None:
        """Close the recording, and the engine's connections if it has any."""
        if self._is_open:
            self._kept.__exit__()
            self._is_open = False
        close = getattr(self._engine, "aclose", None)
        if close:
            await close()

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        """Return the recorded hits; in mode `record`, search and record what is not there yet.

        Raises:
            SearchError: this search failed, now or when it was recorded.
            InputError: in mode `replay`, the recording does not hold this search.
            ServiceError: the engine cannot be reached.
        """
        key = request_key("search", self.fingerprint, query, top_k)
        recorded = self._find(key)
        if recorded is None and self._settings.mode is RecordingMode.REPLAY:
            fix = (
                "record it first (search.recording.mode=record), or check that index, engine and "
                "top_k are the same"
            )
            where = f"{self._settings.path}, {self.fingerprint}, top {top_k}"
            raise InputError(
                "the recording does not hold this search",
                where=where,
                got=repr(query[:200]),
                fix=fix,
            )
        found = recorded or await self._ask_once(key, query, top_k)
        if found.error is not None:
            raise SearchError(found.error)
        return found.hits

    def _find(self, key: str) -> Recorded | None:
        if not self._is_open:
            self._kept.__enter__()
            self._is_open = True
        reply = self._kept.get(key)
        return None if reply is None else msgspec.json.decode(reply, type=Recorded)

    async def _ask_once(self, key: str, query: str, top_k: int) -> Recorded:
        """Ask the engine, or wait for the same search that is under way already.

        If both were sent, two replies would be given and only one of them would be kept.
        """
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._ask(key, query, top_k))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return await asyncio.shield(task)

    async def _ask(self, key: str, query: str, top_k: int) -> Recorded:
        started = time.perf_counter()
        try:
            found = Recorded(hits=tuple(await self._engine.search(query, top_k)))
        except SearchError as error:
            found = Recorded(error=str(error))
        seconds = time.perf_counter() - started
        kept = to_json(found)
        self._journal.put(key, kept, kind=CallKind.TOOL, who=self.fingerprint, seconds=seconds)
        return msgspec.json.decode(kept, type=Recorded)  # as every replay will read it
