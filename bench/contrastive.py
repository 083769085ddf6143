"""Compare SFT stage 1 with both sides of a pair in one row to a row for each side.

In one row, both sides stand after their common prefix.

    python -m bench.contrastive

Forward and backward over 16 pairs with the default profile's untrained student, one thread: the
pairs of that profile (`dvc repro` first) and made ones, whose sides are 240 tokens with their
prefix. The prefix's share is that of one side's text. Both ways give the same loss, which is
checked. Target: 1.3 times where the prefix is most of the text.
"""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence
from trl.trainer.utils import selective_log_softmax

from bench.student import encoder, untrained_student
from bench.timing import cpu_seconds, interleaved
from coa.records.pairs import PreferencePair
from coa.student.sets import read_split
from train.encode import PairExample
from train.pair_trainer import collate, score_sides

NUM_PAIRS = 16
NUM_REPEATS = 5
MADE_LENGTH = 240
MADE_SHARES = (0.25, 0.5, 0.75, 0.9)


def made_pairs(share: float, vocabulary: int) -> list[PairExample]:
    """Make pairs of random ids whose prefix has this share of a side's text.

    Every token after the prefix is trained.
    """
    generator = torch.Generator().manual_seed(0)
    start = round(share * MADE_LENGTH)

    def ids(length: int) -> list[int]:
        drawn = torch.randint(vocabulary, (length,), generator=generator)
        return drawn.tolist()  # type: ignore[no-any-return]

    rest = MADE_LENGTH - start
    return [
        PairExample(
            prompt_ids=ids(start),
            chosen_ids=ids(rest),
            chosen_mask=[1] * rest,
            rejected_ids=ids(rest),
            rejected_mask=[1] * rest,
        )
        for _ in range(NUM_PAIRS)
    ]


def apart(examples: Sequence[PairExample]) -> dict[str, Tensor]:
    """Make a batch with a row for each side, the prefix in both.

    All chosen sides come first, then all rejected ones.
    """
    sides = [(row["prompt_ids"], row["chosen_ids"], row["chosen_mask"]) for row in examples]
    sides += [(row["prompt_ids"], row["rejected_ids"], row["rejected_mask"]) for row in examples]
    rows: dict[str, list[Tensor]] = {"input_ids": [], "trained": [], "attention_mask": []}
    for prompt, ids, mask in sides:
        rows["input_ids"].append(torch.tensor([*prompt, *ids]))
        rows["trained"].append(torch.tensor([0] * len(prompt) + mask))
        rows["attention_mask"].append(torch.tensor([1] * (len(prompt) + len(ids))))
    return {name: pad_sequence(values, batch_first=True) for name, values in rows.items()}


def means_apart(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Compute the means that `score_sides` gives, with the prefix computed for each side."""
    row, column = batch["trained"].nonzero(as_tuple=True)
    positions, place = (column - 1).unique(return_inverse=True)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs, use_cache=False, logits_to_keep=positions).logits
    found = selective_log_softmax(logits[row, place].float(), batch["input_ids"][row, column])
    sums = found.new_zeros(len(batch["trained"])).index_put((row,), found, accumulate=True)
    return (sums / batch["trained"].sum(dim=1)).view(2, -1).T


def loss(means: Tensor) -> Tensor:
    """Compute the loss of stage 1."""
    chosen, rejected = means.unbind(dim=1)
    return (-logsigmoid(chosen - rejected) - 0.2 * chosen).mean()


def measure(model: Any, examples: Sequence[PairExample], pad_id: int) -> tuple[float, float]:
    """Return the median CPU seconds of a step: each side by itself, both in one row."""
    together = collate(examples, pad_id)
    alone = apart(examples)
    with torch.no_grad():
        torch.testing.assert_close(
            score_sides(model, together).means, means_apart(model, alone), atol=1e-4, rtol=1e-4
        )
    works = {
        "apart": lambda: cpu_seconds(lambda: loss(means_apart(model, alone)).backward()),
        "together": lambda: cpu_seconds(
            lambda: loss(score_sides(model, together).means).backward()
        ),
    }
    found = interleaved(works, NUM_REPEATS)
    return found["apart"], found["together"]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    student, params = untrained_student()
    encode = encoder(student, params)
    rows = read_split(params.sft1.pairs, "train", PreferencePair)
    encoded = (encode.pair(row) for row in rows)
    usable = (example for example in encoded if example)
    sets = {"default profile": list(islice(usable, NUM_PAIRS))}
    for share in MADE_SHARES:
        sets[f"made, {share:.0%}"] = made_pairs(share, len(student.tokenizer))
    tokens = f"{'prefix share':>13}{'tokens apart':>14}{'in one row':>12}"
    print(f"{'pairs':18}{tokens}{'s apart':>9}{'s':>7}{'ratio':>7}")
    step = partial(measure, student.model.train(), pad_id=student.tokenizer.pad_token_id)
    for name, examples in sets.items():
        shared = sum(2 * len(row["prompt_ids"]) for row in examples)
        total = shared + sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in examples)
        alone, together = step(examples)
        print(
            f"{name:18}{shared / total:13.0%}{total:14,}{total - shared // 2:12,}"
            f"{alone:9.2f}{together:7.2f}{alone / together:7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
