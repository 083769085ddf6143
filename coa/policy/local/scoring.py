"""Tell how probable texts are to a model in this process."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


class ScoredText(NamedTuple):
    """A continuation of a context, both as token ids; neither is empty."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """Return the ids of both."""
        return self.context + self.continuation


def log_probabilities(
    model: Any, texts: Sequence[ScoredText], *, batch_size: int, pad_id: int
) -> list[float]:
    """Tell the natural logarithm of each continuation's probability after its context.

    Texts of similar length go through the model together.
    """
    found = [0.0] * len(texts)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number].ids))
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
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
    rows: list[int] = []
    columns: list[int] = []
    for row, text in enumerate(batch):
        length = len(text.ids)
        ids[row, :length] = torch.tensor(text.ids)
        mask[row, :length] = 1
        for column in range(len(text.context), length):
            rows.append(row)
            columns.append(column)
    row_index = torch.tensor(rows)
    column_index = torch.tensor(columns)
    chances = _log_chances(model, ids, mask, row_index, column_index)
    sums = torch.zeros(len(batch)).index_add(0, row_index, chances.cpu())
    return [float(value) for value in sums]


def _log_chances(
    model: Any,
    ids: "torch.Tensor",
    mask: "torch.Tensor",
    rows: "torch.Tensor",
    columns: "torch.Tensor",
) -> "torch.Tensor":
    """Return the logarithm of the probability of the tokens in these rows and columns."""
    import torch

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
    return predicted.gather(1, tokens[:, None]).squeeze(1)
