"""Train on pairs with the loss of SFT stage 1, and on trajectories beside them.

The loss of a pair is the paper's (AutoCoA, section 3), where P is the mean log-probability of a
side's own tokens:

    -log sigmoid(P(chosen) - P(rejected)) - alpha P(chosen)

The loss is a mean over the pairs of an optimiser's step, and over the trained tokens of its
trajectories, however these are split into batches.

Both sides of a pair are in one row after their prefix, which is computed once; neither side sees
the other. A trajectory whose plain likelihood is trained is a row with a chosen side alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import ConcatDataset, DataLoader, Sampler
from transformers import Trainer
from trl.trainer.utils import selective_log_softmax

from coa.student.settings import Sft1Params
from train.logits import logits_at

if TYPE_CHECKING:
    from datasets import Dataset

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
    logits = logits_at(model, inputs, row, used)
    found = selective_log_softmax(logits.float(), inputs["input_ids"][row, column])
    where = (row, batch["sides"][row, column] - _CHOSEN)
    zeros = found.new_zeros(len(batch["sides"]), 2)
    ranks = batch["ranks"][row, column]

    def total(values: Tensor) -> Tensor:
        return zeros.index_put(where, values, accumulate=True)

    sums = total(found)
    means = sums / total(torch.ones_like(found)).clamp(min=1)
    is_decision = ranks <= batch["decision_lengths"][where]
    return SideScores(sums, means, decisions=total(found * is_decision))


class PairTrainer(Trainer):
    """transformers' Trainer with the loss of SFT stage 1.

    It logs how likely both sides are and how often the chosen one is likelier; how likely the
    trigger is where acting is better and where thinking is; and the loss per token of the
    trajectories.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self, *, settings: Sft1Params, trajectories: "Dataset | None" = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self._settings = settings
        self._trajectories = trajectories
        self._seen: dict[str, list[float]] = defaultdict(list)

    def get_train_dataloader(self) -> Any:
        """Return the batches of an epoch: pairs, with trajectories between them where there are."""
        if self._trajectories is None:
            return super().get_train_dataloader()
        pairs: Any = self.train_dataset
        order = MixedOrder(
            len(pairs), len(self._trajectories), self._settings.likelihood_share, self.args.seed
        )
        batches: Any = DataLoader(
            ConcatDataset([pairs, self._trajectories]),
            batch_size=self._train_batch_size,
            sampler=order,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            drop_last=self.args.dataloader_drop_last,
        )
        return self.accelerator.prepare(batches)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """Return the batches of one step, with what one process has of pairs and tokens in them."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        counts = torch.zeros(2, device=device)
        for batch in batches:
            counts += count_terms(batch).to(device)
        return batches, self.accelerator.reduce(counts, reduction="mean")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the batch's share of the step's loss.

        Where no step is under way, it is the mean over the batch.
        """
        counts = count_terms(inputs) if num_items_in_batch is None else num_items_in_batch
        num_pairs, num_tokens = counts.clamp(min=torch.finfo(counts.dtype).tiny)
        scores = score_sides(model, inputs)
        is_pair = inputs["is_pair"]
        acts = inputs["acts"][is_pair].bool()
        has_trigger = (inputs["decision_lengths"][is_pair] > 0).all(dim=1)
        prefix = "" if model.training else "eval_"
        losses = self._pair_losses(scores.where(is_pair), acts, has_trigger, prefix)
        loss = losses.sum() / num_pairs
        if self._trajectories is not None and not is_pair.all():
            whole = scores.where(~is_pair)
            self._note(f"{prefix}likelihood_loss", -whole.means[:, 0])
            likelihood_loss = -whole.sums[:, 0].sum() / num_tokens
            loss = loss + self._settings.likelihood_weight * likelihood_loss
        return (loss, {}) if return_outputs else loss

    def _pair_losses(
        self, scores: SideScores, acts: Tensor, has_trigger: Tensor, prefix: str
    ) -> Tensor:
        """Compute the loss of each pair, and note what the log tells of it."""
        chosen, rejected = scores.means.unbind(dim=1)
        trigger = torch.where(acts, scores.decisions[:, 0], scores.decisions[:, 1])
        self._note(f"{prefix}logps/chosen", chosen)
        self._note(f"{prefix}logps/rejected", rejected)
        self._note(f"{prefix}pair_accuracy", (chosen > rejected).float())
        self._note(f"{prefix}trigger/act_better", trigger[acts & has_trigger].exp())
        self._note(f"{prefix}trigger/think_better", trigger[~acts & has_trigger].exp())
        return -logsigmoid(chosen - rejected) - self._settings.alpha * chosen

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, None, None]:
        """Compute only the loss: there are no labels to compare with."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _note(self, name: str, values: Tensor) -> None:
        self._seen[name] += values.detach().tolist()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry of the same kind."""
        is_eval = any(name.startswith("eval_") for name in logs)
        names = [name for name in self._seen if name.startswith("eval_") is is_eval]
        for name in names:
            values = self._seen.pop(name)
            if values:
                logs[name] = sum(values) / len(values)
        super().log(logs, start_time)


def count_terms(batch: dict[str, Tensor]) -> Tensor:
    """Count the pairs of a batch, and the trained tokens of its trajectories."""
    is_pair = batch["is_pair"]
    num_tokens = (batch["sides"][~is_pair] > 0).sum()
    return torch.stack([is_pair.sum(), num_tokens]).float()


class MixedOrder(Sampler[int]):
    """The order of an epoch's rows: all pairs, and the share of trajectories spread evenly.

    So every step has its share, however it is split into batches. Each epoch draws its own
    trajectories; those with all drawn are drawn again.
    """

    def __init__(self, num_pairs: int, num_trajectories: int, share: float, seed: int) -> None:
        self._num_pairs = num_pairs
        self._num_trajectories = num_trajectories
        self._num_drawn = max(1, round(num_pairs * share / (1 - share)))
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, whose order depends on it and the seed alone."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Return the number of rows of an epoch."""
        return self._num_pairs + self._num_drawn

    def __iter__(self) -> Iterator[int]:
        """Yield positions in the pairs followed by the trajectories."""
        generator = torch.Generator().manual_seed(1_000_003 * self._seed + self._epoch)
        pairs = iter(torch.randperm(self._num_pairs, generator=generator).tolist())
        drawn: list[int] = []
        while len(drawn) < self._num_drawn:
            drawn += torch.randperm(self._num_trajectories, generator=generator).tolist()
        trajectories = iter(drawn)
        for row in range(len(self)):
            # The number of trajectories up to a row grows in proportion to the row.
            num_before = row * self._num_drawn // len(self)
            num_after = (row + 1) * self._num_drawn // len(self)
            if num_after > num_before:
                yield self._num_pairs + next(trajectories)
            else:
                yield next(pairs)
