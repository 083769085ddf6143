"""Tell how probable texts are to a model in this process."""

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple


class ScoredText(NamedTuple):
    """A continuation of a context, both as token ids; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of both."""
        return self.context + self.continuation


def log_probabilities(
    model: Any,
    texts: Sequence[ScoredText],
    *,
    batch_size: int,
    pad_id: int,
    window: int | None = None,
) -> list[float]:
    """Return the natural logarithm of each continuation's probability after its context.

    It is minus infinity where the two do not fit into the model's window, in tokens.
    """
    found = [-inf] * len(texts)
    fitting = []
    for number, text in enumerate(texts):
        if window is None or len(text.ids) <= window:
            fitting.append(number)
    fitting.sort(key=lambda number: len(texts[number].ids))
    for start in range(0, len(fitting), batch_size):
        numbers = fitting[start : start + batch_size]
        batch = [texts[number] for number in numbers]
        for number, value in zip(numbers, _score_batch(model, batch, pad_id), strict=True):
            found[number] = value
    return found


def _score_batch(model: Any, batch: Sequence[ScoredText], pad_id: int) -> list[float]:
    """Score texts in one pass.

    They are padded on the right: no token of a causal model sees what follows it.
    """
    import torch

    width = max(len(text.ids) for text in batch)
    ids = torch.full((len(batch), width), pad_id)
    mask = torch.zeros_like(ids)
    row_list: list[int] = []
    column_list: list[int] = []
    for row, text in enumerate(batch):
        length = len(text.ids)
        ids[row, :length] = torch.tensor(text.ids)
        mask[row, :length] = 1
        for column in range(len(text.context), length):
            row_list.append(row)
            column_list.append(column)
    rows = torch.tensor(row_list)
    columns = torch.tensor(column_list)
    # Logits are made only where one of the tokens is predicted: contexts are most of the text.
    positions, places = torch.unique(columns - 1, return_inverse=True)
    with torch.inference_mode():
        logits: torch.Tensor = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            use_cache=False,
            logits_to_keep=positions.to(model.device),
        ).logits
    predicted = logits[rows, places].float().log_softmax(dim=-1)
    tokens = ids[rows, columns].to(predicted.device)
    chances = predicted.gather(1, tokens[:, None]).squeeze(1)
    sums = torch.zeros(len(batch)).index_add(0, rows, chances.cpu())
    return [float(value) for value in sums]
