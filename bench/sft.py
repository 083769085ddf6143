"""Compare a step of SFT stages 2 and 3 with TRL's own and with a bare loop of transformers.

    python -m bench.sft                    # bfloat16; python -m bench.sft float32 without

Two rows of 1,024 packed tokens a step, for a random model with the sizes and the vocabulary of
SmolLM2-135M. In stage 2 a third of the tokens is trained here: the rest is observations and
prompts. The bare loop is forward, backward and AdamW over the same rows, with all logits. Speed
does not depend on the weights, and the ways take turns, so ratios hold on a busy machine. Target:
as fast as the bare loop.
"""

import copy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from transformers import LlamaConfig, LlamaForCausalLM, PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from coa.student.checkpoint import Student
from coa.student.small import StudentSettings, new_student
from train.encode import IGNORED, Example, to_dataset
from train.likelihood_trainer import LikelihoodTrainer

NUM_STEPS = 1
NUM_REPEATS = 2
ROWS_A_STEP = 2
ROW_TOKENS = 1024
SEQUENCE_TOKENS = 256
STAGES = {"sft2, a third is trained": 3, "sft3, all is trained": 1}
"""Of how many tokens one is trained."""


def make_student() -> Student:
    """Make a random model of the sizes of SmolLM2-135M, with any small tokenizer."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    tokenizer = new_student(["a few words"], StudentSettings(), seed=0).tokenizer
    return Student(LlamaForCausalLM(config), tokenizer)


def make_rows(every: int) -> Dataset:
    """Make rows of random ids, of which one in `every` is trained."""
    generator = torch.Generator().manual_seed(0)
    num_rows = NUM_STEPS * ROWS_A_STEP * ROW_TOKENS // SEQUENCE_TOKENS

    def examples() -> Iterator[Example]:
        for _ in range(num_rows):
            ids = torch.randint(3, 40_000, (SEQUENCE_TOKENS,), generator=generator).tolist()
            labels = [token if place % every == 0 else IGNORED for place, token in enumerate(ids)]
            yield Example(input_ids=ids, labels=labels)

    return to_dataset(examples(), Example)


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Stopwatch of CPU time from the first step to the last."""

    def on_train_begin(self, *_: object, **__: object) -> None:
        """Start."""
        self.seconds = -time.process_time()

    def on_train_end(self, *_: object, **__: object) -> None:
        """Stop."""
        self.seconds += time.process_time()


def with_trainer(
    kind: Any, student: Student, rows: Dataset, folder: str, *, bf16: bool
) -> Callable[[], float]:
    """Return what trains once over the rows with a trainer, and gives its CPU seconds."""
    arguments: Any = SFTConfig
    trainer = kind(
        model=copy.deepcopy(student.model),
        args=arguments(
            output_dir=folder,
            packing=True,
            max_length=ROW_TOKENS,
            per_device_train_batch_size=ROWS_A_STEP,
            num_train_epochs=1,
            activation_checkpointing=False,
            bf16=bf16,
            use_cpu=True,
            logging_steps=10_000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        processing_class=student.tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    watch = Stopwatch()
    trainer.add_callback(watch)

    def run() -> float:
        trainer.train()
        return watch.seconds

    return run


def bare_loop(student: Student, rows: Dataset, *, bf16: bool) -> Callable[[], float]:
    """Return what trains once over the rows without a trainer, and gives its CPU seconds."""
    model = copy.deepcopy(student.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
    shape = (NUM_STEPS, ROWS_A_STEP, ROW_TOKENS)
    ids = torch.tensor(list(rows["input_ids"])).view(shape)
    labels = torch.tensor(list(rows["labels"])).view(shape)
    positions = torch.arange(ROW_TOKENS) % SEQUENCE_TOKENS

    def run() -> float:
        started = time.process_time()
        for step in range(NUM_STEPS):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                output = model(
                    input_ids=ids[step],
                    labels=labels[step],
                    position_ids=positions.expand(ROWS_A_STEP, -1),
                    use_cache=False,
                )
            output.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.process_time() - started

    return run


def take_turns(works: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """Return the median seconds of each work; they take turns, so all meet the same load."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(NUM_REPEATS):
        for name, work in works.items():
            found[name].append(work())
    return {name: statistics.median(values) for name, values in found.items()}


def main(arguments: Sequence[str]) -> None:
    """Print a table for each stage."""
    warnings.simplefilter("ignore")
    disable_progress_bars()
    bf16 = "float32" not in arguments
    student = make_student()
    num_tokens = NUM_STEPS * ROWS_A_STEP * ROW_TOKENS
    for title, every in STAGES.items():
        rows = make_rows(every)
        with tempfile.TemporaryDirectory() as folder:
            works = {
                "TRL": with_trainer(SFTTrainer, student, rows, folder, bf16=bf16),
                "ours": with_trainer(LikelihoodTrainer, student, rows, folder, bf16=bf16),
                "bare loop": bare_loop(student, rows, bf16=bf16),
            }
            found = take_turns(works)
        print(f"{title}, {'bfloat16' if bf16 else 'float32'}")
        for name, seconds in found.items():
            ratio = found["bare loop"] / seconds
            print(f"  {name:10}{num_tokens / seconds:8,.0f} tokens a CPU second{ratio:7.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
