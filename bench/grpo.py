"""Compare a step of GRPO over rows of like length with the same rows as TRL divides and pads them.

    python -m bench.grpo

Forward and backward over 128 rollouts in four micro-batches, as the default profile has them, with
an untrained student of that profile, one thread. The rollouts are the profile's trajectories (`dvc
repro` first), and the same with one in sixteen that goes on to the context's end, as some of a
student do. All ways have the same gradient, which is checked.
"""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.utils import selective_log_softmax

from bench.student import trajectories, untrained_student
from bench.timing import cpu_seconds, interleaved, spread
from train.encode import IGNORED, Example
from train.grpo import by_length, unpadded

NUM_ROWS = 128
NUM_MICRO_BATCHES = 4
NUM_REPEATS = 5
RAMBLING = 16
"""One rollout in so many goes on to the end."""

Batch = dict[str, Tensor]


def rambled(rows: Sequence[Example], length: int) -> list[Example]:
    """Repeat some of the rows up to a length; what is added is trained."""

    def longer(row: Example) -> Example:
        ids = (row["input_ids"] * length)[:length]
        return Example(input_ids=ids, labels=(row["labels"] + ids[len(row["labels"]) :])[:length])

    return [longer(row) if i % RAMBLING == 0 else row for i, row in enumerate(rows)]


def as_trl(rows: Sequence[Example]) -> list[Batch]:
    """Make micro-batches padded to the longest of all rows.

    Prompts are padded on their left, completions on their right.
    """
    prompts = []
    completions = []
    own = []
    for row in rows:
        is_own = torch.tensor(row["labels"]) != IGNORED
        start = int(is_own.nonzero()[0])
        prompts.append(torch.tensor(row["input_ids"][:start]).flip(0))
        completions.append(torch.tensor(row["input_ids"][start:]))
        own.append(is_own[start:])

    def padded(values: Sequence[Tensor]) -> Tensor:
        return pad_sequence(list(values), batch_first=True)

    columns = {
        "prompt_ids": padded(prompts).flip(1),
        "prompt_mask": padded([torch.ones_like(ids) for ids in prompts]).flip(1),
        "completion_ids": padded(completions),
        "completion_mask": padded([torch.ones_like(ids) for ids in completions]),
        "tool_mask": padded(own),
    }
    parts = [values.chunk(NUM_MICRO_BATCHES) for values in columns.values()]
    return [dict(zip(columns, values, strict=True)) for values in zip(*parts, strict=True)]


def step(model: Any, batches: Sequence[Batch]) -> None:
    """Compute the gradient of the loss.

    It is the mean over the rows of the mean log-probability of a row's own tokens.
    """
    model.zero_grad()
    for batch in batches:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
        length = batch["completion_ids"].shape[1]
        logits = model(
            input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=length + 1
        ).logits
        found = selective_log_softmax(logits[:, :-1], batch["completion_ids"])
        own = batch["tool_mask"]
        (-((found * own).sum(1) / own.sum(1)).mean() / len(batches)).backward()


def measure(model: Any, rows: Sequence[Example]) -> dict[str, float]:
    """Return the median CPU seconds of a step, by way."""
    drawn = as_trl(rows)
    ways = {
        "as long as the longest of all (TRL)": drawn,
        "as long as its own longest": [unpadded(batch) for batch in drawn],
        "rows of like length": [unpadded(batch) for batch in by_length(drawn, len(drawn))],
    }
    gradients = []
    for batches in ways.values():
        step(model, batches)
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for other in gradients[1:]:
        torch.testing.assert_close(gradients[0], other, atol=1e-5, rtol=1e-3)

    def timed(batches: Sequence[Batch]) -> Callable[[], float]:
        return lambda: cpu_seconds(lambda: step(model, batches))

    return interleaved({name: timed(batches) for name, batches in ways.items()}, NUM_REPEATS)


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    student, params = untrained_student()
    rows = list(islice(trajectories(student, params), NUM_ROWS))
    sets = {
        "trajectories": rows,
        f"one in {RAMBLING} rambling": rambled(rows, params.max_context_tokens),
    }
    for title, examples in sets.items():
        lengths = [len(row["input_ids"]) for row in examples]
        print(f"{title}: {NUM_ROWS} rows; median, ninth decile, longest: {spread(lengths)} tokens")
        found = measure(student.model.train(), examples)
        longest = next(iter(found.values()))
        for name, seconds in found.items():
            print(f"  {name:38}{seconds:7.2f} s{longest / seconds:7.2f}", flush=True)


if __name__ == "__main__":
    main()
