"""Train by token likelihood on TRL's SFTTrainer, whose step on a processor is made cheaper.

What of TRL is overridden, and why, is in this file alone. On a processor TRL 1.16 multiplies the
head at every position in float32, also where the rest is bfloat16 (trl/kernels/chunked_logprob.py),
and attention grows with the square of the packed rows (train/sequence_attention.py). Here logits
are made in the model's own precision, only where something is trained, and each sequence attends to
itself alone. Loss and gradient are the same. On a GPU everything is TRL's.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from trl.trainer.sft_trainer import SFTTrainer

from train import sequence_attention
from train.encode import IGNORED
from train.logits import logits_at


class LikelihoodTrainer(SFTTrainer):
    """TRL's trainer, with a loss of its own on a processor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        model: Any = self.model
        if self.args.use_cpu and model.config._attn_implementation == "sdpa":
            model.set_attn_implementation(sequence_attention.NAME)

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
