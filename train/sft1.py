"""Train SFT stage 1, when to act: a contrastive loss on pairs (AutoCoA, section 3).

The sides of a pair share a prefix and part at one point.

    P(x|c) = mean of log pi over the policy's own tokens of x, after the shared prefix c
    L      = -log sigma(P(chosen|c) - P(rejected|c)) - alpha P(chosen|c)

Both sides of a pair are in one row after their prefix, which is computed once; neither side sees
the other. The loss is a mean over the pairs of an optimiser's step, however these are split into
batches.
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
from train.encode import Encoder, PairExample, to_dataset
from train.fitting import fit
from train.monitors import Monitor
from train.sets import read_split
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
    run.report.note_rows(encoder.rows, len(splits["train"]))
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
    """Put each pair into one row: prefix, chosen side, rejected side.

    The positions of both sides count on from the prefix. `sides` says which tokens are trained, and
    as which side's; `predictors` at which position each token is predicted.
    """
    rows = [_row(example) for example in examples]
    paddings = {
        "input_ids": pad_id,
        "position_ids": 0,
        "segments": _PADDING,
        "sides": 0,
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
    return {**batch, "attention_mask": is_seen.tril()[:, None]}


def _row(example: PairExample) -> dict[str, Tensor]:
    """Lay out one pair: where each segment begins, and what predicts its tokens."""
    num_chosen = len(example["chosen_ids"])
    num_rejected = len(example["rejected_ids"])
    start = len(example["prompt_ids"])  # of the chosen side
    middle = start + num_chosen  # of the rejected side
    end = middle + num_rejected

    ids = [*example["prompt_ids"], *example["chosen_ids"], *example["rejected_ids"]]
    is_trained = [*([0] * start), *example["chosen_mask"], *example["rejected_mask"]]
    segments = torch.repeat_interleave(
        torch.tensor([_PREFIX, _CHOSEN, _REJECTED]),
        torch.tensor((start, num_chosen, num_rejected)),
    )
    positions = torch.cat([torch.arange(middle), torch.arange(start, start + num_rejected)])
    # Each token is predicted at the one before it; the rejected side's first at the prefix's end.
    predictors = torch.arange(-1, end - 1)
    predictors[middle] = start - 1
    return {
        "input_ids": torch.tensor(ids),
        "position_ids": positions,
        "segments": segments,
        "sides": segments * torch.tensor(is_trained),
        "predictors": predictors,
    }


def side_means(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Compute P(chosen|c) and P(rejected|c) of each pair of a collated batch, shape (pairs, 2)."""
    inputs = dict(batch)
    sides = inputs.pop("sides")
    predictors = inputs.pop("predictors")
    row, column = sides.nonzero(as_tuple=True)
    # Logits are made only where a trained token is predicted: the prefix may be most of the text.
    used: Any = predictors[row, column]
    positions, place = used.unique(return_inverse=True)
    logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits
    found = selective_log_softmax(logits[row, place].float(), inputs["input_ids"][row, column])
    where = (row, sides[row, column] - _CHOSEN)
    zeros = found.new_zeros(len(sides), 2)
    sums = zeros.index_put(where, found, accumulate=True)
    counts = zeros.index_put(where, torch.ones_like(found), accumulate=True)
    return sums / counts


class ContrastiveTrainer(Trainer):
    """transformers' Trainer with the loss above.

    It logs both sides' log-probabilities and how often the chosen one wins.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *, alpha: float, **options: Any) -> None:
        super().__init__(**options)
        self._alpha = alpha
        self._seen: dict[str, list[float]] = defaultdict(list)

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: Any
    ) -> tuple[list[Any], Any]:
        """Return the batches of one step, with the number of their pairs for one process."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        num_pairs = sum(len(batch["input_ids"]) for batch in batches)
        of_this_process = torch.tensor(float(num_pairs), device=device)
        return batches, self.accelerator.reduce(of_this_process, reduction="mean")

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
        chosen, rejected = side_means(model, inputs).unbind(dim=1)
        losses = -logsigmoid(chosen - rejected) - self._alpha * chosen
        self._note(chosen.detach(), rejected.detach(), "" if model.training else "eval_")
        num_pairs = len(losses) if num_items_in_batch is None else num_items_in_batch
        loss = losses.sum() / num_pairs
        return (loss, {}) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, None, None]:
        """Compute only the loss: there are no labels to compare with."""
        with torch.no_grad(), self.compute_loss_context_manager():
            return self.compute_loss(model, self._prepare_inputs(inputs)).detach(), None, None

    def _note(self, chosen: Tensor, rejected: Tensor, prefix: str) -> None:
        self._seen[f"{prefix}logps/chosen"] += chosen.tolist()
        self._seen[f"{prefix}logps/rejected"] += rejected.tolist()
        self._seen[f"{prefix}pair_accuracy"] += (chosen > rejected).float().tolist()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means since the last entry of the same kind."""
        is_eval = any(name.startswith("eval_") for name in logs)
        names = [name for name in self._seen if name.startswith("eval_") is is_eval]
        for name in names:
            values = self._seen.pop(name)
            logs[name] = sum(values) / len(values)
        super().log(logs, start_time)
