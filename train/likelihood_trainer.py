"""Train by token likelihood on TRL's SFTTrainer, whose step on a processor is made cheaper.

What of TRL is overridden, and why, is in this file alone. On a processor TRL 1.16 lays the rows of
a batch end to end, so attention grows with the square of their sum, and multiplies the head at
every position in float32, also where the rest is bfloat16 (trl/kernels/chunked_logprob.py). Here
the sequences are packed again into rows as long as the longest of them, and logits are made in the
model's own precision, only where something is trained. Loss and gradient are the same. On a GPU
everything is TRL's.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from train.encode import IGNORED
from train.logits import logits_at


class RowCollator(DataCollatorForLanguageModeling):
    """Packs the sequences of a batch into short rows; none of a row sees another."""

    def __init__(self, pad_token_id: int) -> None:
        super().__init__(pad_token_id=pad_token_id, return_position_ids=True)

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return `input_ids`, `labels` and `position_ids`, of shape (rows, tokens).

        The positions begin again with each sequence, by which transformers tells them apart where
        there is no mask.
        """
        batch: dict[str, Any] = super().torch_call(_pack_short(examples))
        del batch["attention_mask"]
        batch["labels"][batch["position_ids"] == 0] = IGNORED
        return batch


def _pack_short(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pack the sequences of packed rows again, into rows no longer than the longest sequence.

    Attention costs the square of a row's length. Each sequence, the longest first, goes to the
    first row that has room.
    """
    sequences = []
    for example in examples:
        start = 0
        for length in example["seq_lengths"]:
            part = slice(start, start + length)
            sequences.append((example["input_ids"][part], example["labels"][part]))
            start += length
    sequences.sort(key=lambda sequence: -len(sequence[0]))
    longest = len(sequences[0][0])
    rows: list[dict[str, Any]] = []
    for ids, labels in sequences:
        fitting = (row for row in rows if len(row["input_ids"]) + len(ids) <= longest)
        row = next(fitting, None)
        if row is None:
            row = {"input_ids": [], "labels": [], "seq_lengths": []}
            rows.append(row)
        row["input_ids"] += ids
        row["labels"] += labels
        row["seq_lengths"].append(len(ids))
    return rows


class LikelihoodTrainer(SFTTrainer):
    """TRL's trainer, with a loss of its own on a processor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if self.args.use_cpu and self.padding_free:
            theirs: Any = self.data_collator
            self.data_collator = RowCollator(theirs.pad_token_id)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the sum over the trained tokens, divided by the number of those of the step."""
        labels = inputs["labels"]
        arguments: Any = self.args
        is_plain = arguments.loss_type == "nll" and self.label_smoother is None
        if labels.device.type != "cpu" or self.aux_loss_enabled or not is_plain or return_outputs:
            theirs: Any = super().compute_loss
            return theirs(model, inputs, return_outputs, num_items_in_batch)

        row, column = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
        targets = labels[row, column + 1]
        given = {name: value for name, value in inputs.items() if name != "labels"}
        logits = logits_at(model, given, row, column)
        num_trained = len(targets) if num_items_in_batch is None else num_items_in_batch
        total = cross_entropy(logits.float(), targets, reduction="sum")
        loss = total / torch.as_tensor(num_trained).clamp(min=1)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes

        # The log has the mean of these since its last entry.
        metrics = self._metrics["train" if model.training else "eval"]
        is_right = (logits.detach().argmax(dim=-1) == targets).float()
        metrics["mean_token_accuracy"].append(is_right.mean().item() if len(targets) else 0.0)
        if model.training:
            num_tokens = torch.tensor(labels.numel())
            self._total_train_tokens += self.accelerator.gather(num_tokens).sum().item()
        metrics["num_tokens"] = [self._total_train_tokens]
        return loss
