"""SFT stage 1, when to act: a contrastive loss on pairs that part at one point (AutoCoA, section 3).

    P(x|c) = mean of log pi over the policy's own tokens of x, after the shared prefix c
    L      = -log sigma(P(chosen|c) - P(rejected|c)) - alpha P(chosen|c)

Both sides of a pair stand in one row after their prefix, which is computed once; neither side sees the other. The loss
is a mean over the pairs of an optimiser's step, however these are split into batches.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments
from trl.trainer.utils import selective_log_softmax

from coa.errors import ConfigError
from coa.pairs import PreferencePair
from train.encode import Encoder, PairExample, read_split, to_dataset
from train.fitting import fit
from train.monitors import Monitor
from train.stage import StageRun

_PREFIX, _CHOSEN, _REJECTED, _PADDING = range(4)


def train(run: StageRun) -> None:
    """Run stage sft1."""
    settings = run.params.sft1
    student = run.load(settings.init)
    attention = student.model.config._attn_implementation
    if attention != "sdpa":
        raise ConfigError(
            "sft1 needs attention that takes a mask",
            where=settings.init,
            expected="sdpa",
            got=attention,
        )
    encoder = Encoder(
        student.tokenizer, run.prompt(student.tokenizer), run.params.max_context_tokens
    )
    splits = {}
    for split in ("train", "validation"):
        rows = read_split(settings.pairs, split, PreferencePair)
        splits[split] = to_dataset(map(encoder.pair, rows), PairExample)
    run.report.note_rows(encoder.rows)
    run.callbacks.append(Monitor(run.params.monitors))
    trainer = ContrastiveTrainer(
        model=run.adapted(student.model),
        args=run.arguments(TrainingArguments, settings.arguments, remove_unused_columns=False),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"] or None,
        data_collator=partial(collate, pad_id=student.tokenizer.pad_token_id or 0),
        callbacks=run.callbacks,
        alpha=settings.alpha,
    )
    fit(run, trainer, student, (settings.init, settings.pairs))


def collate(examples: Sequence[PairExample], pad_id: int) -> dict[str, Tensor]:
    """One row a pair: prefix, chosen side, rejected side; positions of both sides count on from the prefix.

    `sides` says which tokens are trained, and as which side's; `predictors` at which position each token is predicted.
    """
    rows = [_row(example) for example in examples]
    paddings = {
        "input_ids": pad_id,
        "position_ids": 0,
        "segments": _PADDING,
        "sides": 0,
        "predictors": 0,
    }
    batch = {
        name: pad_sequence([row[name] for row in rows], batch_first=True, padding_value=padding)
        for name, padding in paddings.items()
    }
    segments = batch.pop("segments")
    is_seen = (segments[:, None, :] == _PREFIX) | (segments[:, None, :] == segments[:, :, None])
    return {**batch, "attention_mask": is_seen.tril()[:, None]}


def _row(example: PairExample) -> dict[str, Tensor]:
    start = len(example["prompt_ids"])
    lengths = (start, len(example["chosen_ids"]), len(example["rejected_ids"]))
    middle, end = start + lengths[_CHOSEN], sum(lengths)
    segments = torch.repeat_interleave(
        torch.tensor([_PREFIX, _CHOSEN, _REJECTED]), torch.tensor(lengths)
    )
    predictors = torch.arange(-1, end - 1)
    predictors[middle] = start - 1
    return {
        "input_ids": torch.tensor(
            [*example["prompt_ids"], *example["chosen_ids"], *example["rejected_ids"]]
        ),
        "position_ids": torch.cat(
            [torch.arange(middle), torch.arange(start, end - lengths[_CHOSEN])]
        ),
        "segments": segments,
        "sides": segments
        * torch.tensor([0] * start + list(example["chosen_mask"]) + list(example["rejected_mask"])),
        "predictors": predictors,
    }


def side_means(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """P(chosen|c) and P(rejected|c) of each pair of a collated batch, shape (pairs, 2)."""
    inputs = dict(batch)
    sides, predictors = inputs.pop("sides"), inputs.pop("predictors")
    row, column = sides.nonzero(as_tuple=True)
    # Logits are made only where a trained token is predicted: the prefix may be most of the text.
    positions, place = predictors[row, column].unique(return_inverse=True)  # type: ignore[no-untyped-call]
    logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits
    found = selective_log_softmax(logits[row, place].float(), inputs["input_ids"][row, column])
    where = (row, sides[row, column] - _CHOSEN)
    sums, counts = (
        found.new_zeros(len(sides), 2).index_put(where, values, accumulate=True)
        for values in (found, torch.ones_like(found))
    )
    return sums / counts


class ContrastiveTrainer(Trainer):
    """transformers' Trainer with the loss above; logs both sides' log-probabilities and how often the chosen wins."""

    loss_is_scaled_for_ga = True

    def __init__(self, *, alpha: float, **options: Any) -> None:
        super().__init__(**options)
        self._alpha = alpha
        self._seen: dict[str, list[float]] = defaultdict(list)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """The batches of one step, with the number of their pairs for one process."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        num_pairs = torch.tensor(
            float(sum(len(batch["input_ids"]) for batch in batches)), device=device
        )
        return batches, self.accelerator.reduce(num_pairs, reduction="mean")

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The batch's share of the step's loss; the mean over the batch where no step is under way."""
        chosen, rejected = side_means(model, inputs).unbind(dim=1)
        losses = -logsigmoid(chosen - rejected) - self._alpha * chosen
        self._note(chosen.detach(), rejected.detach(), "" if model.training else "eval_")
        loss = losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, None, None]:
        """Only the loss: there are no labels to compare with."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _note(self, chosen: Tensor, rejected: Tensor, prefix: str) -> None:
        self._seen[f"{prefix}logps/chosen"] += chosen.tolist()
        self._seen[f"{prefix}logps/rejected"] += rejected.tolist()
        self._seen[f"{prefix}pair_accuracy"] += (chosen > rejected).float().tolist()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry of the same kind."""
        is_eval = any(name.startswith("eval_") for name in logs)
        for name in [name for name in self._seen if name.startswith("eval_") is is_eval]:
            values = self._seen.pop(name)
            logs[name] = sum(values) / len(values)
        super().log(logs, start_time)
