"""Policies and tools that are asked only what the journal cannot answer; each stands in for the one that it wraps."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from coa.errors import InputError
from coa.journal import OTHER_VERSION, CallKind, Journal, request_key, to_json
from coa.policy import (
    BatchPolicy,
    Completion,
    Encoder,
    Policy,
    Request,
    RequestError,
    Traffic,
)
from coa.tools import Tool, ToolReply
from coa.trajectory import Outcome


@dataclass(slots=True)
class CallCount:
    """The calls of one rollout: those that were made, and those that the journal answered."""

    made: int = 0
    replayed: int = 0

    @property
    def is_live(self) -> bool:
        """Whether any call was made; true too where no journal stands between."""
        return self.made > 0 or self.replayed == 0


_counting: ContextVar[CallCount | None] = ContextVar("counting", default=None)


def count_calls() -> CallCount:
    """Count the calls that the running task makes from now on."""
    count = CallCount()
    _counting.set(count)
    return count


_Reply = TypeVar("_Reply", bound=Completion | ToolReply)
_Inner = TypeVar("_Inner", bound=Policy | BatchPolicy)


def policy_key(policy: Encoder, request: Request) -> str:
    """Return the journal's key of a request: what is sent, to whom, and what else decides the reply.

    A policy with an empty identity keeps the keys of journals from before there were identities.
    """
    asked = (CallKind.POLICY, policy.name, request)
    return request_key(*asked, policy.identity) if policy.identity else request_key(*asked)


class _Calls(Generic[_Reply]):
    """The calls of one policy or tool, as the journal knows them."""

    def __init__(
        self, journal: Journal, reply_type: type[_Reply], kind: CallKind, who: str
    ) -> None:
        self._journal, self._kind, self._who = journal, kind, who
        self._decoder: msgspec.json.Decoder[_Reply] = msgspec.json.Decoder(reply_type)

    def find(self, key: str) -> _Reply | None:
        recorded = self._journal.get(key)
        return None if recorded is None else self._read(key, recorded)

    def record(self, key: str, reply: _Reply, seconds: float) -> _Reply:
        """The reply as every later run will read it; a failure is not recorded, so that a re-run tries again."""
        if isinstance(reply, ToolReply) and reply.outcome is Outcome.ERROR:
            return reply
        recorded = to_json(reply)
        self._journal.put(key, recorded, kind=self._kind, who=self._who, seconds=seconds)
        return self._read(key, recorded)

    async def once(self, key: str, call: Callable[[], Awaitable[_Reply]]) -> _Reply:
        """The recorded reply, or that of the same call under way, or of `call`, which is then recorded."""
        found, count = self.find(key), _counting.get()
        if count is not None:
            count.made += found is None
            count.replayed += found is not None
        if found is not None:
            return found
        task: asyncio.Task[_Reply] | None = self._journal.in_flight.get(key)
        if task is None:
            task = self._journal.in_flight[key] = asyncio.create_task(self._make(key, call))
            task.add_done_callback(lambda done: self._forget(key, done))
        # A caller that is cancelled does not cancel the call: it is paid for, so its reply is kept.
        return await asyncio.shield(task)

    async def _make(self, key: str, call: Callable[[], Awaitable[_Reply]]) -> _Reply:
        started = time.perf_counter()
        reply = await call()
        return self.record(key, reply, time.perf_counter() - started)

    def _forget(self, key: str, task: asyncio.Task[_Reply]) -> None:
        del self._journal.in_flight[key]
        if not task.cancelled():
            task.exception()  # seen here, because every caller may have been cancelled meanwhile

    def _read(self, key: str, recorded: bytes) -> _Reply:
        try:
            return self._decoder.decode(recorded)
        except msgspec.DecodeError as error:
            where = f"{self._journal.path}, key {key}"
            raise InputError(
                "a recorded reply cannot be read", where=where, got=error, fix=OTHER_VERSION
            ) from error


class _Journaled(Generic[_Inner]):
    """A policy's name and tokens, passed through."""

    def __init__(self, policy: _Inner, journal: Journal) -> None:
        self._policy: _Inner = policy
        self._calls = _Calls(journal, Completion, CallKind.POLICY, policy.name)
        self.name, self.identity = policy.name, policy.identity
        self.encode, self.count_tokens = policy.encode, policy.count_tokens


class JournaledPolicy(_Journaled[Policy]):
    """A policy that is asked only what the journal cannot answer; the same request twice in flight is made once."""

    def __init__(self, policy: Policy, journal: Journal) -> None:
        super().__init__(policy, journal)
        self._journal, self._num_refused = journal, 0

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context; errors are the policy's own and are not recorded."""
        key = policy_key(self, request)
        try:
            return await self._calls.once(key, lambda: self._policy.complete(request))
        except RequestError:
            self._num_refused += 1
            raise

    @property
    def traffic(self) -> Traffic:
        """Where the requests stand; repeats are counted where the policy counts them."""
        inner: Traffic | None = getattr(self._policy, "traffic", None)
        return Traffic(
            waiting=len(self._journal.in_flight),
            retried=inner.retried if inner else 0,
            refused=self._num_refused,
        )


class JournaledBatchPolicy(_Journaled[BatchPolicy]):
    """A batch policy that is asked only what the journal cannot answer, as one batch, each request once."""

    was_made: Sequence[bool] = ()
    """Of each request of the last batch, whether the journal had no answer to it."""

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""
        keys = [policy_key(self, request) for request in requests]
        replies = {key: found for key in dict.fromkeys(keys) if (found := self._calls.find(key))}
        missing = {
            key: request for key, request in zip(keys, requests, strict=True) if key not in replies
        }
        self.was_made = [key in missing for key in keys]
        started = time.perf_counter()
        completions = self._policy.complete_batch(list(missing.values())) if missing else []
        share = (time.perf_counter() - started) / max(len(missing), 1)
        for key, completion in list(zip(missing, completions, strict=True)):
            replies[key] = self._calls.record(key, completion, share)
        return [replies[key] for key in keys]


class JournaledTool:
    """A tool that is called only where the journal has no answer; the same call twice in flight is made once."""

    def __init__(self, tool: Tool, journal: Journal) -> None:
        self._tool, self.name, self.fingerprint = tool, tool.name, tool.fingerprint
        self._calls = _Calls(journal, ToolReply, CallKind.TOOL, tool.fingerprint)

    async def call(self, argument: str) -> ToolReply:
        """Answer one action; a reply with outcome ERROR is not recorded, and errors are the tool's own."""
        key = request_key(CallKind.TOOL, self.name, self.fingerprint, argument)
        return await self._calls.once(key, lambda: self._tool.call(argument))
