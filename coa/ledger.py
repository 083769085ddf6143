"""Add up what calls cost: by model and by search engine, in one run and over a whole journal.

The journal holds each call that was paid, once, with the tokens and the price that its server
reported. So what a stage spent over all its runs is a sum over its journal.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from coa.errors import CapError
from coa.journal import Call, CallKind, Journal, JournalReader
from coa.policy import Completion
from coa.policy.react import SUFFIX
from coa.policy.scripted import is_scripted
from coa.policy.usage import Count, Usage, charged_usage
from coa.prices import CostParams
from coa.search.web import Provider
from coa.tools import ToolReply

_PLACES = 6
"""Decimal places of dollars: the millionth part, below what any provider charges."""


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
    """Return the tally of one call; the server's own word on its price comes first."""
    dollars = usage.dollars
    if dollars is None:
        dollars = prices.dollars(model, usage)
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


def price_recorded(call: Call, prices: CostParams) -> Tally:
    """Return the tally of a call of a journal; one of a tool that sent no request is free."""
    try:
        reply = _REPLIES.decode(call.reply)
    except (ValueError, RecursionError):
        reply = _UNREADABLE
    if call.kind == CallKind.POLICY:
        usage = charged_usage(reply.usage, reply.num_context_tokens, reply.num_tokens)
        return price_call(call.who, usage, prices, call.seconds)
    return price_requests(engine_of(call.who), reply.num_requests, prices, call.seconds)


def price_journal(journal: JournalReader | Journal, prices: CostParams) -> Spending:
    """Return what all calls of a journal cost."""
    spending = Spending()
    for call in journal.calls():
        name = call.who if call.kind == CallKind.POLICY else engine_of(call.who)
        spending.count(name, price_recorded(call, prices))
    return spending


class Ledger:
    """The account of one run: what it pays, what its rows cost, and whether a cap is reached."""

    def __init__(self, journal: Journal | None = None, prices: CostParams | None = None) -> None:
        """Begin with what earlier runs of the journal paid, where that matters."""
        self.prices = prices or CostParams()
        self.paid = Spending()
        """What the stage paid so far: in this run, and in earlier ones where there are prices or
        caps."""
        self.used = Spending()
        """What the rows of this run cost, whenever it was paid. It follows from the rows alone, so
        a run that goes on counts as one that was never stopped."""
        self.num_under_way = 0
        """Calls of the model that are being made."""
        self._used_searches: set[int] = set()
        self._name = journal.path.name if journal else "the journal"
        if journal and (self.prices.has_caps or self.prices.models or self.prices.searches):
            self.paid.add(price_journal(journal, self.prices))

    def count_paid(self, who: str, reply: Completion | ToolReply, seconds: float) -> None:
        """Count a call that was made."""
        self.paid.count(*self._priced(who, reply, seconds))

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

    def begin(self, kind: CallKind) -> None:
        """Count a call as under way; those of tools are not counted."""
        self.num_under_way += kind is CallKind.POLICY

    def end(self, kind: CallKind) -> None:
        """Count a call as over."""
        self.num_under_way -= kind is CallKind.POLICY

    def require_room(self, num_calls: int = 1) -> None:
        """Allow `num_calls` further calls of the model, or a call of a tool (0 calls).

        Calls under way are expected to cost what those before them did.

        Raises:
            CapError: a cap would be passed.
        """
        if not self.prices.has_caps:
            return
        total = self.paid.total
        share = self.num_under_way / total.calls if total.calls else 0.0
        calls = total.calls + self.num_under_way + num_calls
        prices = self.prices
        if num_calls and prices.max_calls and calls > prices.max_calls:
            raise self._cap_error()
        if prices.max_tokens and total.tokens * (1 + share) >= prices.max_tokens:
            raise self._cap_error()
        if prices.max_dollars and self._unpriced_models():
            raise self._price_error()
        if prices.max_dollars and total.dollars * (1 + share) >= prices.max_dollars:
            raise self._cap_error()

    def final_error(self, error: CapError) -> CapError:
        """Return the error again, once the calls under way have ended, with all that was spent."""
        is_unpriced = self.prices.max_dollars and self._unpriced_models()
        return error if is_unpriced else self._cap_error()

    def _cap_error(self) -> CapError:
        """Return the error for the cap that is reached, with what was spent by now."""
        total = self.paid.total
        prices = self.prices
        spent = {
            "max_calls": (total.calls, prices.max_calls),
            "max_tokens": (total.tokens, prices.max_tokens),
            "max_dollars": (total.dollars, prices.max_dollars),
        }
        # The one that is nearest: calls under way may have cost less than was expected.
        used = {name: amount / cap for name, (amount, cap) in spent.items() if cap}
        name = max(used, key=lambda cap: used[cap])
        shown = f"{total.calls:,} calls, {total.tokens:,} tokens"
        if not self._unpriced_models():
            shown += f", ${total.dollars:,.4f}"
        return CapError(
            f"the limit costs.{name} is reached, so no further call is made",
            where=f".journal/{self._name}",
            expected=f"costs.{name} = {spent[name][1]:,}",
            got=f"{shown} spent by all runs of this stage",
            fix=f"raise costs.{name} (0 sets no limit) and run the same command again: it goes on "
            "from here, and finished calls are kept",
        )

    def _unpriced_models(self) -> list[str]:
        """Name the models whose calls have no price; a script or a model in a folder needs none."""
        models = []
        for name, tally in sorted(self.paid.tallies.items()):
            # With ReAct's lines around it a model has another name.
            is_here = Path(name.removesuffix(SUFFIX)).is_dir()
            if tally.unpriced_calls and not is_here and not is_scripted(name):
                models.append(name)
        return models

    def _price_error(self) -> CapError:
        return CapError(
            f"costs.max_dollars cannot hold: {', '.join(self._unpriced_models())} has no price",
            where="params.yaml, costs.models",
            fix="name the model's prices in dollars per million tokens (0 for one of your own), or "
            "use costs.max_tokens, and run the same command again: finished calls are kept",
        )
