"""Add up what calls cost: by model and by search engine, in one run and over a whole journal.

The journal holds each call that was paid, once, with the tokens and the price that its server
reported. So what a stage spent over all its runs is a sum over its journal.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from coa.errors import CapError
from coa.policy import Completion
from coa.policy.react import SUFFIX
from coa.policy.scripted import is_scripted
from coa.records.usage import Count, Usage, charged_usage
from coa.search.settings import Provider
from coa.spending.prices import CostParams
from coa.store.journal import Call, CallKind, Journal, JournalReader, to_json
from coa.tools import ToolReply

_PLACES = 6
"""Decimal places of dollars: the millionth part, below what any provider charges."""
_ROUNDING = 1e-6


@dataclass(slots=True)
class Tally:
    """The sums over calls of one model, of one search engine, or of several of them."""

    calls: int = 0
    """Calls of models; a call of a search counts by its requests alone."""
    context_tokens: int = 0
    cached_tokens: int = 0
    written_tokens: int = 0
    reasoning_tokens: int = 0
    estimated_calls: int = 0
    """Calls whose tokens the server did not count."""
    requests: int = 0
    """Requests of searches, repeated ones included."""
    seconds: float = 0.0
    """How long the calls took, one after the other."""
    dollars: float = 0.0
    """The calls that have a price."""
    unpriced_calls: int = 0
    """Calls that have none."""

    @property
    def tokens(self) -> int:
        """Return the tokens read and written."""
        return self.context_tokens + self.written_tokens

    @property
    def known_dollars(self) -> float | None:
        """Return what all calls cost; None where some have no price."""
        return None if self.unpriced_calls else round(self.dollars, _PLACES)

    @property
    def text(self) -> str:
        """Return what calls cost in words, as far as it is known; empty for what is free."""
        parts = []
        if self.tokens:
            parts.append(f"{self.context_tokens:,} tokens read, {self.written_tokens:,} written")
        if self.requests:
            parts.append(f"{self.requests:,} requests of searches")
        if parts:
            dollars = self.known_dollars
            parts.append("dollars not known" if dollars is None else f"${dollars:,.{_PLACES}f}")
        return ", ".join(parts)

    def add(self, other: "Tally") -> None:
        """Add the sums of other calls."""
        # Spelled out, because it runs twice with every call and a loop over names is slow.
        self.calls += other.calls
        self.context_tokens += other.context_tokens
        self.cached_tokens += other.cached_tokens
        self.written_tokens += other.written_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.estimated_calls += other.estimated_calls
        self.requests += other.requests
        self.seconds += other.seconds
        self.dollars += other.dollars
        self.unpriced_calls += other.unpriced_calls


def engine_of(fingerprint: str) -> str:
    """Return the search engine of a tool's fingerprint, as `costs.searches` names it.

    Other tools that send requests are servers too, as far as costs are concerned.
    """
    name = fingerprint.partition("@")[0]
    return name if name in set(Provider) else "server"


@dataclass(slots=True)
class Spending:
    """What calls of models and tools cost."""

    tallies: defaultdict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    """By the name of the model, or of the engine to which a tool sent requests."""
    num_free: int = 0
    """Calls of tools that sent no request, such as searches of an index on this machine."""

    @property
    def total(self) -> Tally:
        """Return the sums over all models and engines."""
        total = Tally()
        for name in sorted(self.tallies):
            total.add(self.tallies[name])
        return total

    def count(self, name: str, tally: Tally) -> None:
        """Count a call of this model or engine."""
        if tally.calls or tally.requests:
            self.tallies[name].add(tally)
        else:
            self.num_free += 1

    def add(self, other: "Spending") -> None:
        """Add what other calls cost."""
        for name, tally in other.tallies.items():
            self.tallies[name].add(tally)
        self.num_free += other.num_free

    def metrics(self) -> dict[str, float | None]:
        """Return the sums for a metrics file: no times, and `dollars` null without a price."""
        total = self.total
        return {
            "calls": total.calls,
            "context_tokens": total.context_tokens,
            "cached_tokens": total.cached_tokens,
            "written_tokens": total.written_tokens,
            "reasoning_tokens": total.reasoning_tokens,
            "search_requests": total.requests,
            "dollars": total.known_dollars,
        }


def price_call(model: str, usage: Usage, prices: CostParams, seconds: float = 0.0) -> Tally:
    """Return the tally of one call, at the dearer of the table's price and the server's own word.

    A server that says 0 says no price: only the table can make a model free.
    """
    said = [prices.dollars(model, usage), usage.dollars or None]
    dollars = max((price for price in said if price is not None), default=None)
    if dollars is None and not usage.context_tokens and not usage.written_tokens:
        dollars = 0.0  # refused before it was read
    return Tally(
        calls=1,
        context_tokens=usage.context_tokens,
        cached_tokens=usage.cached_tokens,
        written_tokens=usage.written_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        estimated_calls=int(usage.is_estimated),
        seconds=seconds,
        dollars=dollars or 0.0,
        unpriced_calls=int(dollars is None),
    )


def price_requests(
    engine: str, num_requests: int, prices: CostParams, seconds: float = 0.0
) -> Tally:
    """Return the tally of a call that sent requests to a search engine."""
    dollars = num_requests * prices.searches.get(engine, 0.0)
    return Tally(requests=num_requests, seconds=seconds, dollars=dollars)


class _PaidReply(msgspec.Struct):
    """What a recorded reply of either kind says of its cost; the rest is skipped."""

    num_tokens: Count = 0
    num_context_tokens: Count | None = None
    usage: Usage | None = None
    num_requests: Count = 0


_REPLIES = msgspec.json.Decoder(_PaidReply)
_UNREADABLE = _PaidReply()
"""A call was paid whose cost nobody knows: it counts as a call, with estimated tokens: none."""


def price_recorded(call: Call, prices: CostParams) -> tuple[str, Tally]:
    """Return the model or engine of a call of a journal, and the tally of the call.

    A call of a tool that sent no request is free.
    """
    try:
        reply = _REPLIES.decode(call.reply)
    except (ValueError, RecursionError):
        reply = _UNREADABLE
    is_of_model = call.kind == CallKind.POLICY or (call.kind == CallKind.LOST and reply.usage)
    if is_of_model:
        usage = charged_usage(reply.usage, reply.num_context_tokens, reply.num_tokens)
        return call.who, price_call(call.who, usage, prices, call.seconds)
    engine = engine_of(call.who)
    return engine, price_requests(engine, reply.num_requests, prices, call.seconds)


def price_journal(journal: JournalReader | Journal, prices: CostParams) -> Spending:
    """Return what all calls of a journal cost."""
    spending = Spending()
    for call in journal.calls():
        spending.count(*price_recorded(call, prices))
    return spending


class Most(NamedTuple):
    """The most that a call, or several of one model, may cost."""

    model: str = ""
    """Empty for a tool."""
    calls: int = 0
    """Calls of the model."""
    tokens: int = 0
    dollars: float = 0.0
    """By the table; 0 where it has no price."""


_FREE = Most()


class Ledger:
    """The account of one run: what it pays, what its rows cost, and whether caps allow a call.

    A call is admitted where what was spent, with all calls under way at their most, stays under
    every cap. One that does not fit waits until those under way have ended, which most often cost
    less; where none is left, the run ends.
    """

    def __init__(self, journal: Journal | None = None, prices: CostParams | None = None) -> None:
        """Begin with what earlier runs of the journal paid, where that matters."""
        self.prices = prices or CostParams()
        self.paid = Spending()
        """What the stage paid so far: in this run, and in earlier ones where there are prices or
        caps."""
        self.used = Spending()
        """What the rows of this run cost, whenever it was paid. It follows from the rows alone, so
        a resumed run counts as one that was never stopped."""
        self._under_way: list[Most] = []
        self._reserved = Tally()
        """The sums over the calls under way, at their most."""
        self._waiting: list[asyncio.Future[None]] = []
        self._refused = _FREE
        """The call that did not fit."""
        self._learned: dict[str, float] = {}
        """How dear a model turned out to be: the most that it cost for each dollar of the table;
        for a model without a price in the table, for each token."""
        self._used_searches: set[int] = set()
        self._journal = journal
        self._name = journal.path.name if journal else "the journal"
        if journal and (self.prices.has_caps or self.prices.models or self.prices.searches):
            self.paid.add(price_journal(journal, self.prices))
            for model, tally in self.paid.tallies.items():
                self._learn(model, tally)

    def count_paid(self, who: str, reply: Completion | ToolReply, seconds: float) -> None:
        """Count a call that was made."""
        name, tally = self._priced(who, reply, seconds)
        self.paid.count(name, tally)
        self._learn(name, tally)

    def count_lost(self, who: str, usage: Usage) -> None:
        """Count a reply of a model that was paid and cannot be used, in this run and later ones."""
        tally = price_call(who, usage, self.prices)
        self.paid.count(who, tally)
        self._learn(who, tally)
        if self._journal:
            self._journal.put_lost(to_json({"usage": usage}), who=who)

    def count_lost_requests(self, who: str, num_requests: int) -> None:
        """Count the requests of a tool's call that failed, in this run and later ones."""
        engine = engine_of(who)
        self.paid.count(engine, price_requests(engine, num_requests, self.prices))
        if self._journal:
            self._journal.put_lost(to_json({"num_requests": num_requests}), who=who)

    def count_used(self, key: str, who: str, reply: Completion | ToolReply) -> None:
        """Count a call that a row needed, whether it was made or the journal answered it.

        A search that several rows need is paid once, and counted once.
        """
        if isinstance(reply, ToolReply) and reply.num_requests:
            # A part of the key is enough: a run may have millions of searches.
            short_key = int(key[:15], 16)
            if short_key in self._used_searches:
                return
            self._used_searches.add(short_key)
        self.used.count(*self._priced(who, reply))

    def _priced(
        self, who: str, reply: Completion | ToolReply, seconds: float = 0.0
    ) -> tuple[str, Tally]:
        """Name the model or the engine that gave a reply, and say what the reply cost."""
        if isinstance(reply, Completion):
            return who, price_call(who, reply.charged, self.prices, seconds)
        engine = engine_of(who)
        return engine, price_requests(engine, reply.num_requests, self.prices, seconds)

    def _learn(self, model: str, tally: Tally) -> None:
        """Learn how dear a model is, where its server says more than the table."""
        usage = Usage(
            tally.context_tokens, tally.written_tokens, tally.cached_tokens, tally.reasoning_tokens
        )
        measure = self.prices.dollars(model, usage) or tally.tokens
        if measure:
            self._learned[model] = max(self._learned.get(model, 0.0), tally.dollars / measure)

    def most_of(self, model: str, context_tokens: int, written_tokens: int) -> Most:
        """Return the most that a call of a model may cost, with so many tokens at most."""
        dollars = self.prices.most_dollars(model, context_tokens, written_tokens)
        return Most(model, 1, context_tokens + written_tokens, dollars)

    def most_of_tool(self, fingerprint: str) -> Most:
        """Return the most that one request of a tool may cost."""
        return Most(dollars=self.prices.searches.get(engine_of(fingerprint), 0.0))

    async def admit(self, most: Most) -> None:
        """Wait until the caps allow a call, and count it as under way.

        It is a `CapError` where a cap would be passed.
        """
        while not self._fits(most):
            # Every call under way counts as a call, however it ends.
            if not self._under_way or self._too_many_calls(most):
                self._refused = most
                raise self._cap_error()
            changed = asyncio.get_running_loop().create_future()
            self._waiting.append(changed)
            await changed
        self._reserve(most)

    def admit_now(self, most: Most) -> None:
        """Count a call as under way that cannot wait; a cap that would be passed: `CapError`."""
        if not self._fits(most):
            self._refused = most
            raise self._cap_error()
        self._reserve(most)

    def release(self, most: Most) -> None:
        """Count a call as over, once what it paid is counted."""
        if most == _FREE:
            return
        self._under_way.remove(most)
        # Added up anew: differences of floats would drift, and a model may have become dearer.
        self._reserved = Tally()
        for one in self._under_way:
            self._reserved.add(self._at_most(one))
        waiting, self._waiting = self._waiting, []
        for changed in waiting:
            if not changed.done():
                changed.set_result(None)

    def _reserve(self, most: Most) -> None:
        if most != _FREE:
            self._under_way.append(most)
            self._reserved.add(self._at_most(most))

    def _at_most(self, most: Most) -> Tally:
        """Return the most that calls may cost by what is known of their model's price now."""
        learned = self._learned.get(most.model, 0.0)
        dollars = most.dollars * max(learned, 1.0) if most.dollars else most.tokens * learned
        return Tally(calls=most.calls, context_tokens=most.tokens, dollars=dollars)

    def _fits(self, most: Most) -> bool:
        """Tell whether calls may begin now."""
        prices = self.prices
        if not prices.has_caps or most == _FREE:
            return True
        if prices.max_dollars and self._unpriced_models():
            raise CapError(
                f"costs.max_dollars cannot hold: {', '.join(self._unpriced_models())} has no price",
                where="params.yaml, costs.models",
                fix="name the model's prices in dollars per million tokens (0 for one of your own),"
                " or use costs.max_tokens, and run the same command again: finished calls are kept",
            )
        reached = self.paid.total
        reached.add(self._reserved)
        reached.add(self._at_most(most))
        if self._too_many_calls(most):
            return False
        if prices.max_tokens and most.tokens and reached.tokens > prices.max_tokens:
            return False
        if not prices.max_dollars:
            return True
        is_unknown = most.calls and most.model not in self._learned and not _is_free(most.model)
        if is_unknown and self._under_way:
            return False  # the first call of a model goes alone, and shows what its server says
        return reached.dollars <= prices.max_dollars + _ROUNDING

    def _too_many_calls(self, most: Most) -> bool:
        limit = self.prices.max_calls
        reached = self.paid.total.calls + self._reserved.calls + most.calls
        return bool(limit and most.calls and reached > limit)

    def final_error(self, error: CapError) -> CapError:
        """Return the error again, once the calls under way have ended, with all that was spent."""
        is_unpriced = self.prices.max_dollars and self._unpriced_models()
        return error if is_unpriced else self._cap_error()

    def _cap_error(self) -> CapError:
        """Return the error for the cap that is reached, with what was spent by now."""
        total = self.paid.total
        prices = self.prices
        more = self._at_most(self._refused)
        reached = {
            "max_calls": (total.calls + more.calls, prices.max_calls),
            "max_tokens": (total.tokens + more.tokens, prices.max_tokens),
            "max_dollars": (total.dollars + more.dollars, prices.max_dollars),
        }
        # The one that would be passed by most.
        used = {name: amount / cap for name, (amount, cap) in reached.items() if cap}
        name = max(used, key=lambda cap: used[cap])
        shown = f"{total.calls:,} calls, {total.tokens:,} tokens"
        if not self._unpriced_models():
            shown += f", ${total.dollars:,.4f}"
        one_more = f"{more.tokens:,} tokens" if more.tokens else "a request"
        if more.dollars and prices.max_dollars:
            one_more += f", ${more.dollars:,.4f}"
        return CapError(
            f"the limit costs.{name} is reached, so no further call is made",
            where=f".journal/{self._name}",
            expected=f"costs.{name} = {reached[name][1]:,}",
            got=f"{shown} spent by all runs of this stage; one more call may cost {one_more}",
            fix=f"raise costs.{name} (0 sets no limit) and run the same command again to resume: "
            "finished calls are kept",
        )

    def _unpriced_models(self) -> list[str]:
        """Name the models whose calls have no price; a script or a model in a folder needs none."""
        models = []
        for name, tally in sorted(self.paid.tallies.items()):
            if tally.unpriced_calls and not _is_free(name):
                models.append(name)
        return models


def _is_free(model: str) -> bool:
    """Tell whether a model is a script or lies in a folder here."""
    # With ReAct's lines around it a model has another name.
    return Path(model.removesuffix(SUFFIX)).is_dir() or is_scripted(model)
