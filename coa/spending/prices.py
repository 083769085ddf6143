"""Define the section `costs` of params.yaml: prices of models and searches, and caps of a run.

There is no table of other people's prices in the project: prices change, and what a run cost would
depend on the installed version of such a table. Where a server says what a call cost, the dearer of
its word and the table counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from coa.errors import ConfigError
from coa.records.usage import Usage

_MILLION = 1_000_000


class PriceKind(StrEnum):
    """Which tokens a price is for."""

    INPUT = "input"
    """Tokens of the context."""
    CACHED_INPUT = "cached_input"
    """Tokens of the context that the server had in its cache; without a price, that of `input`."""
    OUTPUT = "output"
    """Tokens that the model wrote."""
    REASONING = "reasoning"
    """Those of them that the server counts as reasoning; without a price, that of `output`."""


@dataclass(frozen=True, slots=True)
class CostParams:
    """What models and searches cost, in dollars, and the most that a run of a stage may spend."""

    models: Mapping[str, Mapping[PriceKind, float]] = field(default_factory=dict)
    """Dollars per million tokens by the model's name: `{input: 0.6, cached_input: 0.06, output:
    2.2}`. Without a price the costs are calls and tokens, but no dollars. A price of 0 suits a
    model that you serve yourself; one in a folder here needs none."""
    searches: Mapping[str, float] = field(default_factory=dict)
    """Dollars per request by engine: `serper`, `tavily`, `searxng` or `server`. An engine without a
    price is free."""
    max_dollars: float = 0.0
    """Dollars that a stage may spend, over all its runs with the same journal; 0 sets no limit. A
    call begins only where it fits with all calls under way at their most: a token for each byte of
    the context (exact counts with `tokenizer`), and `max_tokens` written. Tokens that a server
    writes beyond `max_tokens` or adds to the context cannot be bounded."""
    max_tokens: int = 0
    """Tokens that the model may read and write; as above."""
    max_calls: int = 0
    """Calls of the model; as above. Replies that are refused or cannot be read count."""

    def __post_init__(self) -> None:
        for model, prices in self.models.items():
            missing = {PriceKind.INPUT, PriceKind.OUTPUT} - set(prices)
            if missing:
                raise ConfigError(
                    f"the prices of {model} are not complete",
                    where="costs.models",
                    expected="{input: ..., output: ...} in dollars per million tokens",
                )
            _require_no_negative(f"costs.models, {model}", prices)
        _require_no_negative("costs.searches", self.searches)
        caps = {"max_dollars": self.max_dollars, "max_tokens": self.max_tokens}
        _require_no_negative("costs", {**caps, "max_calls": self.max_calls})

    @property
    def has_caps(self) -> bool:
        """Tell whether there is a limit at all."""
        return bool(self.max_dollars or self.max_tokens or self.max_calls)

    def dollars(self, model: str, usage: Usage) -> float | None:
        """Return what tokens of a model cost by the table; None where it has no price."""
        prices = self.models.get(model)
        if prices is None:
            return None
        per_input = prices[PriceKind.INPUT]
        per_output = prices[PriceKind.OUTPUT]
        per_cached = prices.get(PriceKind.CACHED_INPUT, per_input)
        per_reasoning = prices.get(PriceKind.REASONING, per_output)
        read = (usage.context_tokens - usage.cached_tokens) * per_input
        written = (usage.written_tokens - usage.reasoning_tokens) * per_output
        cached = usage.cached_tokens * per_cached
        reasoning = usage.reasoning_tokens * per_reasoning
        return (read + cached + written + reasoning) / _MILLION

    def most_dollars(self, model: str, context_tokens: int, written_tokens: int) -> float:
        """Return the most that a call costs by the table; 0 where the model has no price."""
        prices = self.models.get(model)
        if prices is None:
            return 0.0
        per_input = max(prices[PriceKind.INPUT], prices.get(PriceKind.CACHED_INPUT, 0.0))
        per_output = max(prices[PriceKind.OUTPUT], prices.get(PriceKind.REASONING, 0.0))
        return (context_tokens * per_input + written_tokens * per_output) / _MILLION


def _require_no_negative(
    where: str, values: Mapping[str, float] | Mapping[PriceKind, float]
) -> None:
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ConfigError(
                "prices and limits are numbers from 0 on", where=f"{where}, {name}", got=value
            )
