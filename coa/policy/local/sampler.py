"""Keep the state of requests in a model in this process, and pick the next token of each."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coa.policy import Completion, Finish, Request, cut_at_stop
from coa.records.tokens import PieceEncoder

if TYPE_CHECKING:
    import torch

_SPREAD = 2
"""A batch's longest context is at most so many times its shortest; all are padded to it."""


@dataclass(slots=True)
class GenerationRow:
    """A request that the model is continuing."""

    request: Request
    context_ids: tuple[int, ...]
    limit: int
    """Most tokens that it may write: those asked for, or those that the model's window leaves."""
    encoder: PieceEncoder
    end_ids: frozenset[int]
    ids: list[int] = field(default_factory=list)
    """The ids that it has written."""
    text: str = ""
    finish: Finish | None = None
    generator: random.Random = field(init=False)
    """Draws for this row alone, whatever else is in the batch."""

    def __post_init__(self) -> None:
        self.generator = random.Random(self.request.seed)
        if self.limit <= 0:
            self.finish = Finish.LENGTH

    def take(self, token: int) -> None:
        """Append a sampled token and end the row where it is complete."""
        self.ids.append(token)
        if token in self.end_ids:
            self.text = self.encoder.decode(self.ids[:-1])
            self.finish = Finish.END
        elif self._has_stopped():
            self.finish = Finish.STOP
        elif len(self.ids) >= self.limit:
            self.text = self.encoder.decode(self.ids)
            self.finish = Finish.LENGTH

    def _has_stopped(self) -> bool:
        """Tell whether the last token completed a stop string; if so, set the text.

        Only the tail is decoded at first: a token has at least one byte, so as many tokens as the
        stop string has bytes must hold it. Decoding the whole text for every token would cost the
        square of its length.
        """
        stop = self.request.stop
        if not stop:
            return False
        longest = max(len(item.encode()) for item in stop)
        tail = self.encoder.decode(self.ids[-longest:])
        if not any(item in tail for item in stop):
            return False
        self.text, stopped = cut_at_stop(self.encoder.decode(self.ids), stop)
        return stopped

    def completion(self) -> Completion:
        """Return what the row has written."""
        assert self.finish is not None
        return Completion(
            text=self.text,
            finish=self.finish,
            num_tokens=len(self.ids),
            num_context_tokens=len(self.context_ids),
            ids=tuple(self.ids),
        )


class Sampler:
    """A logits processor that picks each row's next token.

    It uses the row's own temperature, top_p and generator; `generate` then takes the only token
    that is left. A uniform number is looked up in the cumulative distribution in the order of the
    vocabulary, so that rounding can change a pick only at a boundary.
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
        """Return scores that leave only the picked token of each row."""
        import torch

        # A model's vocabulary may be padded beyond its tokenizer's.
        known = scores[:, : self._num_tokens]
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
        # So many small terms would lose bits in float32.
        cumulative = chances.cumsum(dim=-1, dtype=torch.float64)
        total = cumulative[:, -1:]
        point = torch.tensor(uniform, device=scores.device, dtype=torch.float64) * total
        picked = torch.searchsorted(cumulative, point, right=True).squeeze(1)
        return picked.clamp(max=scores.shape[1] - 1)

    @staticmethod
    def _nucleus(chances: "torch.Tensor", top_p: "torch.Tensor") -> "torch.Tensor":
        """Keep the smallest set of likeliest tokens that reaches `top_p`, at least one token."""
        ranked, order = chances.sort(dim=-1, descending=True, stable=True)
        before = ranked.double().cumsum(dim=-1) - ranked
        keeps = (before < top_p) | (before <= 0)
        return chances.new_zeros(chances.shape).scatter_(1, order, ranked * keeps)


def batches_of_similar_length(
    rows: Sequence[GenerationRow], size: int
) -> Iterator[list[GenerationRow]]:
    """Split rows, sorted by length, into batches of at most `size`.

    In a batch no context is longer than `_SPREAD` times the shortest.
    """
    batch: list[GenerationRow] = []
    for row in rows:
        if batch:
            is_full = len(batch) == size
            is_longer = len(row.context_ids) > _SPREAD * len(batch[0].context_ids)
            if is_full or is_longer:
                yield batch
                batch = []
        batch.append(row)
    if batch:
        yield batch
