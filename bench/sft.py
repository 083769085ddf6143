"""Compare SFT with packed rows to plain TRL with padding, and measure the trainer's own cost.

    python -m bench.sft

Reads the sets and the pre-training text of the default profile (`dvc repro` first); an untrained
student of that profile, one thread, one epoch over the same rows for every way, about as many
tokens in an optimiser's step. Tokens are those of the rows, so padding counts for nothing. The bare
loop is forward, backward and AdamW over the same packed batches: what is missing to it in the
packed trainer's line is the trainer. Target: 1.5 times TRL's default.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback, Trainer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from bench.student import (
    cpu_seconds,
    documents,
    interleaved,
    spread,
    trajectories,
    untrained_student,
)
from coa.student.checkpoint import Student
from coa.student.settings import TrainParams
from train.encode import Example, to_dataset

NUM_ROWS = 96
NUM_REPEATS = 3
PACKED = {"packing": True, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 6}
WAYS: dict[str, dict[str, Any]] = {
    "padded, batches of 16": {"per_device_train_batch_size": 16},
    "padded, 16 of like length": {
        "per_device_train_batch_size": 16,
        "train_sampling_strategy": "sequential",
    },
    "packed, 1 row of 384 a batch": PACKED,
    "packed, 3 rows of 384 a batch": {
        **PACKED,
        "per_device_train_batch_size": 3,
        "gradient_accumulation_steps": 2,
    },
}
"""TRL's arguments; the first is its default, the third the default profile's. The rows are sorted
by length, so the second is the best that `group_by_length` can do, which needs many more rows than
these to come near it."""


def pretraining_examples(student: Student, params: TrainParams) -> Iterable[Example]:
    """Encode documents with every token trained; their masks make no difference to the time."""
    for document in documents(params):
        ids = student.tokenizer("".join(document.texts), add_special_tokens=False)["input_ids"]
        yield Example(input_ids=ids, labels=ids)


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Stopwatch of CPU time from the first step to the last.

    What a trainer does once, before that, would not count in a real run.
    """

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Start."""
        self.seconds = -time.process_time()

    def on_train_end(self, *_: object, **__: object) -> None:
        """Stop."""
        self.seconds += time.process_time()


class OwnLoss(SFTTrainer):  # type: ignore[misc]
    """Trainer without TRL's loss, which also counts entropy and right tokens."""

    compute_loss = Trainer.compute_loss


def make_trainer(
    student: Student,
    rows: Dataset,
    max_tokens: int,
    way: dict[str, Any],
    folder: str,
    kind: Any = SFTTrainer,
) -> Any:
    """Make TRL's trainer over a copy of the student, with our settings and those of the way."""
    arguments: Any = SFTConfig
    settings = {
        "max_length": max_tokens,
        "activation_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        **way,
        "num_train_epochs": 1,
        "logging_steps": 10_000,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
    }
    trainer = kind(
        model=copy.deepcopy(student.model),
        args=arguments(output_dir=folder, **settings),
        train_dataset=rows,
        processing_class=student.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def bare_loop(trainer: Any, batches: list[list[dict[str, Any]]]) -> None:
    """Run the same steps without a trainer."""
    model = trainer.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for step in batches:
        num_trained = sum((batch["labels"] != -100).sum() for batch in step)
        for batch in step:
            model(**batch, num_items_in_batch=num_trained, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def measure(student: Student, rows: Dataset, max_tokens: int, folder: str) -> dict[str, float]:
    """Return the median CPU seconds of an epoch, by way."""

    def epoch(way: dict[str, Any], kind: Any = SFTTrainer) -> Callable[[], float]:
        trainer = make_trainer(student, rows, max_tokens, way, folder, kind)
        watch = Stopwatch()
        trainer.add_callback(watch)

        def run() -> float:
            trainer.train()
            return watch.seconds

        return run

    works = {name: epoch(way) for name, way in WAYS.items()}
    works["packed, the model's own loss"] = epoch(PACKED, OwnLoss)
    packed = make_trainer(student, rows, max_tokens, PACKED, folder)
    batches = list(packed.get_train_dataloader())
    steps = [batches[i : i + 6] for i in range(0, len(batches), 6)]
    works["packed, bare loop"] = lambda: cpu_seconds(lambda: bare_loop(packed, steps))
    return interleaved(works, NUM_REPEATS)


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    disable_progress_bars()
    torch.set_num_threads(1)
    student, params = untrained_student()
    inputs = {
        "trajectories": trajectories(student, params),
        "pre-training text": pretraining_examples(student, params),
    }
    for title, examples in inputs.items():
        chosen = sorted(islice(examples, NUM_ROWS), key=lambda example: len(example["input_ids"]))
        lengths = [len(example["input_ids"]) for example in chosen]
        rows = f"{NUM_ROWS} rows of {title}, {sum(lengths):,} tokens"
        print(f"{rows}; median, ninth decile, longest: {spread(lengths)}")
        with tempfile.TemporaryDirectory() as folder:
            found = measure(student, to_dataset(chosen, Example), params.max_context_tokens, folder)
        default = next(iter(found.values()))
        for name, seconds in found.items():
            print(
                f"  {name:32}{sum(lengths) / seconds:8,.0f} tokens/s{default / seconds:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
