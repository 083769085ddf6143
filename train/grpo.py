"""TRL's GRPO trainer: advantages over rollouts that acted as often, and micro-batches of rows of like length."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from math import gcd
from typing import Any

from coa.trajectory import FAILED_STOPS
from train.settings import Baseline


def trainer_class(baseline: Baseline) -> Any:
    """The class of the trainer; torch is imported with it."""
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
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if baseline is Baseline.ACTIONS:
                rank = self.accelerator.process_index
                strata = [_stratum(row, f"{rank}/{i}") for i, row in enumerate(inputs)]
                advantages = output["advantages"]
                output["advantages"] = centred_in_all(self.accelerator, advantages, strata)
            return output

    return Trainer


def _may_be_sorted(arguments: Any) -> bool:
    """Whether a step's loss is the same however its rows are divided: not where a micro-batch has a norm of its own."""
    return (
        arguments.loss_type != "bnpo"
        and arguments.top_entropy_quantile == 1.0
        and arguments.entropy_coef == 0.0
        and not arguments.use_adaptive_entropy
    )


def by_length(batches: Sequence[Mapping[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    """Micro-batches of the same rows, those of each `size` neighbours divided anew by the lengths of completions."""
    import torch

    for start in range(0, len(batches), size):
        window = batches[start : start + size]
        numbers = [len(batch["completion_mask"]) for batch in window]
        lengths = torch.cat([batch["completion_mask"].sum(1) for batch in window])
        for chosen in torch.split(lengths.argsort(stable=True), numbers):
            yield {name: _rows([batch[name] for batch in window], chosen) for name in window[0]}


def _rows(values: Sequence[Any], chosen: Any) -> Any:
    """The chosen rows of what micro-batches hold; what has no rows is the same in all of them."""
    import torch

    if torch.is_tensor(values[0]) and values[0].dim():
        return torch.cat(list(values))[chosen]
    if isinstance(values[0], list):
        joined = [row for value in values for row in value]
        return [joined[i] for i in chosen.tolist()]
    return values[0]


def unpadded(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A micro-batch without the columns that pad all of its rows; TRL pads to the longest of all rollouts of a step.

    Prompts are padded on their left, completions on their right. What has a completion's shape, (rows, columns), goes
    with it; anything else stays as it is.
    """
    shape = batch["completion_mask"].shape
    start = batch["prompt_mask"].shape[1] - _longest(batch["prompt_mask"])
    end = _longest(batch["completion_mask"])

    def cut(name: str, value: Any) -> Any:
        if name in ("prompt_ids", "prompt_mask"):
            return value[:, start:]
        return value[:, :end] if getattr(value, "shape", None) == shape else value

    return {name: cut(name, value) for name, value in batch.items()}


def _longest(mask: Any) -> int:
    return max(1, int(mask.sum(1).max()))


def _stratum(row: Mapping[str, Any], own: str) -> tuple[Any, ...]:
    """What a rollout is compared within; one that failed stands alone, and so keeps no advantage."""
    trajectory = row["graded"].trajectory
    has_failed = trajectory.stop_reason in FAILED_STOPS
    return row["prompt"], trajectory.num_actions, own if has_failed else None


def centred_in_all(accelerator: Any, values: Any, strata: Sequence[Hashable]) -> Any:
    """`values` less the mean of their stratum over all processes, which may share a group."""
    from accelerate.utils import gather_object

    of_all = centred(accelerator.gather(values), gather_object(list(strata)))
    start = accelerator.process_index * len(values)
    return of_all[start : start + len(values)]


def centred(values: Any, strata: Sequence[Hashable]) -> Any:
    """`values`, a tensor of shape (rows,), less the mean of their stratum."""
    import torch

    numbers: dict[Hashable, int] = {}
    index = torch.tensor(
        [numbers.setdefault(stratum, len(numbers)) for stratum in strata], device=values.device
    )
    sums = values.new_zeros(len(numbers)).index_add(0, index, values)
    return values - (sums / index.bincount())[index]
