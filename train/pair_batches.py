"""Lay out pairs as rows of a batch, and compute the log-probabilities of their sides.

Both sides of a pair are in one row after their prefix, which is computed once; neither side sees
the other. A trajectory whose plain likelihood is trained is a row with a chosen side alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.utils import selective_log_softmax

_PREFIX, _CHOSEN, _REJECTED, _PADDING = range(4)
_OF_ROWS: Mapping[str, Any] = {
    "decision_lengths": [0, 0],
    "acts": 0,
}
"""What is known of a row as a whole (`DecisionExample`), and what stands where it is not."""


def collate(examples: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, Tensor]:
    """Put each pair (`PairExample`, `DecisionExample`) into one row: prefix, chosen, rejected side.

    The positions of both sides count on from the prefix. `sides` says which tokens are trained, and
    as which side's; `ranks` counts these in each side, from 1; `predictors` says at which position
    each token is predicted.
    """
    rows = [_row(example) for example in examples]
    paddings = {
        "input_ids": pad_id,
        "position_ids": 0,
        "segments": _PADDING,
        "sides": 0,
        "ranks": 0,
        "predictors": 0,
    }
    batch: dict[str, Tensor] = {}
    for name, padding in paddings.items():
        columns = [row[name] for row in rows]
        batch[name] = pad_sequence(columns, batch_first=True, padding_value=padding)
    # A token sees the prefix and its own side, up to itself.
    segments = batch.pop("segments")
    is_prefix = segments[:, None, :] == _PREFIX
    is_same_segment = segments[:, None, :] == segments[:, :, None]
    is_seen = is_prefix | is_same_segment
    batch["attention_mask"] = is_seen.tril()[:, None]
    batch["is_pair"] = (segments == _REJECTED).any(dim=1)
    for name, unknown in _OF_ROWS.items():
        batch[name] = torch.tensor([example.get(name, unknown) for example in examples])
    return batch


def _row(example: Mapping[str, Any]) -> dict[str, Tensor]:
    """Lay out one pair: where each segment begins, and what predicts its tokens."""
    num_chosen = len(example["chosen_ids"])
    num_rejected = len(example["rejected_ids"])
    start = len(example["prompt_ids"])  # of the chosen side
    middle = start + num_chosen  # of the rejected side
    end = middle + num_rejected

    ids = [*example["prompt_ids"], *example["chosen_ids"], *example["rejected_ids"]]
    chosen_mask = torch.tensor(example["chosen_mask"], dtype=torch.long)
    rejected_mask = torch.tensor(example["rejected_mask"], dtype=torch.long)
    not_trained = torch.zeros(start, dtype=torch.long)
    is_trained = torch.cat([not_trained, chosen_mask, rejected_mask])
    ranks = torch.cat([not_trained, chosen_mask.cumsum(0), rejected_mask.cumsum(0)])
    segments = torch.repeat_interleave(
        torch.tensor([_PREFIX, _CHOSEN, _REJECTED]),
        torch.tensor((start, num_chosen, num_rejected)),
    )
    positions = torch.cat([torch.arange(middle), torch.arange(start, start + num_rejected)])
    # Each token is predicted at the one before it; the rejected side's first at the prefix's end.
    predictors = torch.arange(-1, end - 1)
    predictors[middle : middle + 1] = start - 1
    return {
        "input_ids": torch.tensor(ids),
        "position_ids": positions,
        "segments": segments,
        "sides": segments * is_trained,
        "ranks": ranks,
        "predictors": predictors,
    }


class SideScores(NamedTuple):
    """The log-probabilities of both sides of each row, shape (rows, 2): chosen, rejected."""

    sums: Tensor
    """Over all trained tokens of a side; 0 for a side that a row does not have."""
    means: Tensor
    """Over the same tokens."""
    decisions: Tensor
    """Sums over the decisions; 0 where none is known."""

    def where(self, is_chosen_row: Tensor) -> "SideScores":
        """Return the scores of some of the rows."""
        return SideScores(*(scores[is_chosen_row] for scores in self))


def score_sides(model: Any, batch: dict[str, Tensor]) -> SideScores:
    """Compute the log-probabilities of the sides of a batch that `collate` made."""
    names = ("input_ids", "position_ids", "attention_mask")
    inputs = {name: batch[name] for name in names}
    row, column = batch["sides"].nonzero(as_tuple=True)
    # Logits are made only where a trained token is predicted: the prefix may be most of the text.
    used: Any = batch["predictors"][row, column]
    positions, place = used.unique(return_inverse=True)
    logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits
    found = selective_log_softmax(logits[row, place].float(), inputs["input_ids"][row, column])
    where = (row, batch["sides"][row, column] - _CHOSEN)
    zeros = found.new_zeros(len(batch["sides"]), 2)
    ranks = batch["ranks"][row, column]

    def total(values: Tensor) -> Tensor:
        return zeros.index_put(where, values, accumulate=True)

    sums = total(found)
    means = sums / total(torch.ones_like(found)).clamp(min=1)
    is_decision = ranks <= batch["decision_lengths"][where]
    return SideScores(sums, means, decisions=total(found * is_decision))
