"""Wrap policies and tools, so that they are asked only what the journal cannot answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import msgspec

from coa.policy import (
    BatchPolicy,
    Completion,
    Encoder,
    Policy,
    Request,
    RequestError,
    WrappedPolicy,
    most_context_tokens,
)
from coa.progress import Traffic, calls_of_task
from coa.records.trajectory import Outcome
from coa.records.usage import Usage
from coa.spending.ledger import Ledger, Most
from coa.store.journal import CallKind, Journal, Readable, find_readable, request_key, to_json
from coa.store.under_way import CallUnderWay, call_under_way, follow
from coa.tools import Tool, ToolReply

_Reply = TypeVar("_Reply", bound=Completion | ToolReply)
_Inner = TypeVar("_Inner", bound=Policy | BatchPolicy)


def policy_key(policy: Encoder, request: Request) -> str:
    """Return the journal's key of a request: of what is sent, to whom, and what decides the reply.

    A policy with an empty identity keeps the keys of journals from before there were identities.
    """
    asked = replace(request, session=msgspec.UNSET)
    if not policy.identity:
        return request_key(CallKind.POLICY, policy.name, asked)
    return request_key(CallKind.POLICY, policy.name, asked, policy.identity)


def most_of(policy: Encoder, request: Request, ledger: Ledger) -> Most:
    """Return the most that a request may cost."""
    context_tokens = most_context_tokens(policy, request)
    return ledger.most_of(policy.name, context_tokens, request.max_tokens)


class RecordedCalls(Generic[_Reply]):
    """The calls of one policy or tool in the journal."""

    def __init__(
        self, journal: Journal, ledger: Ledger, reply_type: type[_Reply], kind: CallKind, who: str
    ) -> None:
        self._journal = journal
        self._ledger = ledger
        self._kind = kind
        self._who = who
        self._decoder: msgspec.json.Decoder[_Reply] = msgspec.json.Decoder(reply_type)

    def find(self, key: str) -> Readable[_Reply]:
        """Return the recorded reply, where there is one that can be read."""
        return find_readable(self._journal, key, self._decoder)

    def count_used(self, key: str, reply: _Reply) -> _Reply:
        """Count the cost of a reply that a row needs, and return it."""
        self._ledger.count_used(key, self._who, reply)
        return reply

    def record(self, key: str, reply: _Reply, seconds: float) -> _Reply:
        """Record a reply and return it as every later run will read it.

        A failure is not recorded, so that a re-run tries again. A reply that no later run could
        read is a `RequestError`.
        """
        if isinstance(reply, ToolReply) and reply.outcome is Outcome.ERROR:
            if reply.num_requests:
                self._ledger.count_lost_requests(self._who, reply.num_requests)
            return reply
        recorded = to_json(reply)
        try:
            read = self._decoder.decode(recorded)
        except (ValueError, RecursionError) as error:
            self._ledger.count_lost(self._who, Usage(0, 0, is_estimated=True))
            raise RequestError(f"the reply cannot be recorded: {error}") from error
        self._journal.put(key, recorded, kind=self._kind, who=self._who, seconds=seconds)
        self._ledger.count_paid(self._who, read, seconds)
        return read

    async def once(
        self, key: str, call: Callable[[], Awaitable[_Reply]], most: Callable[[], Most]
    ) -> _Reply:
        """Return the recorded reply, or make the call and record it.

        If the same call is under way already, its reply is awaited instead. `most` is the most
        that the call may cost; one too many is a `CapError`.
        """
        key, _, found = self.find(key)
        count = calls_of_task()
        if count is not None and found is None:
            count.made += 1
        elif count is not None:
            count.replayed += 1
        if found is not None:
            self._journal.num_replayed += 1
            return self.count_used(key, found)
        under_way = self._journal.in_flight.get(key)
        if under_way is None:
            under_way = CallUnderWay(lose=partial(self._ledger.count_lost, self._who))
            task = asyncio.create_task(self._make(key, call, most, under_way))
            under_way.task = task
            self._journal.in_flight[key] = under_way
            task.add_done_callback(lambda done: self._forget(key, done))
        assert under_way.task is not None
        # A caller that is cancelled does not cancel the call: it is paid for, so its reply is kept.
        return self.count_used(key, await asyncio.shield(under_way.task))

    async def _make(
        self,
        key: str,
        call: Callable[[], Awaitable[_Reply]],
        most: Callable[[], Most],
        under_way: CallUnderWay,
    ) -> _Reply:
        """Make a call when the caps allow it, and record its reply."""
        ledger = self._ledger
        if not ledger.prices.has_caps:
            with follow(under_way):
                started = time.perf_counter()
                return self.record(key, await call(), time.perf_counter() - started)
        admitted: list[Most] = []

        async def wait_for_room() -> None:
            """Make room for the next request of the call."""
            one = most()
            if admitted and self._kind is CallKind.TOOL:
                # Nobody says which of its requests was charged: all count until it ends.
                ledger.admit_now(one)
            else:
                while admitted:
                    ledger.release(admitted.pop())  # a reply that was paid is counted by now
                with under_way.waiting():
                    await ledger.admit(one)
            admitted.append(one)

        under_way.wait_for_room = wait_for_room
        try:
            await wait_for_room()
            with follow(under_way):
                started = time.perf_counter()
                return self.record(key, await call(), time.perf_counter() - started)
        finally:
            for one in admitted:
                ledger.release(one)

    def _forget(self, key: str, task: asyncio.Task[_Reply]) -> None:
        del self._journal.in_flight[key]
        if not task.cancelled():
            # Every caller may have been cancelled meanwhile. Reading the error here keeps asyncio
            # from warning that nobody did.
            task.exception()


class Probe(Protocol):
    """Looks at what a server does (`coa/rollout/probe.py`)."""

    @property
    def is_over(self) -> bool:
        """Return whether what the server does is known."""

    async def look(self, like: Request, *, may_ask: bool) -> None:
        """Find out what the server does, with questions only where it may be asked."""


class _Journaled(WrappedPolicy, Generic[_Inner]):
    """A wrapped policy with the calls that its journal holds."""

    def __init__(self, policy: _Inner, journal: Journal, ledger: Ledger | None = None) -> None:
        super().__init__(policy)
        self._policy: _Inner = policy
        self._journal = journal
        self.ledger = ledger or Ledger()
        self._calls = RecordedCalls(journal, self.ledger, Completion, CallKind.POLICY, policy.name)


class JournaledPolicy(_Journaled[Policy]):
    """A policy that is asked only what the journal cannot answer.

    The same request twice at a time is made once.
    """

    def __init__(
        self,
        policy: Policy,
        journal: Journal,
        ledger: Ledger | None = None,
        probe: Probe | None = None,
    ) -> None:
        """Look by `probe`, if there is one, before the first call that must be made."""
        super().__init__(policy, journal, ledger)
        self._probe = probe
        self._num_refused = 0

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context; errors are the policy's own and are not recorded."""
        key = policy_key(self, request)
        if self._probe is not None and not self._probe.is_over:
            await self._probe.look(request, may_ask=self._calls.find(key).reply is None)
        try:
            return await self._calls.once(
                key,
                lambda: self._policy.complete(request),
                lambda: most_of(self._policy, request, self.ledger),
            )
        except RequestError:
            self._num_refused += 1
            raise

    @property
    def traffic(self) -> Traffic:
        """Return how many requests wait, were repeated and were refused.

        Repeats are counted only where the policy counts them.
        """
        inner: Traffic | None = getattr(self._policy, "traffic", None)
        return Traffic(
            waiting=len(self._journal.in_flight),
            retried=inner.retried if inner else 0,
            refused=self._num_refused,
        )


class JournaledBatchPolicy(_Journaled[BatchPolicy]):
    """A batch policy that is asked only what the journal cannot answer.

    These requests are one batch, each of them once.
    """

    was_made: Sequence[bool] = ()
    """For each request of the last batch, whether it was made because the journal had no reply."""

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""
        keys = [policy_key(self, request) for request in requests]
        replies: dict[str, Completion] = {}
        missing: dict[str, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            if key in replies or key in missing:
                continue
            found = self._calls.find(key)
            if found.reply is None:
                missing[key] = request
            else:
                self._journal.num_replayed += 1
                replies[key] = found.reply
        self.was_made = [key in missing for key in keys]
        if missing:
            replies |= self._make_batch(missing)
        return [self._calls.count_used(key, replies[key]) for key in keys]

    def _make_batch(self, requests: dict[str, Request]) -> dict[str, Completion]:
        """Make the requests as one batch and record each reply with its share of the time."""
        most = Most()
        if self.ledger.prices.has_caps:
            every = [most_of(self._policy, request, self.ledger) for request in requests.values()]
            tokens = sum(one.tokens for one in every)
            dollars = sum(one.dollars for one in every)
            most = Most(self.name, len(every), tokens, dollars)
        self.ledger.admit_now(most)
        try:
            started = time.perf_counter()
            completions = self._policy.complete_batch(list(requests.values()))
            seconds = (time.perf_counter() - started) / len(requests)
            replies = {}
            for key, completion in list(zip(requests, completions, strict=True)):
                place = self._calls.find(key).key
                replies[key] = self._calls.record(place, completion, seconds)
        finally:
            self.ledger.release(most)
        return replies


class JournaledTool:
    """A tool that is called only where the journal has no reply.

    The same call twice at a time is made once.
    """

    def __init__(self, tool: Tool, journal: Journal, ledger: Ledger | None = None) -> None:
        self._tool = tool
        self.name = tool.name
        self.fingerprint = tool.fingerprint
        self._ledger = ledger or Ledger()
        self._calls = RecordedCalls(
            journal, self._ledger, ToolReply, CallKind.TOOL, tool.fingerprint
        )

    async def call(self, argument: str) -> ToolReply:
        """Answer one action; a reply with the outcome ERROR is not recorded.

        Exceptions are the tool's own.
        """
        key = request_key(CallKind.TOOL, self.name, self.fingerprint, argument)
        return await self._calls.once(
            key,
            lambda: self._call(argument),
            lambda: self._ledger.most_of_tool(self.fingerprint),
        )

    async def _call(self, argument: str) -> ToolReply:
        """Make the call, and note in the reply how many requests it sent."""
        call = call_under_way()
        reply = await self._tool.call(argument)
        return replace(reply, num_requests=call.num_requests) if call.num_requests else reply
