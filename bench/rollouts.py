"""Measure tokens a second of rollouts with a model in this process.

Rollouts run one by one, and in batches that keep or drop finished rows.

    python -m bench.rollouts

Requests are the policy's turns of the default profile's trajectories (`dvc repro` first): each
turn's context, and as many tokens as the turn has, so the lengths are spread as those of a trained
policy. An untrained student of that profile, one thread. Target: batches of 64 or more well above
one by one.
"""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import torch

from bench.student import cpu_seconds, interleaved, spread, trajectories, untrained_student
from coa import protocol
from coa.policy import Request
from coa.policy.local import LocalPolicy
from train.checkpoint import Student
from train.encode import IGNORED, Example

NUM_REPEATS = 3
SIZES = (64, 128)
NUM_ALONE = 8
STOP = (protocol.close_tag("search"),)


class KeepingPolicy(LocalPolicy):
    """Policy that carries every row to the end of its batch."""

    _can_drop_rows = False


def turns(examples: Iterable[Example]) -> Iterator[Request]:
    """Make a request for every turn that the policy wrote."""
    for example in examples:
        ids = example["input_ids"]
        is_own = [label != IGNORED for label in example["labels"]]
        starts = [i for i in range(1, len(ids)) if is_own[i] and not is_own[i - 1]]
        for start in starts:
            length = (*is_own, False).index(False, start) - start
            yield Request("", STOP, length, 0.7, 1.0, seed=start, context_ids=tuple(ids[:start]))


def measure(student: Student, requests: Sequence[Request], size: int) -> dict[str, float]:
    """Return tokens a CPU second, by way."""
    some = requests[:: size // NUM_ALONE]
    ways = {
        "one by one": (LocalPolicy, 1, some),
        "rows kept": (KeepingPolicy, size, requests),
        "rows dropped": (LocalPolicy, size, requests),
    }
    num_tokens: dict[str, int] = {}
    works: dict[str, Callable[[], float]] = {}
    for name, (kind, width, given) in ways.items():
        policy = kind(student.model, student.tokenizer, name="student", batch_size=width)
        num_tokens[name] = sum(item.num_tokens for item in policy.complete_batch(given))
        works[name] = partial(cpu_seconds, partial(policy.complete_batch, given))
    assert num_tokens["rows kept"] == num_tokens["rows dropped"]
    medians = interleaved(works, NUM_REPEATS)
    return {name: num_tokens[name] / seconds for name, seconds in medians.items()}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    student, params = untrained_student()
    student.model.eval()
    requests = list(islice(turns(trajectories(student, params)), max(SIZES)))
    lengths = [request.max_tokens for request in requests]
    mean = statistics.mean(lengths)
    print(f"tokens a turn: mean {mean:.0f}; median, ninth decile, longest: {spread(lengths)}")
    speeds = f"{'one by one':>12}{'rows kept':>11}{'rows dropped':>14}"
    print(f"{'rows':>5}{speeds}{'/ one by one':>14}{'/ kept':>8}")
    for size in SIZES:
        alone, kept, dropped = measure(student, requests[:size], size).values()
        print(
            f"{size:5}{alone:12,.0f}{kept:11,.0f}{dropped:14,.0f}"
            f"{dropped / alone:14.1f}{dropped / kept:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
