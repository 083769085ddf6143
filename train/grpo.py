"""TRL's GRPO trainer: advantages over rollouts that acted as often, and micro-batches as long as their own rows."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from train.rewards import FAILURES
from train.settings import Baseline


def trainer_class(baseline: Baseline) -> Any:
    """The class of the trainer; torch is imported with it."""
    from trl.trainer.grpo_trainer import GRPOTrainer

    class Trainer(GRPOTrainer):
        def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
            return unpadded(super()._prepare_inputs(generation_batch))

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
            if baseline is Baseline.ACTIONS:
                output["advantages"] = centred(output["advantages"], list(map(_stratum, inputs)))
            return output

    return Trainer


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


def _stratum(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a rollout is compared within; one that failed stands alone, and so keeps no advantage."""
    trajectory = row["graded"].trajectory
    return (row["prompt"], trajectory.num_actions, row["graded"] if trajectory.stop_reason in FAILURES else None)


def centred(values: Any, strata: Sequence[Hashable]) -> Any:
    """`values`, a tensor of shape (rows,), less the mean of their stratum."""
    import torch

    numbers: dict[Hashable, int] = {}
    index = torch.tensor([numbers.setdefault(stratum, len(numbers)) for stratum in strata], device=values.device)
    sums = values.new_zeros(len(numbers)).index_add(0, index, values)
    return values - (sums / index.bincount())[index]
