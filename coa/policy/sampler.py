"""Requests on their way through a model in this process, and how the next token of each is picked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coa.policy import Completion, Finish, Request, cut_at_stop
from coa.tokens import PieceEncoder

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class GenerationRow:
    """One request on its way through the model."""

    request: Request
    context_ids: tuple[int, ...]
    limit: int
    """How many tokens it may write: what was asked for, or what the model's window leaves."""
    encoder: PieceEncoder
    end_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    """What it has written."""
    text: str = ""
    finish: Finish | None = None
    generator: random.Random = field(init=False)
    """Its own draws, whatever else is in the batch."""

    def __post_init__(self) -> None:
        self.generator = random.Random(self.request.seed)
        if self.limit <= 0:
            self.finish = Finish.LENGTH

    def take(self, token: int) -> None:
        """Append a sampled token and find out whether the row is over."""
        self.ids.append(token)
        if token in self.end_ids:
            self.text, self.finish = self.encoder.decode(self.ids[:-1]), Finish.END
        elif self._has_stopped():
            self.finish = Finish.STOP
        elif len(self.ids) >= self.limit:
            self.text, self.finish = self.encoder.decode(self.ids), Finish.LENGTH

    def _has_stopped(self) -> bool:
        """Whether the last token completed a stop string.

        A token is at least one byte, so the tail of as many tokens as the stop string has bytes holds it; decoding
        all the text for every token would cost the square of its length.
        """
        stop = self.request.stop
        if not stop:
            return False
        tail = self.encoder.decode(self.ids[-max(len(item.encode()) for item in stop) :])
        if not any(item in tail for item in stop):
            return False
        self.text, stopped = cut_at_stop(self.encoder.decode(self.ids), stop)
        return stopped

    def completion(self) -> Completion:
        """The row's outcome."""
        assert self.finish is not None
        return Completion(
            self.text, self.finish, len(self.ids), len(self.context_ids), tuple(self.ids)
        )


class Sampler:
    """Picks each row's next token by the row's own temperature, top_p and generator (a logits processor).

    `generate` then takes the only token that is left. A uniform number is looked up in the cumulative distribution in
    the order of the vocabulary, so that rounding can change a pick only at a boundary.
    """

    def __init__(
        self, rows: Sequence[GenerationRow], num_tokens: int, device: "torch.device"
    ) -> None:
        import torch

        self._num_tokens = num_tokens
        self._generators = [row.generator for row in rows]
        temperatures = torch.tensor([row.request.temperature for row in rows], device=device)
        self._is_greedy = temperatures <= 0
        self._temperatures = temperatures.masked_fill(self._is_greedy, 1.0)[:, None]
        top_p = torch.tensor([row.request.top_p for row in rows], device=device)[:, None]
        self._top_p = top_p if bool((top_p < 1).any()) else None

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """Scores that leave only the picked token of each row."""
        import torch

        known = scores[
            :, : self._num_tokens
        ]  # a model's vocabulary may be padded beyond its tokenizer's
        picked = known.argmax(dim=-1)
        if not self._is_greedy.all():
            picked = torch.where(self._is_greedy, picked, self._draw(known))
        return torch.full_like(scores, -torch.inf).scatter_(1, picked[:, None], 0.0)

    def _draw(self, scores: "torch.Tensor") -> "torch.Tensor":
        import torch

        uniform = [[generator.random()] for generator in self._generators]
        chances = torch.softmax(scores / self._temperatures, dim=-1)
        if self._top_p is not None:
            chances = self._nucleus(chances, self._top_p)
        cumulative = chances.cumsum(
            dim=-1, dtype=torch.float64
        )  # so many small terms would lose bits in float32
        point = (
            torch.tensor(uniform, device=scores.device, dtype=torch.float64) * cumulative[:, -1:]
        )
        return (
            torch.searchsorted(cumulative, point, right=True)
            .squeeze(1)
            .clamp(max=scores.shape[1] - 1)
        )

    @staticmethod
    def _nucleus(chances: "torch.Tensor", top_p: "torch.Tensor") -> "torch.Tensor":
        """Drop the tokens beyond the smallest set of likeliest ones that holds `top_p`; the likeliest always stays."""
        ranked, order = chances.sort(dim=-1, descending=True, stable=True)
        before = ranked.double().cumsum(dim=-1) - ranked
        keeps = (before < top_p) | (before <= 0)
        return chances.new_zeros(chances.shape).scatter_(1, order, ranked * keeps)
