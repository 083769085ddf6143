"""Extend TRL's GRPO trainer by three things.

Advantages may be taken over rollouts that acted as often, rewards may be weighed otherwise in a
later part of the run, and micro-batches hold rows of like length, which leaves less padding to
compute.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import chain
from math import gcd
from typing import Any

from coa.records.trajectory import FAILED_STOPS
from coa.student.settings import Baseline
from train.rewards import WeightsAt


def trainer_class(baseline: Baseline, weights_at: WeightsAt | None = None) -> Any:
    """Return the class of the trainer; torch is imported with it.

    `weights_at` gives the weights of the rewards at each step; None where they stay.
    """
    import torch
    from trl.trainer.grpo_trainer import GRPOTrainer

    class Trainer(GRPOTrainer):
        def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
            before = self._buffered_inputs
            batch = super()._prepare_inputs(generation_batch)
            if self._buffered_inputs is not before and _may_be_sorted(self.args):
                # What one optimiser step takes stays in that step, whatever both numbers are.
                size = gcd(self.args.steps_per_generation, self.args.gradient_accumulation_steps)
                self._buffered_inputs = list(by_length(self._buffered_inputs, size))
                batch = self._buffered_inputs[self._step % self.args.steps_per_generation]
            return unpadded(batch)

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            if weights_at is not None:
                weights = weights_at(self.state.global_step, self.state.max_steps)
                self.reward_weights = torch.tensor(weights)
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if baseline is Baseline.ACTIONS:
                rank = self.accelerator.process_index
                strata = [_stratum(row, f"{rank}/{i}") for i, row in enumerate(inputs)]
                advantages = output["advantages"]
                output["advantages"] = centred_in_all(self.accelerator, advantages, strata)
            return output

    return Trainer


def _may_be_sorted(arguments: Any) -> bool:
    """Tell whether a step's loss is the same however its rows are divided into micro-batches.

    It is not where a micro-batch has a norm of its own.
    """
    return (
        arguments.loss_type != "bnpo"
        and arguments.top_entropy_quantile == 1.0
        and arguments.entropy_coef == 0.0
        and not arguments.use_adaptive_entropy
    )


def by_length(batches: Sequence[Mapping[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    """Regroup the rows of each `size` neighbouring micro-batches by length of completion."""
    import torch

    for start in range(0, len(batches), size):
        window = batches[start : start + size]
        numbers = [len(batch["completion_mask"]) for batch in window]
        lengths = torch.cat([batch["completion_mask"].sum(1) for batch in window])
        for chosen in torch.split(lengths.argsort(stable=True), numbers):
            rows: dict[str, Any] = {}
            for name in window[0]:
                rows[name] = _take([batch[name] for batch in window], chosen)
            yield rows


def _take(values: Sequence[Any], chosen: Any) -> Any:
    """Take the chosen rows of what micro-batches hold; what has no rows is the same in all."""
    import torch

    if torch.is_tensor(values[0]) and values[0].dim():
        return torch.cat(list(values))[chosen]
    if isinstance(values[0], list):
        joined = list(chain.from_iterable(values))
        return [joined[i] for i in chosen.tolist()]
    return values[0]


def unpadded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Cut off the columns that pad all rows of a micro-batch.

    TRL pads to the longest of all rollouts of a step. Prompts are padded on their left, completions
    on their right. What has a completion's shape, (rows, columns), is cut with it; anything else
    stays as it is.
    """
    shape = batch["completion_mask"].shape
    start = batch["prompt_mask"].shape[1] - _longest(batch["prompt_mask"])
    end = _longest(batch["completion_mask"])
    cut: dict[str, Any] = {}
    for name, value in batch.items():
        if name in ("prompt_ids", "prompt_mask"):
            cut[name] = value[:, start:]
        elif getattr(value, "shape", None) == shape:
            cut[name] = value[:, :end]
        else:
            cut[name] = value
    return cut


def _longest(mask: Any) -> int:
    return max(1, int(mask.sum(1).max()))


def _stratum(row: Mapping[str, Any], own: str) -> tuple[Any, ...]:
    """Name what a rollout is compared within.

    One that failed stands alone, and so keeps no advantage.
    """
    trajectory = row["graded"].trajectory
    has_failed = trajectory.stop_reason in FAILED_STOPS
    return row["prompt"], trajectory.num_actions, own if has_failed else None


def centred_in_all(accelerator: Any, values: Any, strata: Sequence[Hashable]) -> Any:
    """Subtract from `values` the mean of their stratum over all processes.

    Two processes may share a group.
    """
    from accelerate.utils import gather_object

    of_all = centred(accelerator.gather(values), gather_object(list(strata)))
    start = accelerator.process_index * len(values)
    return of_all[start : start + len(values)]


def centred(values: Any, strata: Sequence[Hashable]) -> Any:
    """Subtract from `values`, a tensor of shape (rows,), the mean of their stratum."""
    import torch

    numbers: dict[Hashable, int] = {}
    for stratum in strata:
        numbers.setdefault(stratum, len(numbers))
    index = torch.tensor([numbers[stratum] for stratum in strata], device=values.device)
    sums = values.new_zeros(len(numbers)).index_add(0, index, values)
    return values - (sums / index.bincount())[index]
